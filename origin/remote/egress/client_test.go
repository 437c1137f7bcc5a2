package egress

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
)

// A proxy dials for us, so that what a host looks like is all there is to decide
// by; the endpoint's own connections are never the guarded ones.
func TestVia(t *testing.T) {
	e := New(Options{URL: &url.URL{Scheme: "https", Host: "registry.example"}})
	direct, proxied := (*url.URL)(nil), &url.URL{Scheme: "http", Host: "10.0.0.1:3128"}
	w := e.ways()
	tests := []struct {
		to    string
		proxy *url.URL
		want  lines // none = refused
	}{
		{"https://registry.example/v2/", direct, w.own},
		{"https://REGISTRY.example:443/v2/", proxied, w.own},
		{"https://registry.example:444/", direct, w.foreign},
		{"http://registry.example/", direct, w.foreign},
		{"https://cdn.example/", direct, w.foreign},
		{"https://cdn.example/", proxied, w.relayed},
		{"https://10.0.0.1/", direct, lines{}},
		{"https://10.0.0.1/", proxied, lines{}},
		{"https://2130706433/", proxied, lines{}},
		{"https://[::ffff:169.254.169.254]/", proxied, lines{}},
	}
	for _, test := range tests {
		u, err := url.Parse(test.to)
		if err != nil {
			t.Fatal(err)
		}
		e.proxy = func(*http.Request) (*url.URL, error) { return test.proxy, nil }
		got, err := e.via(&http.Request{URL: u})
		if got != test.want || (err == nil) != (test.want != lines{}) || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%s, proxy %v: %+v, %v", test.to, test.proxy, got, err)
		}
	}
}
