package config

import (
	"net/url"
	"strings"
	"testing"
)

// A realm host that is taken is the host of a URL, the whole of it.
func FuzzRealmHost(f *testing.F) {
	for _, s := range []string{"auth.corp", "auth.corp:8443", "[::1]:5000", "127.0.0.1", "a@b", "a/b", "a?b", "[::1", "a:b", "", "a:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !validRealmHost(s) {
			return
		}
		u, err := url.Parse("https://" + s)
		if err != nil || u.Host != s || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Hostname() == "" || s != strings.ToLower(s) {
			t.Errorf("%q: %+v, %v", s, u, err)
		}
	})
}
