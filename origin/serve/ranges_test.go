package serve_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

func TestParseRange(t *testing.T) {
	none := store.Range{Len: -1}
	for in, want := range map[string]store.Range{
		"bytes=0-0":            {Off: 0, Len: 1},
		"bytes=0-":             {},
		"bytes=5-9":            {Off: 5, Len: 5},
		"bytes=5-":             {Off: 5},
		"bytes=-5":             {Off: -5},
		"Bytes = 5 - 9 ":       {Off: 5, Len: 5},
		"bytes=007-9":          {Off: 7, Len: 3},
		"bytes=9-5":            none,
		"bytes=-0":             none,
		"bytes=0-" + nines:     {Off: 0, Len: 1e18},
		"bytes=" + nines + "-": {Off: 1e18 - 1},
	} {
		if got, ok := serve.ParseRange(in); got != want || !ok {
			t.Errorf("%q: %+v, %t; want %+v", in, got, ok, want)
		}
	}
	for _, in := range []string{
		"", "bytes", "bytes=", "bytes=-", "bytes=5", "bytes 5-9", "octets=5-9", "bytes=a-b", "bytes=5-b", "bytes=+5-9", "bytes=0x5-9",
		"bytes=5-9,11-12", "bytes=--5", "bytes=5--9", "bytes=1e3-", "bytes=" + nines + "9-", "bytes=-" + nines + "9", "bytes=٥-٩",
	} {
		if got, ok := serve.ParseRange(in); ok {
			t.Errorf("%q is taken for %+v", in, got)
		}
	}
}

const nines = "999999999999999999"

func TestParseContentRange(t *testing.T) {
	for in, want := range map[string][2]int64{
		"0-99":            {0, 100},
		" 100-100 ":       {100, 1},
		"bytes 0-99/100":  {0, 100},
		"bytes 0-99/*":    {0, 100},
		"Bytes 50-99/200": {50, 50},
		"bytes 0-99":      {0, 100},
	} {
		if off, n, ok := serve.ParseContentRange(in); !ok || off != want[0] || n != want[1] {
			t.Errorf("%q: %d, %d, %t; want %v", in, off, n, ok, want)
		}
	}
	for _, in := range []string{
		"", "0", "-", "0-", "-5", "5-4", "bytes=0-99", "chunks 0-99", "0-99/99", "bytes 0-99/x", "bytes */100", "0-99/", "0--99", "0-" + nines + "9",
	} {
		if off, n, ok := serve.ParseContentRange(in); ok {
			t.Errorf("%q is taken for %d bytes at %d", in, n, off)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-99", "bytes=5-", "bytes=-5", "bytes=9-5", "bytes=0-1,2-3", "bytes=" + nines + "-" + nines, "items=1-2", "bytes = 1 - 2"} {
		f.Add(s, int64(100))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		r, ok := serve.ParseRange(s)
		if !ok {
			if r != (store.Range{}) {
				t.Fatalf("%q: %+v, though it is none", s, r)
			}
			return
		}
		if size = max(0, size); size == math.MaxInt64 {
			size--
		}
		off, n, err := r.Resolve(size)
		if err != nil {
			return
		}
		if off < 0 || n < 0 || off+n < off || off+n > size {
			t.Fatalf("%q of %d bytes: %d bytes at %d", s, size, n, off)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"0-99", "bytes 0-99/*", "bytes 0-99/100", "5-4", nines + "-" + nines, "bytes */5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		off, n, ok := serve.ParseContentRange(s)
		if !ok {
			return
		}
		if off < 0 || n < 1 || off+n < off {
			t.Fatalf("%q: %d bytes at %d", s, n, off)
		}
		if again, m, ok := serve.ParseContentRange(fmt.Sprintf("%d-%d", off, off+n-1)); !ok || again != off || m != n {
			t.Fatalf("%q: %d bytes at %d, written again %d at %d", s, n, off, m, again)
		}
	})
}

// TestRangeOfUnknownSize: what an upstream did not say is not made up.
func TestRangeOfUnknownSize(t *testing.T) {
	const content = "0123456789"
	d := digest.FromString(content)
	for _, c := range []struct {
		name        string
		asked       string
		off, length int64 // of what the registry opens; its size is unknown
		status      int
		header      string
		body        string
		opened      int
	}{
		{"the whole", "", 0, -1, 200, "", content, 1},
		{"the whole, as a range", "bytes=0-", 0, -1, 200, "", content, 1},
		{"a part that is known", "bytes=2-4", 2, 3, 206, "bytes 2-4/*", "234", 1},
		{"a part whose end is not known", "bytes=5-", 5, -1, 200, "", content, 2},
	} {
		closed, opened := 0, 0
		h := serve.New(fake{blob: blobs(func(r store.Range) (origin.Blob, error) {
			opened++
			off, length := c.off, c.length
			if r.Whole() {
				off, length = 0, -1
			}
			end := int64(len(content))
			if length >= 0 {
				end = off + length
			}
			b := origin.Blob{Offset: off, Length: length, Body: body{strings.NewReader(content[off:end]), &closed}}
			b.Descriptor.Descriptor = v1.Descriptor{Digest: d, Size: -1}
			return b, nil
		})}, serve.Options{})
		var headers []string
		if c.asked != "" {
			headers = []string{"Range", c.asked}
		}
		w := get(t, h, "GET", "/v2/app/blobs/"+string(d), "", headers...)
		if w.Code != c.status || w.Header().Get("Content-Range") != c.header || w.Body.String() != c.body {
			t.Errorf("%s: %d %q %q", c.name, w.Code, w.Header().Get("Content-Range"), w.Body)
		}
		if length := w.Header().Get("Content-Length"); (length != "") != (c.status == http.StatusPartialContent) {
			t.Errorf("%s: Content-Length %q", c.name, length)
		}
		if opened != c.opened || closed != opened {
			t.Errorf("%s: opened %d times, closed %d times", c.name, opened, closed)
		}
	}
}
