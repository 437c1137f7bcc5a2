package main

import (
	"net/http"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
)

// newPeers makes what tells where requests to the public side come from, and which
// address its clients know it by.
func newPeers(c config.Server) *authz.Peers {
	o := authz.PeersOptions{Private: private(c)}
	for _, n := range c.TrustedProxies {
		o.Trusted = append(o.Trusted, n.Prefix)
	}
	if !c.ExternalURL.IsZero() {
		o.External = &c.ExternalURL.URL
	}
	return authz.NewPeers(o)
}

// private reports whether nobody but this machine can connect to the public side.
func private(c config.Server) bool {
	for _, a := range c.Listen {
		if a.Network != "unix" && !authz.Loopback(a.Addr) {
			return false
		}
	}
	return true
}

// sameSite refuses what pages of other sites have a browser change.
func sameSite(next http.Handler, c *authz.CrossSite) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.Check(r); err != nil {
			serve.Error(w, r, origin.Errorf(origin.ErrDenied, "changes from a page of another site are not taken"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
