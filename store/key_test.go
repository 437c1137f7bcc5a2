package store_test

import (
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store"
)

var keys = map[string]bool{
	"a":                             true,
	"a/b/c":                         true,
	"tags/library/debian/bookworm":  true,
	"sha256:0123/x":                 true,
	"...":                           true,
	".a":                            true,
	"a..b":                          true,
	"é":                             true,
	"\xff":                          true, // bytes, not text
	strings.Repeat("x", 255):        true,
	strings.Repeat("x/", 500) + "x": true,
	"":                              false,
	"/":                             false,
	"/a":                            false,
	"a/":                            false,
	"a//b":                          false,
	".":                             false,
	"..":                            false,
	"a/./b":                         false,
	"a/../b":                        false,
	"a b":                           false,
	"a\tb":                          false,
	"a\x00":                         false,
	"a\nb":                          false,
	"a\x7f":                         false,
	`a\b`:                           false,
	"a%2fb":                         false,
	strings.Repeat("x", 256):        false,
	"a/" + strings.Repeat("x", 256): false,
}

func TestValidKey(t *testing.T) {
	for key, want := range keys {
		if store.ValidKey(key) != want {
			t.Errorf("ValidKey(%q) = %v, want %v", key, !want, want)
		}
	}
}

// A valid key is one and the same path however it is cleaned, below any
// directory, and its parts and its continuations are valid too.
func FuzzValidKey(f *testing.F) {
	for key := range keys {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if !store.ValidKey(key) {
			return
		}
		if path.Clean(key) != key || !filepath.IsLocal(key) || path.Join("dir", key) != "dir/"+key {
			t.Errorf("%q is valid, and cleaned it is %q", key, path.Clean(key))
		}
		if strings.ContainsAny(key, "\x00\r\n\t \\%\x7f") {
			t.Errorf("%q is valid", key)
		}
		for part := range strings.SplitSeq(key, "/") {
			if !store.ValidKey(part) || len(part) > 255 {
				t.Errorf("%q is valid, but not its part %q", key, part)
			}
		}
		if !store.ValidKey(key + "/x") {
			t.Errorf("%q is valid, but not with a part more", key)
		}
	})
}
