package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/weir-registry/weir/origin"
)

// Address is where a server listens, in the terms of [net.Listen]. The zero
// Address is nowhere, and written "".
type Address struct {
	Network string // tcp or unix
	Addr    string // host:port, or the path of a socket
}

// IsZero reports whether a is nowhere.
func (a Address) IsZero() bool { return a == Address{} }

// String gives host:port or unix:path.
func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Addr
	}
	return a.Addr
}

// MarshalText implements [encoding.TextMarshaler].
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Address) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" {
		*a = Address{}
		return nil
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" || strings.ContainsRune(path, 0) {
			return fmt.Errorf("%s names no socket: write unix: and its path", origin.Quote(s))
		}
		*a = Address{"unix", path}
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, "/@ \t\n") {
		return fmt.Errorf("%s is no address: write host:port, :port or unix:/path", origin.Quote(s))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s has no port between 0 and 65535", origin.Quote(s))
	}
	*a = Address{"tcp", s}
	return nil
}

// collides reports whether a and b cannot be listened on at the same time.
func (a Address) collides(b Address) bool {
	if a.Network != b.Network || a.Network != "tcp" {
		return a == b
	}
	hostA, portA, _ := net.SplitHostPort(a.Addr)
	hostB, portB, _ := net.SplitHostPort(b.Addr)
	if portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || isWildcard(hostA) || isWildcard(hostB)
}

func isWildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Addresses are written as one address, or as a list of them.
type Addresses []Address

// Network is a range of IP addresses, written as a CIDR.
type Network struct{ netip.Prefix }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (n *Network) UnmarshalText(text []byte) error {
	p, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("%s is no network: write a CIDR, such as 10.0.0.0/8 or ::1/128", origin.Quote(string(text)))
	}
	if p != p.Masked() {
		return fmt.Errorf("%s is an address inside %s: write the network", origin.Quote(string(text)), p.Masked())
	}
	n.Prefix = p
	return nil
}

// URL is an http or https address without credentials, query or fragment. The
// zero URL is none, and written "".
type URL struct{ url.URL }

// IsZero reports whether u is none.
func (u URL) IsZero() bool { return u.Host == "" }

// MarshalText implements [encoding.TextMarshaler].
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// String gives the URL without a slash at its end.
func (u URL) String() string { return u.URL.String() }

// UnmarshalText implements [encoding.TextUnmarshaler]. What it complains of it
// does not repeat, for there may be a password in it.
func (u *URL) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" {
		*u = URL{}
		return nil
	}
	parsed, err := url.Parse(strings.TrimRight(s, "/"))
	switch {
	case err != nil, parsed.Opaque != "", parsed.Hostname() == "", strings.ContainsAny(parsed.Host, " \t"):
		return errors.New("no URL: write http:// or https:// and a host")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return fmt.Errorf("the scheme is %s: write http:// or https://", origin.Quote(parsed.Scheme))
	case parsed.User != nil:
		return errors.New("credentials in a URL: they have keys of their own, where they are kept secret")
	case parsed.RawQuery != "", parsed.ForceQuery:
		return errors.New("a query in a URL: leave out what follows the ?")
	case parsed.Fragment != "", strings.Contains(s, "#"):
		return errors.New("a fragment in a URL: leave out what follows the #")
	}
	if port := parsed.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("the port is not between 1 and 65535")
		}
	}
	if strings.HasSuffix(parsed.Host, ":") {
		return errors.New("a colon at the end of a URL, where a port belongs")
	}
	u.URL = *parsed
	return nil
}
