package client

import (
	"net/netip"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// Mirror is a weir as clients reach it.
type Mirror struct {
	// URL has no path: clients find a registry at the root of a host.
	URL config.URL
}

// host is the mirror's host, with its port if it has one.
func (m Mirror) host() string { return m.URL.Host }

// plain reports whether the mirror speaks HTTP without TLS.
func (m Mirror) plain() bool { return m.URL.Scheme == "http" }

// loopback reports whether the mirror is on the client's own machine by an address
// of 127.0.0.0/8, which is where clients allow plain HTTP without being told.
func (m Mirror) loopback() bool {
	ip, err := netip.ParseAddr(m.URL.Hostname())
	return m.URL.Hostname() == "localhost" || err == nil && ip.Is4() && ip.IsLoopback()
}

// server is the address of the upstream of that name.
func server(upstream string) string {
	if upstream == "docker.io" {
		return "https://registry-1.docker.io"
	}
	return "https://" + upstream
}
