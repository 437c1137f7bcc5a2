package egress

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Lead gives the address that a server names, seen from another one (a realm, a
// redirect, a Location), if it may lead there at all. Whether its host may be
// connected to turns out when it is. Its errors do not quote it: it may hold a
// signature.
func (c *Client) Lead(from *url.URL, to string) (*url.URL, error) {
	ref, err := url.Parse(to)
	if to == "" || err != nil {
		return nil, errors.New("not a URL")
	}
	u := from.ResolveReference(ref)
	u.Fragment = ""
	return u, c.fit(u)
}

// fit refuses a URL that is not to be asked whatever its address.
func (c *Client) fit(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "":
		return errors.New("not an http or https URL with a host")
	case u.User != nil:
		return errors.New("a URL with credentials in it")
	case u.Scheme == "http" && c.root.Scheme != "http":
		return fmt.Errorf("from https to http at %s", u.Host)
	}
	return nil
}

// Own reports whether a URL is of the configured scheme, host and port: all that
// is known of credentials may go there.
func (c *Client) Own(u *url.URL) bool { return SameOrigin(u, c.root) }

// Trusts reports whether the credentials may go to a token server at u: at the
// configured host and port, or one of Options.TokenHosts; not in the clear unless
// the configured URL is that itself.
func (c *Client) Trusts(u *url.URL) bool {
	if u.Scheme != "https" && c.root.Scheme != "http" {
		return false
	}
	at := hostPort(u)
	if at == hostPort(c.root) {
		return true
	}
	for _, host := range c.hosts {
		if at == hostPort(&url.URL{Scheme: u.Scheme, Host: host}) {
			return true
		}
	}
	return false
}

// via picks the way that a request takes.
func (c *Client) via(req *http.Request) (lines, error) {
	w := c.ways()
	if c.Own(req.URL) {
		return w.own, nil
	}
	if err := c.guard.admitHost(req.URL.Hostname()); err != nil {
		return lines{}, err
	}
	proxy, err := c.proxy(req)
	if err != nil {
		return lines{}, errors.New("the proxy of the environment is not a URL")
	}
	if proxy != nil {
		return w.relayed, nil
	}
	return w.foreign, nil
}

// SameOrigin reports whether two URLs lead to the same scheme, host and port.
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && hostPort(a) == hostPort(b)
}

// hostPort is the host in lower case and the port, given or not.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
