package egress

import (
	"errors"
	"net/netip"
	"testing"
)

func TestReachOf(t *testing.T) {
	for s, want := range map[string]Reach{
		"8.8.8.8": Public, "2606:4700::1111": Public, "172.32.0.1": Public, "100.128.0.1": Public, "198.20.0.1": Public,
		"127.0.0.1": Internal, "127.9.9.9": Internal, "::1": Internal, "::ffff:127.0.0.1": Internal,
		"10.0.0.1": Internal, "172.16.0.1": Internal, "172.31.255.255": Internal, "192.168.1.1": Internal,
		"::ffff:10.0.0.1": Internal, "fd00::1": Internal, "100.64.0.1": Internal,
		"64:ff9b::10.0.0.1": Internal, "64:ff9b::8.8.8.8": Public, "2002:0a00:0001::1": Internal, "2002:0808:0808::1": Public,
		"64:ff9b:1::10.0.0.1": Internal, "64:ff9b:1:ffff::8.8.8.8": Public, "64:ff9b:1::169.254.169.254": Never,
		"::10.0.0.1":      Internal,
		"169.254.169.254": Never, "::ffff:169.254.169.254": Never, "64:ff9b::169.254.169.254": Never,
		"fe80::1": Never, "fe80::1%eth0": Never, "fd00:ec2::254": Never, "100.100.100.200": Never,
		"0.0.0.0": Never, "::": Never, "224.0.0.1": Never, "ff02::1": Never, "255.255.255.255": Never,
		"192.0.0.192": Never, "168.63.129.16": Never,
	} {
		if got := ReachOf(netip.MustParseAddr(s)); got != want {
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
		g := &guard{classify: ReachOf}
		for _, a := range test.dialled {
			g.dialled(netip.MustParseAddr(a))
		}
		if err := g.admit(netip.MustParseAddr(test.to)); (err == nil) != test.ok || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("at %v, to %s: %v", test.dialled, test.to, err)
		}
	}
	for host, ok := range map[string]bool{
		"cdn.example": true, "cdn.example.": true, "cdn": true, "0x.example": true, "8.8.8.8": true, "2606:4700::1111": true,
		"127.0.0.1": false, "::1": false, "fe80::1%eth0": false,
		"2130706433": false, "0x7f000001": false, "127.1": false, "127.0.0.0x1": false, "017700000001": false,
		"127.0.0.1.": false, "99999999999999999999": false, ".": false,
	} {
		g := &guard{classify: ReachOf}
		if err := g.admitHost(host); (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
	}
}
