package authz

import (
	"errors"
	"net/http/httptest"
	"testing"
)

func TestWrites(t *testing.T) {
	for name, x := range map[string]struct {
		open         bool
		method       string
		remote, host string
		want         error
	}{
		"read from anywhere":     {false, "GET", "192.0.2.1:9", "weir.corp", nil},
		"head from anywhere":     {false, "HEAD", "192.0.2.1:9", "weir.corp", nil},
		"push from this machine": {true, "PUT", "127.0.0.1:9", "127.0.0.1:5000", nil},
		"delete too":             {true, "DELETE", "127.0.0.1:9", "127.0.0.1:5000", nil},
		"another machine":        {true, "PUT", "192.0.2.1:9", "127.0.0.1:5000", ErrNotLocal},
		"open to others":         {false, "PUT", "127.0.0.1:9", "127.0.0.1:5000", ErrNotLocal},
		"unknown method":         {true, "BREW", "192.0.2.1:9", "127.0.0.1", ErrNotLocal},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(x.method, "/v2/a/blobs/uploads/", nil)
			r.RemoteAddr, r.Host = x.remote, x.host
			if err := NewWrites(NewPeers(PeersOptions{Private: true}), x.open).Check(r); !errors.Is(err, x.want) {
				t.Errorf("got %v, want %v", err, x.want)
			}
		})
	}
}
