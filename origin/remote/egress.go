package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	maxHops   = 10       // redirects of one request; as browsers and curl's users are used to
	maxHeader = 64 << 10 // bytes of an answer's header; signed addresses in Location take 2 KiB
	idleConns = 64       // kept per host: a cold pull of many images at once reuses them
)

// egress sends requests. Every byte that leaves for an upstream leaves here.
//
// It uses RoundTrippers rather than an http.Client: that one keeps Authorization
// over a redirect to another port of the same host, and puts whole URLs, with
// signatures in their queries, into its errors.
type egress struct {
	root      *url.URL
	guard     *guard
	stall     time.Duration
	userAgent string
	onRequest func(status int)
	onBytes   func(n int64)

	own     http.RoundTripper // to the endpoint itself
	foreign http.RoundTripper // to where it leads, each address checked
	relayed http.RoundTripper // the same through the operator's proxy, which dials
	proxy   func(*http.Request) (*url.URL, error)
}

func newEgress(root *url.URL, o Options) *egress {
	e := &egress{
		root:      root,
		guard:     &guard{classify: reachOf},
		stall:     o.Timeouts.Stall,
		userAgent: o.UserAgent,
		onRequest: o.OnRequest,
		onBytes:   o.OnBytes,
		proxy:     http.ProxyFromEnvironment,
	}
	if a, err := netip.ParseAddr(root.Hostname()); err == nil {
		e.guard.dialled(a)
	}
	foreign := &tls.Config{RootCAs: o.CA, MinVersion: tls.VersionTLS12}
	own := foreign.Clone()
	if o.Certificate != nil {
		own.Certificates = []tls.Certificate{*o.Certificate}
	}
	plain := &net.Dialer{Timeout: o.Timeouts.Connect}
	guarded := &net.Dialer{Timeout: o.Timeouts.Connect, ControlContext: e.control}
	e.own = newTransport(own, o, e.proxy, func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := plain.DialContext(ctx, network, addr)
		// Through a proxy addr is the proxy's, and says nothing of the endpoint.
		if err == nil && addr == hostPort(root) {
			if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
				e.guard.dialled(at.Addr())
			}
		}
		return conn, err
	})
	e.foreign = newTransport(foreign, o, nil, guarded.DialContext)
	e.relayed = newTransport(foreign.Clone(), o, e.proxy, plain.DialContext)
	return e
}

func newTransport(
	t *tls.Config, o Options, proxy func(*http.Request) (*url.URL, error),
	dial func(ctx context.Context, network, addr string) (net.Conn, error),
) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dial,
		TLSClientConfig:        t,
		TLSHandshakeTimeout:    o.Timeouts.Connect,
		ResponseHeaderTimeout:  o.Timeouts.Header,
		MaxResponseHeaderBytes: maxHeader,
		MaxConnsPerHost:        o.MaxConnections,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // digests and ranges are of the bytes as they are
		ForceAttemptHTTP2:      true,
		// A dead HTTP/2 connection takes no further request with it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: o.Timeouts.Header, PingTimeout: o.Timeouts.Header},
	}
}

// control refuses an address right before it is connected to, so that it makes
// no difference which name led there, nor what the name stood for before.
func (e *egress) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: not an address", errAddress)
	}
	return e.guard.admit(at.Addr())
}

func (e *egress) close() {
	for _, t := range []http.RoundTripper{e.own, e.foreign, e.relayed} {
		if t, ok := t.(*http.Transport); ok {
			t.CloseIdleConnections()
		}
	}
}

// follow sends a request, follows where it is redirected, and gives the answer at
// the end. Authorization goes with the first request only; the header, which is
// small and ours (Accept, Range), with all. GET and HEAD alone.
func (e *egress) follow(ctx context.Context, method string, u *url.URL, h http.Header, authorization secret) (*answer, error) {
	for hop := 0; ; hop++ {
		a, err := e.send(ctx, method, u, h, authorization)
		if err != nil {
			if hop > 0 {
				return nil, fmt.Errorf("redirected to %s: %w", u.Host, err)
			}
			return nil, err
		}
		if !isRedirect(a.StatusCode) {
			a.led = hop > 0
			return a, nil
		}
		location := a.Header.Get("Location")
		a.discard()
		if hop == maxHops {
			return nil, fmt.Errorf("more than %d redirects", maxHops)
		}
		if u, err = e.lead(u, location); err != nil {
			return nil, fmt.Errorf("redirect: %w", err)
		}
		authorization = secret{}
	}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// lead gives the address that the upstream names, seen from another one, if it
// may lead there at all. Its errors do not quote it: it may hold a signature.
func (e *egress) lead(from *url.URL, to string) (*url.URL, error) {
	ref, err := url.Parse(to)
	if to == "" || err != nil {
		return nil, errors.New("not a URL")
	}
	u := from.ResolveReference(ref)
	u.Fragment = ""
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("not an http or https URL with a host")
	case u.User != nil:
		return nil, errors.New("a URL with credentials in it")
	case u.Scheme == "http" && e.root.Scheme != "http":
		return nil, fmt.Errorf("from https to http at %s", u.Host)
	}
	return u, nil
}

// send sends one request. The answer's body is watched: see body.
func (e *egress) send(parent context.Context, method string, u *url.URL, h http.Header, authorization secret) (*answer, error) {
	ctx, cancel := context.WithCancelCause(parent)
	header := http.Header{"User-Agent": {e.userAgent}}
	for _, key := range []string{"Accept", "Range"} {
		if v := h.Get(key); v != "" {
			header.Set(key, v)
		}
	}
	if authorization != (secret{}) {
		if !sameOrigin(u, e.root) && !e.tokenServer(u) {
			cancel(nil)
			return nil, fmt.Errorf("no credentials for %s", u.Host) // whoever asked should have known
		}
		header.Set("Authorization", authorization.reveal())
	}
	req := (&http.Request{Method: method, URL: u, Host: u.Host, Header: header}).WithContext(ctx)
	via, err := e.via(req)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		cancel(nil)
		if parent.Err() != nil {
			return nil, parent.Err()
		}
		e.onRequest(0)
		return nil, err
	}
	e.onRequest(resp.StatusCode)
	resp.Body = newBody(parent, ctx, cancel, resp.Body, e.stall, e.onBytes)
	return newAnswer(resp, authorization), nil
}

// via picks the way that a request takes.
func (e *egress) via(req *http.Request) (http.RoundTripper, error) {
	if sameOrigin(req.URL, e.root) {
		return e.own, nil
	}
	if err := e.guard.admitHost(req.URL.Hostname()); err != nil {
		return nil, err
	}
	proxy, err := e.proxy(req)
	if err != nil {
		return nil, errors.New("the proxy of the environment is not a URL")
	}
	if proxy != nil {
		return e.relayed, nil
	}
	return e.foreign, nil
}

// tokenServer reports whether the endpoint's credentials may go to a token server
// at u: to its own host and port, or Docker Hub's; not in the clear unless the
// endpoint itself is.
func (e *egress) tokenServer(u *url.URL) bool {
	if u.Scheme != "https" && e.root.Scheme != "http" {
		return false
	}
	own, at := hostPort(e.root), hostPort(u)
	return at == own || own == "registry-1.docker.io:443" && at == "auth.docker.io:443"
}

// sameOrigin reports whether two URLs lead to the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && hostPort(a) == hostPort(b)
}

// hostPort is the host in lower case and the port, given or not.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
