package authz

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
)

func prefixes(list ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// S-13: where a request comes from. The proxies are 10.0.0.0/8 and fd00::/8; "" is
// nowhere.
func TestClientAddress(t *testing.T) {
	const untrusted, proxy, proxy6 = "192.0.2.1:9", "10.0.0.1:9", "[fd00::1]:9"
	type header = map[string][]string
	xff := func(v ...string) header { return header{"X-Forwarded-For": v} }
	fwd := func(v ...string) header { return header{"Forwarded": v} }
	for name, x := range map[string]struct {
		peer   string
		header header
		want   string
	}{
		"direct":                        {untrusted, nil, "192.0.2.1"},
		"direct, v6":                    {"[2001:db8::1]:9", nil, "2001:db8::1"},
		"direct, v6 with a zone":        {"[fe80::1%eth0]:9", nil, "fe80::1"},
		"direct, mapped":                {"[::ffff:192.0.2.1]:9", nil, "192.0.2.1"},
		"spoofed by whoever connects":   {untrusted, xff("203.0.113.9"), "192.0.2.1"},
		"spoofed as loopback":           {untrusted, xff("127.0.0.1"), "192.0.2.1"},
		"spoofed, standard":             {untrusted, fwd("for=127.0.0.1"), "192.0.2.1"},
		"real ip of whoever connects":   {untrusted, header{"X-Real-Ip": {"127.0.0.1"}}, "192.0.2.1"},
		"proxy":                         {proxy, xff("203.0.113.9"), "203.0.113.9"},
		"proxy, mapped":                 {"[::ffff:10.0.0.1]:9", xff("203.0.113.9"), "203.0.113.9"},
		"proxy, v6":                     {proxy6, xff("2001:db8::9"), "2001:db8::9"},
		"proxy, v6 in brackets":         {proxy6, xff("[2001:db8::9]"), "2001:db8::9"},
		"proxy, v6 with a port":         {proxy6, xff("[2001:db8::9]:4711"), "2001:db8::9"},
		"proxy, with a port":            {proxy, xff("203.0.113.9:4711"), "203.0.113.9"},
		"proxy, mapped client":          {proxy, xff("::ffff:203.0.113.9"), "203.0.113.9"},
		"proxy, standard":               {proxy, fwd("for=203.0.113.9"), "203.0.113.9"},
		"standard, v6":                  {proxy, fwd(`for="[2001:db8::9]"`), "2001:db8::9"},
		"standard, v6 with a port":      {proxy, fwd(`For="[2001:db8::9]:4711";proto=https;by=10.0.0.1`), "2001:db8::9"},
		"standard, obfuscated port":     {proxy, fwd(`for="203.0.113.9:_x"`), "203.0.113.9"},
		"standard, quoted pairs":        {proxy, fwd(`for="203.0.113\.9"`), "203.0.113.9"},
		"client prepends to one proxy":  {proxy, xff("127.0.0.1, 203.0.113.9"), "203.0.113.9"},
		"client prepends a trusted one": {proxy, xff("10.0.0.9, 203.0.113.9"), "203.0.113.9"},
		"client prepends, header of its own": {
			proxy, xff("127.0.0.1", "203.0.113.9"), "203.0.113.9",
		},
		"client prepends, standard":        {proxy, fwd("for=127.0.0.1, for=203.0.113.9"), "203.0.113.9"},
		"client prepends nonsense":         {proxy, xff("nonsense, 203.0.113.9"), "203.0.113.9"},
		"two proxies":                      {proxy, xff("203.0.113.9, 10.0.0.2"), "203.0.113.9"},
		"two proxies, v6 between":          {proxy, xff("203.0.113.9, fd00::2"), "203.0.113.9"},
		"two proxies, client prepends":     {proxy, xff("127.0.0.1, 203.0.113.9, 10.0.0.2"), "203.0.113.9"},
		"two proxies, standard":            {proxy, fwd("for=127.0.0.1, for=203.0.113.9;proto=https, for=10.0.0.2"), "203.0.113.9"},
		"two proxies, two headers":         {proxy, fwd("for=203.0.113.9", "for=10.0.0.2"), "203.0.113.9"},
		"a proxy of somebody else between": {proxy, xff("203.0.113.9, 198.51.100.7, 10.0.0.2"), "198.51.100.7"},
		"all are trusted":                  {proxy, xff("10.1.1.1, 10.0.0.2"), "10.1.1.1"},
		"both say the same": {
			proxy, header{"Forwarded": {"for=203.0.113.9"}, "X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9",
		},
		"both, of other lengths": {
			proxy, header{"Forwarded": {"for=203.0.113.9"}, "X-Forwarded-For": {"127.0.0.1, 203.0.113.9"}}, "203.0.113.9",
		},
		"they disagree": {
			proxy, header{"Forwarded": {"for=203.0.113.9"}, "X-Forwarded-For": {"203.0.113.8"}}, "",
		},
		"one of them is none": {
			proxy, header{"Forwarded": {"for=unknown"}, "X-Forwarded-For": {"203.0.113.8"}}, "",
		},
		"one of them is malformed": {
			proxy, header{"Forwarded": {`for="203.0.113.8`}, "X-Forwarded-For": {"203.0.113.8"}}, "",
		},
		"missing":                      {proxy, nil, ""},
		"missing, real ip there":       {proxy, header{"X-Real-Ip": {"203.0.113.9"}}, ""},
		"empty":                        {proxy, xff(""), ""},
		"empty, standard":              {proxy, fwd(""), ""},
		"no address":                   {proxy, xff("client.example"), ""},
		"unknown":                      {proxy, xff("unknown"), ""},
		"unknown, standard":            {proxy, fwd("for=unknown"), ""},
		"obfuscated":                   {proxy, fwd("for=_hidden"), ""},
		"obfuscated, but farther away": {proxy, fwd("for=_hidden, for=203.0.113.9"), "203.0.113.9"},
		"no address at the end":        {proxy, xff("203.0.113.9, unknown"), ""},
		"ends with a comma":            {proxy, xff("203.0.113.9,"), ""},
		"standard without for":         {proxy, fwd("proto=https"), ""},
		"standard with two for":        {proxy, fwd("for=203.0.113.9;for=203.0.113.8"), ""},
		"standard, v6 bare":            {proxy, fwd(`for="2001:db8::9"`), ""},
		"standard, unquoted brackets":  {proxy, fwd(`for=[2001:db8::9]`), ""},
		"a quote that swallows a hop":  {proxy, fwd(`for="127.0.0.1`, `for=203.0.113.9`), ""},
		"with a zone":                  {proxy, xff("fe80::1%eth0"), ""},
		"unspecified":                  {proxy, xff("0.0.0.0"), ""},
		"multicast":                    {proxy, xff("224.0.0.1"), ""},
		"octal":                        {proxy, xff("0177.0.0.1"), ""},
		"decimal":                      {proxy, xff("2130706433"), ""},
		"loopback by a proxy":          {proxy, xff("127.0.0.1"), ""},
		"loopback by a proxy, v6":      {proxy, xff("::1"), ""},
		"loopback by a proxy, mapped":  {proxy, xff("::ffff:127.0.0.1"), ""},
		"loopback, standard":           {proxy, fwd(`for="[::1]"`), ""},
		"port that is none":            {proxy, xff("203.0.113.9:port"), ""},
		"not an address at all":        {"@", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.RemoteAddr, r.Host = x.peer, "127.0.0.1:5000"
			maps.Copy(r.Header, x.header)
			got := NewPeers(PeersOptions{Trusted: prefixes("10.0.0.0/8", "fd00::/8"), Private: true}).Client(r)
			var want netip.Addr
			if x.want != "" {
				want = netip.MustParseAddr(x.want)
			}
			if got.IP != want || got.Local {
				t.Errorf("got %v, local %v; want %v", got.IP, got.Local, want)
			}
		})
	}
}

// A network of IPv4 may be written as one of IPv6.
func TestMappedNetwork(t *testing.T) {
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr = "10.0.0.1:9"
	r.Header.Set("X-Forwarded-For", "203.0.113.9")
	o := PeersOptions{Trusted: prefixes("::ffff:10.0.0.0/104")}
	if got := NewPeers(o).Client(r); got.IP != netip.MustParseAddr("203.0.113.9") {
		t.Errorf("%+v", got)
	}
}

// Who is on this machine. A request that somebody passed on, or that calls it by a
// name that is not its own, is not from here, nor from its address.
func TestLocalClient(t *testing.T) {
	const here = "127.0.0.1"
	external := &url.URL{Scheme: "https", Host: "weir.corp"}
	private := PeersOptions{Private: true}
	for name, x := range map[string]struct {
		o          PeersOptions
		peer, host string
		header     string
		ip         string
		local      bool
	}{
		"by address":             {private, "127.0.0.1:9", "127.0.0.1:5000", "", here, true},
		"by name":                {private, "127.0.0.1:9", "localhost:5000", "", here, true},
		"by name, capitals":      {private, "127.0.0.1:9", "LocalHost:5000", "", here, true},
		"over IPv6":              {private, "[::1]:9", "[::1]:5000", "", "::1", true},
		"mapped":                 {private, "[::ffff:127.0.0.1]:9", "127.0.0.1", "", here, true},
		"another loopback":       {private, "127.0.0.2:9", "127.0.0.2:5000", "", "127.0.0.2", true},
		"others may connect":     {PeersOptions{}, "127.0.0.1:9", "127.0.0.1:5000", "", here, false},
		"another machine":        {private, "192.0.2.1:9", "127.0.0.1:5000", "", "192.0.2.1", false},
		"rebound name":           {private, "127.0.0.1:9", "evil.example:5000", "", "", false},
		"rebound, others may":    {PeersOptions{}, "127.0.0.1:9", "evil.example:5000", "", "", false},
		"name that ends alike":   {private, "127.0.0.1:9", "127.0.0.1.evil.example", "", "", false},
		"name that begins alike": {private, "127.0.0.1:9", "localhost.evil.example", "", "", false},
		"no host":                {private, "127.0.0.1:9", "", "", "", false},
		"its external name":      {PeersOptions{Private: true, External: external}, "127.0.0.1:9", "weir.corp", "", here, true},
		"not its external name":  {PeersOptions{Private: true, External: external}, "127.0.0.1:9", "weir.corp.evil.example", "", "", false},
		"X-Forwarded-For":        {private, "127.0.0.1:9", "127.0.0.1:5000", "X-Forwarded-For", "", false},
		"X-Forwarded-Proto":      {private, "127.0.0.1:9", "127.0.0.1:5000", "X-Forwarded-Proto", "", false},
		"X-Forwarded-Anything":   {private, "127.0.0.1:9", "127.0.0.1:5000", "X-Forwarded-Anything", "", false},
		"Forwarded":              {private, "127.0.0.1:9", "127.0.0.1:5000", "Forwarded", "", false},
		"X-Real-IP":              {private, "127.0.0.1:9", "127.0.0.1:5000", "X-Real-IP", "", false},
		"Via":                    {private, "127.0.0.1:9", "127.0.0.1:5000", "Via", "", false},
		"trusted, nothing said":  {PeersOptions{Private: true, Trusted: prefixes("127.0.0.0/8")}, "127.0.0.1:9", "127.0.0.1:5000", "", "", false},
		"no address, no unix":    {private, "@", "127.0.0.1:5000", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("PUT", "/v2/", nil)
			r.RemoteAddr, r.Host = x.peer, x.host
			if x.header != "" {
				r.Header.Set(x.header, "127.0.0.1")
			}
			got := NewPeers(x.o).Client(r)
			var want Client
			if x.ip != "" {
				want.IP = netip.MustParseAddr(x.ip)
			}
			if want.Local = x.local; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// A unix socket has no address, and is this machine unless somebody passed it on.
func TestClientOfUnixSocket(t *testing.T) {
	r := httptest.NewRequest("PUT", "/v2/", nil)
	r.RemoteAddr = "@"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "/run/weir.sock", Net: "unix"}))
	peers := NewPeers(PeersOptions{Private: true, Trusted: prefixes("0.0.0.0/0", "::/0")})
	if got := peers.Client(r); got != (Client{Local: true}) {
		t.Errorf("%+v", got)
	}
	r.Header.Set("X-Forwarded-For", "203.0.113.9")
	if got := peers.Client(r); got != (Client{}) {
		t.Errorf("passed on: %+v", got)
	}
	if got := NewPeers(PeersOptions{}).Client(r); got != (Client{}) {
		t.Errorf("not private: %+v", got)
	}
}

// S-13: where a request was sent to, for the realm of a challenge.
func TestBaseURL(t *testing.T) {
	external := &url.URL{Scheme: "https", Host: "weir.corp"}
	type header = map[string]string
	for name, x := range map[string]struct {
		external *url.URL
		peer     string
		host     string
		tls      bool
		header   header
		want     string
	}{
		"as asked":               {nil, "192.0.2.1:9", "weir.local:5000", false, nil, "http://weir.local:5000"},
		"as asked, TLS":          {nil, "192.0.2.1:9", "weir.local", true, nil, "https://weir.local"},
		"as asked, v6":           {nil, "192.0.2.1:9", "[::1]:5000", false, nil, "http://[::1]:5000"},
		"external":               {external, "192.0.2.1:9", "evil.example", false, nil, "https://weir.corp"},
		"external beside proxy":  {external, "10.0.0.1:9", "x", false, header{"X-Forwarded-Host": "evil.example"}, "https://weir.corp"},
		"spoofed":                {nil, "192.0.2.1:9", "weir.local", false, header{"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}, "http://weir.local"},
		"spoofed, standard":      {nil, "192.0.2.1:9", "weir.local", false, header{"Forwarded": "for=1.2.3.4;host=evil.example;proto=https"}, "http://weir.local"},
		"proxy":                  {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "weir.corp", "X-Forwarded-Proto": "https"}, "https://weir.corp"},
		"proxy, no address":      {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-Host": "weir.corp", "X-Forwarded-Proto": "HTTPS"}, "https://weir.corp"},
		"proxy, standard":        {nil, "10.0.0.1:9", "weir:5000", false, header{"Forwarded": `for=203.0.113.9;host="weir.corp:8443";proto=https`}, "https://weir.corp:8443"},
		"two proxies":            {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-For": "203.0.113.9, 10.0.0.2", "X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "weir.corp, inner"}, "https://weir.corp"},
		"client prepends":        {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-For": "1.1.1.1, 203.0.113.9", "X-Forwarded-Proto": "http, https", "X-Forwarded-Host": "evil.example, weir.corp"}, "https://weir.corp"},
		"prepended, standard":    {nil, "10.0.0.1:9", "weir:5000", false, header{"Forwarded": "for=1.1.1.1;host=evil.example, for=203.0.113.9;host=weir.corp;proto=https"}, "https://weir.corp"},
		"addresses disagree":     {nil, "10.0.0.1:9", "weir:5000", false, header{"Forwarded": "for=1.1.1.1;host=a.example", "X-Forwarded-For": "2.2.2.2", "X-Forwarded-Host": "b.example"}, "http://weir:5000"},
		"hosts disagree":         {nil, "10.0.0.1:9", "weir:5000", false, header{"Forwarded": "for=1.1.1.1;host=a.example;proto=https", "X-Forwarded-For": "1.1.1.1", "X-Forwarded-Host": "b.example"}, "https://weir:5000"},
		"no scheme":              {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-Proto": "javascript"}, "http://weir:5000"},
		"no host: quotes":        {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-Host": `a",service="b`}, "http://weir:5000"},
		"no host: a path":        {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-Host": "a.example/x"}, "http://weir:5000"},
		"no host: a user":        {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-Host": "weir.corp@evil.example"}, "http://weir:5000"},
		"no host: a port of six": {nil, "10.0.0.1:9", "weir:5000", false, header{"X-Forwarded-Host": "a.example:123456"}, "http://weir:5000"},
		"no Host":                {nil, "192.0.2.1:9", "", false, nil, "http://127.0.0.1:7777"},
		"a Host that is none":    {nil, "192.0.2.1:9", "a'b", false, nil, "http://127.0.0.1:7777"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v2/", nil)
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7777}))
			r.RemoteAddr, r.Host = x.peer, x.host
			if x.tls {
				r.TLS = &tls.ConnectionState{}
			}
			for k, v := range x.header {
				r.Header.Set(k, v)
			}
			if got := NewPeers(PeersOptions{Trusted: prefixes("10.0.0.0/8"), External: x.external}).BaseURL(r).String(); got != x.want {
				t.Errorf("got %s, want %s", got, x.want)
			}
		})
	}
}

// Whatever is in the headers, nobody who is passed on is on this machine, and nobody is
// at its address; what a proxy appends decides alone; and what leads clients on is a
// plain URL.
func FuzzForwarded(f *testing.F) {
	f.Add("for=203.0.113.9;proto=https;host=weir.corp", "203.0.113.9", "weir.corp")
	f.Add(`for="[2001:db8::9]:4711", for=10.0.0.1`, "127.0.0.1, 10.0.0.2", "a,b")
	f.Add(`for="\"", for=_x;by=unknown ; secret="a,b;c"`, "[::1]:80", `"`)
	peers := NewPeers(PeersOptions{Trusted: prefixes("10.0.0.0/8", "fd00::/8"), Private: true})
	f.Fuzz(func(t *testing.T, forwarded, xff, host string) {
		r := &http.Request{RemoteAddr: "10.0.0.1:9", Host: "127.0.0.1", Header: http.Header{
			"Forwarded": {forwarded}, "X-Forwarded-For": {xff}, "X-Forwarded-Host": {host},
		}}
		if got := peers.Client(r); got.Local || got.IP.IsLoopback() || got.IP.Is4In6() || got.IP.Zone() != "" {
			t.Errorf("client %+v", got)
		}
		base := peers.BaseURL(r)
		if again, err := url.Parse(base.String()); err != nil || again.Host != base.Host || again.Scheme != base.Scheme ||
			again.User != nil || again.Path != "" || again.RawQuery != "" || again.Fragment != "" {
			t.Errorf("base %q: %v", base, err)
		}
		// Our proxy appends where it was connected to from.
		want := Client{IP: netip.MustParseAddr("203.0.113.9")}
		r.Header = http.Header{"X-Forwarded-For": {xff, "203.0.113.9"}}
		if got := peers.Client(r); got != want {
			t.Errorf("X-Forwarded-For: client %+v", got)
		}
		r.Header = http.Header{"Forwarded": {forwarded, "for=203.0.113.9"}}
		if got := peers.Client(r); got != want && got != (Client{}) {
			t.Errorf("Forwarded: client %+v", got)
		}
		// A peer that is not trusted is where it is, whatever it says.
		r.RemoteAddr = "192.0.2.1:9"
		if got := peers.Client(r); got != (Client{IP: netip.MustParseAddr("192.0.2.1")}) {
			t.Errorf("untrusted: client %+v", got)
		}
	})
}
