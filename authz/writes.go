package authz

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
)

// The reasons for which a change is refused.
var (
	// ErrCrossSite says that a browser asks on behalf of another site.
	ErrCrossSite = errors.New("authz: request from another site")
	// ErrNotLocal says that a change was asked for by someone who is not on this
	// machine, or may not be.
	ErrNotLocal = errors.New("authz: changes are taken from this machine only")
)

// Writes decides on requests that change something, while nobody is known by name:
// they are taken from this machine alone, and only while all listeners are its own.
type Writes struct {
	local     bool
	crossSite *http.CrossOriginProtection
}

// NewWrites makes a Writes. private says that nobody but this machine can connect,
// and that no proxy was announced that would connect for others: every listener is
// on a loopback address or a unix socket, and neither an external URL nor trusted
// proxies are configured.
func NewWrites(private bool) *Writes {
	return &Writes{local: private, crossSite: http.NewCrossOriginProtection()}
}

// Open reports whether anyone on this machine may write.
func (a *Writes) Open() bool { return a.local }

// Check says whether r may go on. Requests that change nothing always may.
// Errors: ErrCrossSite, ErrNotLocal.
func (a *Writes) Check(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if err := a.crossSite.Check(r); err != nil {
		return ErrCrossSite
	}
	if !a.local || forwarded(r.Header) || !fromLoopback(r) {
		return ErrNotLocal
	}
	return nil
}

// forwarded reports whether a proxy passed the request on: then it is the proxy
// that is on this machine, and who asks is anyone.
func forwarded(h http.Header) bool {
	for _, name := range []string{
		"Forwarded", "Via", "X-Real-Ip",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix",
	} {
		if len(h.Values(name)) > 0 {
			return true
		}
	}
	return false
}

// fromLoopback reports whether the peer is on this machine and, over TCP, called it
// by a name of this machine's own: a page of another site whose name was made to
// mean 127.0.0.1 calls it by that name.
func fromLoopback(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		// A unix socket has no address; who may open it is up to its permissions.
		_, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
		return unix
	}
	return peer.Addr().Unmap().IsLoopback() && Loopback(r.Host)
}

// Loopback reports whether host, with or without a port, means this machine
// whatever a resolver says.
func Loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
