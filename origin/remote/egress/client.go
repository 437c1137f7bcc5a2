package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options say whom a client is for, and how long it waits.
type Options struct {
	// URL is the configured one: http or https, and a host. Its scheme, host and port
	// are the client's own; its path means nothing here.
	URL *url.URL
	// TokenHosts are hosts besides that may hear its credentials: "host:port", or
	// "host" for the default port of the scheme. No redirect gives them any.
	TokenHosts []string
	// Trust is asked before each request; nil = the zero Trust, always. With another
	// than before no connection made with that is used again, nor its TLS session.
	Trust    func() *Trust
	Timeouts Timeouts
	// MaxConnections to each host at a time; further requests wait for one; 0 = no
	// limit. Of each https host's a quarter (at least one) is for all but bulk, and may
	// be HTTP/2; bulk has the others, with HTTP/1.1. A single one is shared.
	MaxConnections int
	// UserAgent is sent with each request; "" = "weir".
	UserAgent string
	// OnRequest is told the status of every answer, redirects included; 0 = there was
	// none. OnBytes is told how much was read of bodies. Both are called from many
	// goroutines; nil = nobody asks.
	OnRequest func(status int)
	OnBytes   func(n int64)
	Network   Network
}

// Timeouts bound the steps of a request; each defaults if 0. There is no limit to
// the time that a whole request takes.
type Timeouts struct {
	Connect time.Duration // to connect, and again for TLS; 5s
	Header  time.Duration // from the request to the header of the answer; 15s
	Stall   time.Duration // from one byte of a body to the next, either way; 30s
}

// OrDefault fills in what is 0.
func (t Timeouts) OrDefault() Timeouts {
	return Timeouts{
		Connect: cmp.Or(t.Connect, 5*time.Second),
		Header:  cmp.Or(t.Header, 15*time.Second),
		Stall:   cmp.Or(t.Stall, 30*time.Second),
	}
}

// Network is what a client's connections are made with. The zero Network is the
// machine's; tests have others.
type Network struct {
	Resolver *net.Resolver          // nil = the system's
	Classify func(netip.Addr) Reach // nil = ReachOf
	// Proxy gives the proxy for a request, nil = none. If it is nil itself, it is the
	// environment's (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), as it was when the process
	// first asked.
	Proxy func(*http.Request) (*url.URL, error)
	// RoundTripper answers in place of all connections, unless it is nil.
	RoundTripper http.RoundTripper
	// Around wraps what sends each request, as it leaves; nil = nothing does.
	Around func(http.RoundTripper) http.RoundTripper
}

// around wraps what sends requests.
func (n Network) around(r http.RoundTripper) http.RoundTripper {
	if n.Around == nil {
		return r
	}
	return n.Around(r)
}

// Client sends requests. Every byte that leaves because of its URL leaves here. It
// is safe for concurrent use.
//
// It uses RoundTrippers rather than an http.Client: that one keeps Authorization
// over a redirect to another port of the same host, and puts whole URLs, with
// signatures in their queries, into its errors.
type Client struct {
	root      *url.URL // scheme and host
	hosts     []string
	guard     *guard
	stall     time.Duration
	userAgent string
	onRequest func(status int)
	onBytes   func(n int64)

	proxy     func(*http.Request) (*url.URL, error)
	trust     func() *Trust
	connect   func(*Trust) *ways
	connected atomic.Pointer[ways]
	mu        sync.Mutex // held to replace what is connected
}

// ways are the connections of a client, by where they go.
type ways struct {
	trust   *Trust // what they were made with
	own     lines  // to its own host
	foreign lines  // to where that leads, each address checked
	relayed lines  // the same through the operator's proxy, which dials
}

func (w *ways) close() {
	for _, l := range []lines{w.own, w.foreign, w.relayed} {
		l.close()
	}
}

