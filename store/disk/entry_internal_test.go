package disk

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// sample is a log of four entries.
func sample(log uint64) (b []byte, ends []int) {
	for _, e := range []entry{
		{key: "a", file: []byte("value")},
		{key: "a/b/c", gone: true},
		{key: strings.Repeat("k", 200), file: nil},
		{key: "z", file: bytes.Repeat([]byte{0}, 300)},
	} {
		b = appendEntry(b, log, e)
		ends = append(ends, len(b))
	}
	return b, ends
}

func count(t *testing.T, log uint64, b []byte) int {
	t.Helper()
	n := 0
	for _, err := range entries(log, b) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A log that is cut, or has a byte that is another, has the entries before that.
func TestEntriesBeforeATear(t *testing.T) {
	b, ends := sample(7)
	for at := range len(b) {
		whole := 0
		for whole < len(ends) && ends[whole] <= at {
			whole++
		}
		if got := count(t, 7, b[:at]); got != whole {
			t.Errorf("cut at %d: %d entries, want %d", at, got, whole)
		}
		torn := bytes.Clone(b)
		torn[at] ^= 0x10
		if got := count(t, 7, torn); got != whole {
			t.Errorf("byte %d is another: %d entries, want %d", at, got, whole)
		}
	}
	if got := count(t, 7, append(slices.Clone(b), make([]byte, 5000)...)); got != len(ends) {
		t.Errorf("zeros behind: %d entries, want %d", got, len(ends))
	}
	if got := count(t, 8, b); got != 0 {
		t.Errorf("of another log: %d entries", got)
	}
}

// What this program never writes, and is whole, is an error and not skipped.
func TestUnknownEntries(t *testing.T) {
	for name, e := range map[string]entry{
		"a key that is none": {key: "../a"},
		"gone, with a file":  {key: "a", gone: true, file: []byte("x")},
	} {
		var last error
		for _, err := range entries(1, appendEntry(nil, 1, e)) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Whatever a log holds, its entries written anew are what it begins with.
func FuzzLog(f *testing.F) {
	b, _ := sample(1)
	f.Add(uint64(1), b)
	f.Add(uint64(2), b)
	f.Add(uint64(1), b[:40])
	f.Add(uint64(0), []byte{})
	f.Add(uint64(1), make([]byte, 64))
	f.Add(uint64(1), appendEntry(nil, 1, entry{key: "../a"}))
	f.Fuzz(func(t *testing.T, log uint64, b []byte) {
		var again []byte
		for e, err := range entries(log, b) {
			if err != nil {
				return
			}
			again = appendEntry(again, log, e)
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("the entries of %x are those of %x", b, again)
		}
	})
}
