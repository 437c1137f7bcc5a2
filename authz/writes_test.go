package authz

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestWrites(t *testing.T) {
	type header = map[string]string
	for name, x := range map[string]struct {
		open         bool
		method       string
		remote, host string
		header       header
		want         error
	}{
		"read from anywhere":        {false, "GET", "192.0.2.1:9", "weir.corp", nil, nil},
		"head from anywhere":        {false, "HEAD", "192.0.2.1:9", "weir.corp", nil, nil},
		"push from this machine":    {true, "PUT", "127.0.0.1:9", "127.0.0.1:5000", nil, nil},
		"by name":                   {true, "POST", "127.0.0.1:9", "localhost:5000", nil, nil},
		"over IPv6":                 {true, "PATCH", "[::1]:9", "[::1]:5000", nil, nil},
		"mapped":                    {true, "PUT", "[::ffff:127.0.0.1]:9", "127.0.0.1", nil, nil},
		"delete too":                {true, "DELETE", "127.0.0.1:9", "127.0.0.1:5000", nil, nil},
		"another machine":           {true, "PUT", "192.0.2.1:9", "127.0.0.1:5000", nil, ErrNotLocal},
		"open to others":            {false, "PUT", "127.0.0.1:9", "127.0.0.1:5000", nil, ErrNotLocal},
		"rebound name":              {true, "PUT", "127.0.0.1:9", "evil.example:5000", nil, ErrNotLocal},
		"name that ends alike":      {true, "PUT", "127.0.0.1:9", "127.0.0.1.evil.example", nil, ErrNotLocal},
		"no host":                   {true, "PUT", "127.0.0.1:9", "", nil, ErrNotLocal},
		"unknown method":            {true, "BREW", "192.0.2.1:9", "127.0.0.1", nil, ErrNotLocal},
		"proxy on this machine":     {true, "PUT", "127.0.0.1:9", "127.0.0.1:5000", header{"X-Forwarded-For": "127.0.0.1"}, ErrNotLocal},
		"proxy, standard":           {true, "PUT", "127.0.0.1:9", "127.0.0.1:5000", header{"Forwarded": "for=127.0.0.1"}, ErrNotLocal},
		"proxy, via":                {true, "PUT", "127.0.0.1:9", "127.0.0.1:5000", header{"Via": "1.1 x"}, ErrNotLocal},
		"page of another site":      {true, "PUT", "127.0.0.1:9", "127.0.0.1:5000", header{"Sec-Fetch-Site": "cross-site"}, ErrCrossSite},
		"page, old browser":         {true, "POST", "127.0.0.1:9", "127.0.0.1:5000", header{"Origin": "https://evil.example"}, ErrCrossSite},
		"page of another port":      {true, "POST", "127.0.0.1:9", "127.0.0.1:5000", header{"Origin": "http://127.0.0.1:8080"}, ErrCrossSite},
		"own page":                  {true, "POST", "127.0.0.1:9", "127.0.0.1:5000", header{"Origin": "http://127.0.0.1:5000"}, nil},
		"cross-site navigation":     {true, "GET", "127.0.0.1:9", "127.0.0.1:5000", header{"Sec-Fetch-Site": "cross-site"}, nil},
		"no address, no unix":       {true, "PUT", "@", "127.0.0.1:5000", nil, ErrNotLocal},
		"real ip header of a proxy": {true, "PUT", "127.0.0.1:9", "127.0.0.1:5000", header{"X-Real-IP": "127.0.0.1"}, ErrNotLocal},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(x.method, "/v2/a/blobs/uploads/", nil)
			r.RemoteAddr, r.Host = x.remote, x.host
			for k, v := range x.header {
				r.Header.Set(k, v)
			}
			if err := NewWrites(x.open).Check(r); !errors.Is(err, x.want) || (err == nil) != (x.want == nil) {
				t.Errorf("got %v, want %v", err, x.want)
			}
		})
	}
	t.Run("unix socket", func(t *testing.T) {
		r := httptest.NewRequest("PUT", "/v2/", nil)
		r.RemoteAddr = "@"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "/run/weir.sock", Net: "unix"}))
		if err := NewWrites(true).Check(r); err != nil {
			t.Error(err)
		}
	})
}
