package remote

import (
	"errors"
	"net/netip"
	"testing"
)

func TestReachOf(t *testing.T) {
	for s, want := range map[string]reach{
		"8.8.8.8": public, "2606:4700::1111": public, "172.32.0.1": public, "100.128.0.1": public, "198.20.0.1": public,
		"127.0.0.1": internal, "127.9.9.9": internal, "::1": internal, "::ffff:127.0.0.1": internal,
		"10.0.0.1": internal, "172.16.0.1": internal, "172.31.255.255": internal, "192.168.1.1": internal,
		"::ffff:10.0.0.1": internal, "fd00::1": internal, "100.64.0.1": internal,
		"64:ff9b::10.0.0.1": internal, "64:ff9b::8.8.8.8": public, "2002:0a00:0001::1": internal, "2002:0808:0808::1": public,
		"::10.0.0.1":      internal,
		"169.254.169.254": never, "::ffff:169.254.169.254": never, "64:ff9b::169.254.169.254": never,
		"fe80::1": never, "fe80::1%eth0": never, "fd00:ec2::254": never, "100.100.100.200": never,
		"0.0.0.0": never, "::": never, "224.0.0.1": never, "ff02::1": never, "255.255.255.255": never,
		"192.0.0.192": never, "168.63.129.16": never,
	} {
		if got := reachOf(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: %d, want %d", s, got, want)
		}
	}
}

func TestGuard(t *testing.T) {
	const pub, loop, private, metadata = "8.8.8.8", "127.0.0.1", "10.0.0.1", "169.254.169.254"
	tests := []struct {
		dialled []string // the endpoint's own addresses
		to      string
		ok      bool
	}{
		{nil, pub, true},
		{nil, loop, false},
		{[]string{pub}, pub, true},
		{[]string{pub}, loop, false},
		{[]string{pub}, private, false},
		{[]string{loop}, pub, true},
		{[]string{loop}, loop, true},
		{[]string{loop}, private, true},
		{[]string{private}, loop, true},
		{[]string{private}, metadata, false},
		{[]string{metadata}, private, false},
		// Rebinding: once public, always public.
		{[]string{pub, loop}, loop, false},
		{[]string{loop, pub}, loop, false},
		{[]string{loop, pub, loop}, loop, false},
	}
	for _, test := range tests {
		g := &guard{classify: reachOf}
		for _, a := range test.dialled {
			g.dialled(netip.MustParseAddr(a))
		}
		if err := g.admit(netip.MustParseAddr(test.to)); (err == nil) != test.ok || err != nil && !errors.Is(err, errAddress) {
			t.Errorf("at %v, to %s: %v", test.dialled, test.to, err)
		}
	}
	for host, ok := range map[string]bool{
		"cdn.example": true, "cdn.example.": true, "cdn": true, "0x.example": true, "8.8.8.8": true, "2606:4700::1111": true,
		"127.0.0.1": false, "::1": false, "fe80::1%eth0": false,
		"2130706433": false, "0x7f000001": false, "127.1": false, "127.0.0.0x1": false, "017700000001": false,
		"127.0.0.1.": false, "99999999999999999999": false, ".": false,
	} {
		g := &guard{classify: reachOf}
		if err := g.admitHost(host); (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
	}
}
