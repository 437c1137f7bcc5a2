package authz

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"testing"
)

// Contract, section 4: whatever changes something, on /v2/ and at /token as elsewhere.
func TestCrossSite(t *testing.T) {
	external := &url.URL{Scheme: "https", Host: "weir.corp"}
	type header = map[string]string
	for name, x := range map[string]struct {
		external *url.URL
		method   string
		host     string
		header   header
		want     error
	}{
		"no browser":                    {nil, "PUT", "127.0.0.1:5000", nil, nil},
		"read by another site":          {nil, "GET", "127.0.0.1:5000", header{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, nil},
		"page of another site":          {nil, "PUT", "127.0.0.1:5000", header{"Sec-Fetch-Site": "cross-site"}, ErrCrossSite},
		"its delete":                    {nil, "DELETE", "127.0.0.1:5000", header{"Sec-Fetch-Site": "cross-site"}, ErrCrossSite},
		"its form":                      {nil, "POST", "127.0.0.1:5000", header{"Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded"}, ErrCrossSite},
		"method that is not known":      {nil, "BREW", "127.0.0.1:5000", header{"Sec-Fetch-Site": "cross-site"}, ErrCrossSite},
		"sibling of the site":           {nil, "POST", "weir.corp", header{"Sec-Fetch-Site": "same-site", "Origin": "https://wiki.corp"}, ErrCrossSite},
		"page, old browser":             {nil, "POST", "127.0.0.1:5000", header{"Origin": "https://evil.example"}, ErrCrossSite},
		"page of a file":                {nil, "POST", "127.0.0.1:5000", header{"Origin": "null"}, ErrCrossSite},
		"page of another port":          {nil, "POST", "127.0.0.1:5000", header{"Origin": "http://127.0.0.1:8080"}, ErrCrossSite},
		"own page":                      {nil, "POST", "127.0.0.1:5000", header{"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:5000"}, nil},
		"own page, old browser":         {nil, "POST", "127.0.0.1:5000", header{"Origin": "http://127.0.0.1:5000"}, nil},
		"typed by the user":             {nil, "POST", "127.0.0.1:5000", header{"Sec-Fetch-Site": "none"}, nil},
		"own page behind a proxy":       {external, "POST", "10.0.0.7:5000", header{"Origin": "https://weir.corp"}, nil},
		"as it, over http":              {external, "POST", "10.0.0.7:5000", header{"Origin": "http://weir.corp"}, ErrCrossSite},
		"another one behind it":         {external, "POST", "10.0.0.7:5000", header{"Origin": "https://evil.example"}, ErrCrossSite},
		"one whose name begins alike":   {external, "POST", "10.0.0.7:5000", header{"Origin": "https://weir.corp.evil.example"}, ErrCrossSite},
		"one that forges the forwarder": {nil, "POST", "127.0.0.1:5000", header{"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}, ErrCrossSite},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/v2/a/blobs/uploads/", "/token", "/v2/_ext/uploads"} {
				r := httptest.NewRequest(x.method, path, nil)
				r.Host = x.host
				for k, v := range x.header {
					r.Header.Set(k, v)
				}
				if err := NewCrossSite(x.external).Check(r); !errors.Is(err, x.want) {
					t.Errorf("%s: got %v, want %v", path, err, x.want)
				}
			}
		})
	}
}
