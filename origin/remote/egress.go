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

// maxHops is how many redirects of one request are followed; as browsers and
// curl's users are used to.
const maxHops = 10

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
	onLimit   func(limit, remaining int, window time.Duration)

	own     lines // to the endpoint itself
	foreign lines // to where it leads, each address checked
	relayed lines // the same through the operator's proxy, which dials
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
		onLimit:   o.OnLimit,
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
	e.own = newLines(own, o, e.proxy, func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := plain.DialContext(ctx, network, addr)
		// Through a proxy addr is the proxy's, and says nothing of the endpoint.
		if err == nil && addr == hostPort(root) {
			if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
				e.guard.dialled(at.Addr())
			}
		}
		return conn, err
	})
	e.foreign = newLines(foreign, o, nil, guarded.DialContext)
	e.relayed = newLines(foreign, o, e.proxy, plain.DialContext)
	return e
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
	for _, l := range []lines{e.own, e.foreign, e.relayed} {
		l.close()
	}
}

// question is a request, but for what it takes to be let in.
type question struct {
	method string // GET or HEAD
	url    *url.URL
	accept string // the Accept header, "" = none
	span   string // the Range header, "" = none
	bulk   bool   // a blob is asked for: see lines
}

// follow sends a request, follows where it is redirected, and gives the answer at
// the end. Authorization goes with the first request only, the rest with all.
func (e *egress) follow(ctx context.Context, q question, authorization secret) (*answer, error) {
	for hop := 0; ; hop++ {
		a, err := e.send(ctx, q, authorization)
		if err != nil {
			if hop > 0 {
				return nil, fmt.Errorf("redirected to %s: %w", q.url.Host, err)
			}
			return nil, &silence{err}
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
		if q.url, err = e.lead(q.url, location); err != nil {
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
func (e *egress) send(parent context.Context, q question, authorization secret) (*answer, error) {
	ctx, cancel := context.WithCancelCause(parent)
	header := http.Header{"User-Agent": {e.userAgent}}
	if q.accept != "" {
		header.Set("Accept", q.accept)
	}
	if q.span != "" {
		header.Set("Range", q.span)
	}
	if authorization != (secret{}) {
		if !sameOrigin(q.url, e.root) && !e.tokenServer(q.url) {
			cancel(nil)
			return nil, fmt.Errorf("no credentials for %s", q.url.Host) // whoever asked should have known
		}
		header.Set("Authorization", authorization.reveal())
	}
	req := (&http.Request{Method: q.method, URL: q.url, Host: q.url.Host, Header: header}).WithContext(ctx)
	via, err := e.via(req)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp, err := via.pick(q.bulk).RoundTrip(req)
	if err != nil {
		cancel(nil)
		if parent.Err() != nil {
			return nil, parent.Err()
		}
		e.onRequest(0)
		return nil, err
	}
	e.onRequest(resp.StatusCode)
	if limit, remaining, window, ok := readLimit(resp.Header); ok && sameOrigin(q.url, e.root) {
		e.onLimit(limit, remaining, window)
	}
	resp.Body = newBody(parent, ctx, cancel, resp.Body, e.stall, e.onBytes)
	return newAnswer(resp, q.url, authorization), nil
}

// via picks the way that a request takes.
func (e *egress) via(req *http.Request) (lines, error) {
	if sameOrigin(req.URL, e.root) {
		return e.own, nil
	}
	if err := e.guard.admitHost(req.URL.Hostname()); err != nil {
		return lines{}, err
	}
	proxy, err := e.proxy(req)
	if err != nil {
		return lines{}, errors.New("the proxy of the environment is not a URL")
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
