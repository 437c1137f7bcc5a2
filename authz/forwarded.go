package authz

import (
	"net/http"
	"net/netip"
	"strings"
)

// passedOn reports whether a request says that somebody passed it on: then it is the
// proxy that connected, and who asks is anyone.
func passedOn(h http.Header) bool {
	for name := range h {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded-"):
			return true
		}
	}
	return false
}

// hop is what one proxy says of whom it passed a request on for.
type hop struct {
	// addr is where the request came to it from; zero: it does not say, or nothing
	// that is an address.
	addr netip.Addr
	// proto and host are what the request was sent to; "": it does not say.
	proto, host string
}

// xForwardedFor reads the X-Forwarded-For headers of a request: the addresses that
// it passed, the last of them the nearest.
func xForwardedFor(values []string) []hop {
	var hops []hop
	for _, item := range listed(values) {
		hops = append(hops, hop{addr: parseNode(item)})
	}
	return hops
}

// listed splits the values of a header that is a list without quoted strings.
func listed(values []string) []string {
	var items []string
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			items = append(items, strings.Trim(item, " \t"))
		}
	}
	return items
}

// parseNode reads an address as proxies write it: with or without a port, one of IPv6
// with or without brackets unless it has a port. The zero Addr is none, and so is one
// with a zone, which means something on another machine alone.
func parseNode(s string) netip.Addr {
	if open, ok := strings.CutPrefix(s, "["); ok {
		literal, port, closed := strings.Cut(open, "]")
		if addr, err := netip.ParseAddr(literal); err == nil && closed && addr.Is6() && validNodePort(port) {
			return believable(addr)
		}
		return netip.Addr{}
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return believable(addr)
	}
	literal, port, _ := strings.Cut(s, ":")
	if addr, err := netip.ParseAddr(literal); err == nil && validNodePort(":"+port) {
		return believable(addr)
	}
	return netip.Addr{}
}

// believable gives an address in its one form; zero for one that nobody has.
func believable(addr netip.Addr) netip.Addr {
	if addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// validNodePort reports whether s is nothing, or a colon and a port, which a proxy may
// have obfuscated (RFC 7239, section 6.2).
func validNodePort(s string) bool {
	if s == "" {
		return true
	}
	port, ok := strings.CutPrefix(s, ":")
	if obscure, hidden := strings.CutPrefix(port, "_"); hidden {
		return ok && obscure != "" && strings.Trim(obscure, obfuscated) == ""
	}
	return ok && port != "" && len(port) <= 5 && strings.Trim(port, "0123456789") == ""
}

const obfuscated = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// parseForwarded reads the Forwarded headers of a request (RFC 7239, section 4), the
// last hop being the nearest. It reports false where they are not as they must be:
// then nothing that they say counts, for who knows where one of them begins.
func parseForwarded(values []string) ([]hop, bool) {
	p := forwardedParser{rest: strings.Join(values, ",")}
	var hops []hop
	for {
		h, ok := p.element()
		if !ok {
			return nil, false
		}
		hops = append(hops, h)
		if p.rest == "" {
			return hops, true
		}
		if !p.skip(",") {
			return nil, false
		}
	}
}

// forwardedParser reads what is left of a Forwarded header.
type forwardedParser struct{ rest string }

// element reads the parameters of one hop: for=…;proto=…;host=…;by=…, each at most
// once. An empty one is a hop that says nothing.
func (p *forwardedParser) element() (h hop, ok bool) {
	seen := map[string]bool{}
	p.space()
	for p.rest != "" && p.rest[0] != ',' {
		if p.skip(";") {
			continue
		}
		name := strings.ToLower(p.token())
		if name == "" || seen[name] || !p.skip("=") {
			return hop{}, false
		}
		seen[name] = true
		value, ok := p.value()
		if !ok {
			return hop{}, false
		}
		switch name {
		case "for":
			h.addr = forwardedNode(value)
		case "proto":
			h.proto = value
		case "host":
			h.host = value
		}
		if p.space(); p.rest != "" && p.rest[0] != ';' && p.rest[0] != ',' {
			return hop{}, false
		}
		p.skip(";")
		p.space()
	}
	return h, true
}

// forwardedNode reads a node of RFC 7239, section 6: IPv6 stands in brackets. "unknown"
// and what begins with _ are none that is known here.
func forwardedNode(s string) netip.Addr {
	if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
		return netip.Addr{}
	}
	return parseNode(s)
}

func (p *forwardedParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

// skip takes what comes next if that is s.
func (p *forwardedParser) skip(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

// token reads a token (RFC 9110, section 5.6.2); "" if there is none.
func (p *forwardedParser) token() string {
	n := 0
	for n < len(p.rest) && isToken(p.rest[n]) {
		n++
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// value reads a token or a quoted string.
func (p *forwardedParser) value() (string, bool) {
	if !p.skip(`"`) {
		t := p.token()
		return t, t != ""
	}
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		case c < ' ' && c != '\t', c == 0x7f, c == '\\':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
