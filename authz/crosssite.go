package authz

import (
	"errors"
	"net/http"
	"net/url"
)

// ErrCrossSite says that a browser asks on behalf of another site.
var ErrCrossSite = errors.New("authz: request from another site")

// CrossSite refuses what browsers ask for on behalf of pages of other sites. A browser
// sends what its user may along with such a request: a client certificate, a password
// that it remembers, or that it runs on this machine.
type CrossSite struct{ protection *http.CrossOriginProtection }

// NewCrossSite makes a CrossSite. external is what weir is known by, if that is not
// what the Host of a request says; nil: it is. The pages there are weir's own.
func NewCrossSite(external *url.URL) *CrossSite {
	c := &CrossSite{http.NewCrossOriginProtection()}
	if external != nil {
		// It has a scheme and a host, and nothing else is given.
		_ = c.protection.AddTrustedOrigin(external.Scheme + "://" + external.Host)
	}
	return c
}

// Check says whether r may go on. Requests that change nothing, by their method, always
// may; others that have Sec-Fetch-Site must be of the same origin or of none, and those
// that have an Origin alone must name their own Host. Clients that are no browsers send
// neither. Errors: ErrCrossSite.
func (c *CrossSite) Check(r *http.Request) error {
	if c.protection.Check(r) != nil {
		return ErrCrossSite
	}
	return nil
}
