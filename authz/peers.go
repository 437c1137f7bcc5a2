package authz

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// PeersOptions are the circumstances of Peers. The zero value trusts no proxy and
// takes nobody for this machine.
type PeersOptions struct {
	// Trusted are the networks of the proxies whose Forwarded and X-Forwarded-* count.
	Trusted []netip.Prefix
	// External is what clients know weir by; nil: what their requests say.
	External *url.URL
	// Private says that nobody but this machine can connect: every listener is on a
	// loopback address or a unix socket.
	Private bool
}

// Peers tells where requests come from, and where they were sent to, as far as that
// can be believed.
type Peers struct{ o PeersOptions }

// NewPeers makes a Peers.
func NewPeers(o PeersOptions) *Peers {
	o.Trusted = slices.Clone(o.Trusted)
	for i, n := range o.Trusted {
		if addr := n.Addr(); addr.Is4In6() && n.Bits() >= 96 {
			o.Trusted[i] = netip.PrefixFrom(addr.Unmap(), n.Bits()-96) // as addresses are compared
		}
	}
	return &Peers{o}
}

// Client gives where a request comes from. That is the peer, or behind a trusted proxy
// the nearest hop that is none. Where Forwarded and X-Forwarded-For do not say the
// same, say no address, or are missing, it is nowhere: the zero IP. A loopback
// address is given only for those who connected themselves and called this machine by
// a name of its own (no page whose site's name was made to mean 127.0.0.1 does), and
// never for a request that somebody passed on.
func (p *Peers) Client(r *http.Request) Client {
	peer, unix := peerOf(r)
	switch {
	case unix:
		// It has no address; who may open it is up to its permissions.
		return Client{Local: p.o.Private && !passedOn(r.Header)}
	case p.trusts(peer):
		h := p.first(r.Header)
		if h.addr.IsLoopback() {
			return Client{}
		}
		return Client{IP: h.addr}
	case !peer.IsLoopback():
		return Client{IP: peer}
	case passedOn(r.Header) || !p.ownHost(r.Host):
		return Client{}
	}
	return Client{IP: peer, Local: p.o.Private}
}

// Proxied reports whether a request came through a proxy: a trusted one, or one that
// says so.
func (p *Peers) Proxied(r *http.Request) bool {
	peer, unix := peerOf(r)
	return passedOn(r.Header) || !unix && p.trusts(peer)
}

// BaseURL gives where a client finds weir, without a slash at its end: External, or
// what the request was sent to, for which a trusted proxy's X-Forwarded-Proto and
// -Host, or Forwarded, count. It is what the realm of a challenge begins with.
func (p *Peers) BaseURL(r *http.Request) *url.URL {
	if p.o.External != nil {
		return &url.URL{Scheme: p.o.External.Scheme, Host: p.o.External.Host}
	}
	base := &url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		base.Scheme = "https"
	}
	if peer, unix := peerOf(r); !unix && p.trusts(peer) {
		h := p.first(r.Header)
		base.Scheme = cmp.Or(validProto(h.proto), base.Scheme)
		base.Host = cmp.Or(validHost(h.host), base.Host)
	}
	if validHost(base.Host) == "" {
		// HTTP/1.0 has no Host; and nobody is to put something else into a header.
		base.Host = "localhost"
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "tcp" {
			base.Host = local.String()
		}
	}
	return base
}

// peerOf gives the address of who connected, or that it was through a unix socket.
// The zero Addr is one that is not known.
func peerOf(r *http.Request) (addr netip.Addr, unix bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		_, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
		return netip.Addr{}, unix
	}
	return peer.Addr().WithZone("").Unmap(), false
}

func (p *Peers) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(p.o.Trusted, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// ownHost reports whether host is what this machine, or weir, is called.
func (p *Peers) ownHost(host string) bool {
	return Loopback(host) || p.o.External != nil && strings.EqualFold(host, p.o.External.Host)
}

// first gives the hop at which a request came to the first of the trusted proxies that
// it passed: whose address is the nearest that is not trusted, or the farthest of all.
// It is the zero hop where the headers cannot be read, or do not agree.
func (p *Peers) first(h http.Header) hop {
	inX := xForwardedFor(h["X-Forwarded-For"])
	var x hop
	back := 0
	if len(inX) > 0 {
		at := p.nearest(inX)
		x, back = inX[at], len(inX)-1-at
	}
	x.proto, x.host = counted(h["X-Forwarded-Proto"], back), counted(h["X-Forwarded-Host"], back)
	if len(h["Forwarded"]) == 0 {
		return x
	}
	hops, ok := parseForwarded(h["Forwarded"])
	if !ok {
		return hop{}
	}
	found := hops[p.nearest(hops)]
	if len(inX) > 0 && found.addr != x.addr {
		return hop{}
	}
	found.proto, found.host = agreed(found.proto, x.proto), agreed(found.host, x.host)
	return found
}

// nearest gives the place of the last hop that is not trusted, or of the first.
func (p *Peers) nearest(hops []hop) int {
	for i := len(hops) - 1; i > 0; i-- {
		if !p.trusts(hops[i].addr) {
			return i
		}
	}
	return 0
}

// counted gives the item of a header so many before its last, or its first: a proxy
// may say once what another one says at each hop.
func counted(values []string, back int) string {
	items := listed(values)
	if len(items) == 0 {
		return ""
	}
	return items[max(0, len(items)-1-back)]
}

// agreed gives what both say, or the one that says something; else "".
func agreed(a, b string) string {
	if a != "" && b != "" && !strings.EqualFold(a, b) {
		return ""
	}
	return cmp.Or(a, b)
}

func validProto(s string) string {
	switch s := strings.ToLower(s); s {
	case "http", "https":
		return s
	}
	return ""
}

// validHost gives host if it is a name or an address and perhaps a port, and nothing
// that means something in a URL or a header; else "".
func validHost(host string) string {
	name, port := host, ""
	if literal, ok := strings.CutPrefix(host, "["); ok {
		inside, after, closed := strings.Cut(literal, "]")
		addr, err := netip.ParseAddr(inside)
		if err != nil || !closed || !addr.Is6() || addr.Zone() != "" {
			return ""
		}
		name, port = "six", after
	} else if i := strings.IndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	}
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != "" {
		return ""
	}
	if port != "" && (port[0] != ':' || len(port) < 2 || len(port) > 6 || strings.Trim(port[1:], "0123456789") != "") {
		return ""
	}
	return host
}

// Loopback reports whether host, with or without a port, means this machine
// whatever a resolver says.
func Loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
