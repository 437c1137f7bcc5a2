package evict

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestParseUses(t *testing.T) {
	a, b := digest.FromString("a"), digest.SHA512.FromString("b")
	text := use{a, 17, 0}.append(nil)
	text = append(text, "what is this\n\nsha256:short 1 2\n"+string(a)+" -1 0\n"+string(a)+" 1 4294967296\n"...)
	text = use{b, 9223372036854775807, 3}.append(text)
	text = append(text, string(a)+" 5"...) // cut
	var got []use
	parseUses(text, func(u use) { got = append(got, u) })
	if len(got) != 2 || got[0] != (use{a, 17, 0}) || got[1] != (use{b, 9223372036854775807, 3}) {
		t.Errorf("%+v", got)
	}
}

// What was written reads back; what was not is no panic, and no digest that is none.
func FuzzParseUses(f *testing.F) {
	f.Add(use{digest.FromString("a"), 17, 3}.append(nil))
	f.Add([]byte("sha256:0 1 2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got []use
		parseUses(text, func(u use) {
			if u.digest.Validate() != nil {
				t.Errorf("%q is no digest", u.digest)
			}
			got = append(got, u)
		})
		var again []byte
		for _, u := range got {
			again = u.append(again)
		}
		n := 0
		parseUses(again, func(u use) {
			if u != got[n] {
				t.Errorf("%+v reads back as %+v", got[n], u)
			}
			n++
		})
		if n != len(got) {
			t.Errorf("%d of %d lines read back", n, len(got))
		}
	})
}

// The digests of a table are those that it was given, whatever their algorithm.
func TestKeys(t *testing.T) {
	tab := newTable()
	for _, d := range []digest.Digest{digest.FromString("a"), digest.SHA512.FromString("a")} {
		tab.add(d, 1, 0, false)
		if got := tab.digest(keyOf(d)); got != d {
			t.Errorf("%s became %s", d, got)
		}
		tab.remove(keyOf(d))
	}
	if _, ok := tab.find(keyOf(digest.FromString("a"))); ok || len(tab.long)+len(tab.names) != 0 || tab.bytes != 0 || tab.newest != 0 || tab.oldest != 0 {
		t.Errorf("something is left: %+v", tab)
	}
}
