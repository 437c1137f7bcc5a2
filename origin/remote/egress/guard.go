package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
)

// Reach says from where an address can be reached.
type Reach int32

const (
	unknown  Reach = iota
	Public         // from everywhere
	Internal       // loopback, and the networks of a company or a provider
	Never          // no registry: this network's own business, metadata of clouds, many at once
)

// ErrAddress is why an address was not connected to.
var ErrAddress = errors.New("the upstream leads to an address that it may not lead to")

// guard keeps an endpoint from leading to addresses which only we can reach.
type guard struct {
	classify func(netip.Addr) Reach
	endpoint atomic.Int32 // the reach of the endpoint's own address
}

// dialled takes note of the endpoint's own address. Once that was a public one
// no later one makes the endpoint internal: the names of a public endpoint are
// in other hands, which could let them point inside for a moment (rebinding).
func (g *guard) dialled(a netip.Addr) {
	if g.classify(a) == Internal {
		g.endpoint.CompareAndSwap(int32(unknown), int32(Internal))
		return
	}
	g.endpoint.Store(int32(Public))
}

// admit decides on an address that the endpoint leads to.
func (g *guard) admit(a netip.Addr) error {
	switch g.classify(a) {
	case Public:
		return nil
	case Internal:
		if Reach(g.endpoint.Load()) == Internal {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrAddress, a)
}

// admitOwn decides on an address that the endpoint's own name leads to.
func (g *guard) admitOwn(a netip.Addr) error {
	if g.classify(a) == Never {
		return fmt.Errorf("%w: %s", ErrAddress, a)
	}
	return nil
}

// admitHost decides on a host that the endpoint leads to by what it looks like.
// Where a proxy resolves and dials nothing else can be known; elsewhere the
// address decides once more when it is dialled.
func (g *guard) admitHost(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return g.admit(a)
	}
	// Some resolvers take 2130706433 and 127.0x1 for addresses; no name ends in a
	// number.
	last := strings.TrimSuffix(host, ".")
	last = last[strings.LastIndexByte(last, '.')+1:]
	if _, err := strconv.ParseUint(last, 0, 64); last == "" || err == nil || errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%w: %q is neither a name nor an address", ErrAddress, host)
	}
	return nil
}

// ReachOf classifies an address by the special-purpose registries of IANA (RFC
// 6890) and the addresses where clouds keep credentials of machines.
func ReachOf(a netip.Addr) Reach {
	a = embedded(a.WithZone("").Unmap())
	for _, special := range []struct {
		reach    Reach
		prefixes string
	}{
		{Never, "169.254.0.0/16 fe80::/10 fec0::/10"},                             // link-local; its 169.254.169.254 is metadata
		{Never, "fd00:ec2::/32 100.100.100.200/32 192.0.0.0/24 168.63.129.16/32"}, // metadata: AWS, Alibaba, Oracle, Azure
		{Never, "0.0.0.0/8 ::/128 224.0.0.0/4 ff00::/8 240.0.0.0/4"},              // unspecified, multicast, reserved and broadcast
		{Internal, "127.0.0.0/8 ::1/128"},
		{Internal, "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7"},
		{Internal, "100.64.0.0/10 198.18.0.0/15"}, // shared by a provider's customers; between networks under test
	} {
		for prefix := range strings.FieldsSeq(special.prefixes) {
			if netip.MustParsePrefix(prefix).Contains(a) {
				return special.reach
			}
		}
	}
	return Public
}

// embedded gives the IPv4 address that an IPv6 address stands for: NAT64 (RFC
// 6052; RFC 8215, as far as it is written in the last 32 bits), 6to4 (RFC 3056), or the "compatible" form (RFC 4291, 2.5.5.1).
func embedded(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	b := a.As16()
	v4 := func(at int) netip.Addr { return netip.AddrFrom4([4]byte(b[at : at+4])) }
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a), netip.MustParsePrefix("64:ff9b:1::/48").Contains(a):
		return v4(12)
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return v4(2)
	case netip.MustParsePrefix("::/96").Contains(a) && a != netip.IPv6Loopback() && a != netip.IPv6Unspecified():
		return v4(12)
	}
	return a
}