// New is the client for a URL. It sends nothing yet.
func New(o Options) *Client {
	o.Timeouts = o.Timeouts.OrDefault()
	if o.OnRequest == nil {
		o.OnRequest = func(int) {}
	}
	if o.OnBytes == nil {
		o.OnBytes = func(int64) {}
	}
	if o.Network.Classify == nil {
		o.Network.Classify = ReachOf
	}
	if o.Network.Proxy == nil {
		o.Network.Proxy = http.ProxyFromEnvironment
	}
	if o.Trust == nil {
		o.Trust = Always(&Trust{})
	}
	c := &Client{
		root:      &url.URL{Scheme: o.URL.Scheme, Host: strings.ToLower(o.URL.Host)},
		hosts:     o.TokenHosts,
		guard:     &guard{classify: o.Network.Classify},
		stall:     o.Timeouts.Stall,
		userAgent: cmp.Or(o.UserAgent, "weir"),
		onRequest: o.OnRequest,
		onBytes:   o.OnBytes,
		proxy:     o.Network.Proxy,
		trust:     o.Trust,
	}
	if a, err := netip.ParseAddr(c.root.Hostname()); err == nil {
		c.guard.dialled(a)
	}
	c.connect = func(t *Trust) *ways { return c.newWays(o, t) }
	return c
}

// ways gives the connections, new ones if what they were made with is not what
// holds any more.
func (c *Client) ways() *ways {
	t := c.trust()
	if w := c.connected.Load(); w != nil && w.trust == t {
		return w
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.connected.Load()
	if w != nil && w.trust == t {
		return w
	}
	if w != nil {
		w.close() // what is in use is closed when it is not any more
	}
	w = c.connect(t)
	c.connected.Store(w)
	return w
}

func (c *Client) newWays(o Options, t *Trust) *ways {
	foreign := &tls.Config{RootCAs: t.CA, MinVersion: tls.VersionTLS12}
	own := foreign.Clone()
	if t.Certificate != nil {
		own.Certificates = []tls.Certificate{*t.Certificate}
	}
	plain := &net.Dialer{Timeout: o.Timeouts.Connect, Resolver: o.Network.Resolver}
	guarded := &net.Dialer{Timeout: o.Timeouts.Connect, Resolver: o.Network.Resolver, ControlContext: c.control(c.guard.admit)}
	// Its own host may be anywhere, as the operator says; but where a name leads is
	// for whoever has the name to say.
	home := plain
	if _, err := netip.ParseAddr(c.root.Hostname()); err != nil {
		home = &net.Dialer{Timeout: o.Timeouts.Connect, Resolver: o.Network.Resolver, ControlContext: c.control(c.guard.admitOwn)}
	}
	w := &ways{trust: t}
	w.own = newLines(own, o, c.proxy, func(ctx context.Context, network, addr string) (net.Conn, error) {
		// Through a proxy addr is the proxy's, and says nothing of the host.
		if addr != hostPort(c.root) {
			return plain.DialContext(ctx, network, addr)
		}
		conn, err := home.DialContext(ctx, network, addr)
		if err == nil {
			if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
				c.guard.dialled(at.Addr())
			}
		}
		return conn, err
	})
	w.foreign = newLines(foreign, o, nil, guarded.DialContext)
	w.relayed = newLines(foreign, o, c.proxy, plain.DialContext)
	return w
}

// control refuses an address right before it is connected to, so that it makes
// no difference which name led there, nor what the name stood for before.
func (*Client) control(admit func(netip.Addr) error) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: not an address", ErrAddress)
		}
		return admit(at.Addr())
	}
}

// Close lets go of the connections that are not in use. The client may be used on.
func (c *Client) Close() {
	if w := c.connected.Load(); w != nil {
		w.close()
	}
}

// String names whom it is for.
func (c *Client) String() string { return "egress to " + c.root.Host }

// GoString is String: what a client holds is not for printing.
func (c *Client) GoString() string { return c.String() }
