package remotetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Upstream is the registry. All methods may be called while it serves.
type Upstream struct {
	t      testing.TB
	url    *url.URL
	secure bool
	ended  context.Context // with the test
	end    context.CancelFunc
	conns  atomic.Int64

	mu          sync.Mutex
	repos       map[string]*repo
	log         []*Request
	faults      []*armed
	servers     []*httptest.Server
	certificate *x509.Certificate // of all its ports
	shown       *tls.Certificate  // instead of it; nil: it
	basic       string            // the Authorization it wants, "" = none
	bearer      *bearer
	cdn         *url.URL // blobs are redirected there, nil = not
	signature   string   // of addresses there
	signatures  int      // how many are worthless
	page        int      // items of a page of a listing, 0 = all
	noAPI       bool     // has no referrers API
	token       *url.URL // of the token server, nil = not started
}

// Request is one that came.
type Request struct {
	Server string // "" = the registry, "token", "cdn"
	Method string
	URI    string // path and query
	Range  string // the Range header
	Header http.Header
	Proto  string // "HTTP/1.1", "HTTP/2.0"
	Conn   int    // the connection that it came on; all ports together count from 1
	Status int    // 0 = not answered yet
	// Sent is how much of the body of a 200 or a 206 has left, as far as the
	// connection took it: a client that left may not have read it all.
	Sent int64
}

// String gives the method, the server with a colon unless it is the registry, the
// path and query, the range if one was asked for, and the status ("-" where there
// is none yet): "GET /v2/library/nginx/blobs/sha256:… bytes=0-99 206".
func (r Request) String() string {
	s := r.line()
	if r.Range != "" {
		s += " " + r.Range
	}
	if r.Status == 0 {
		return s + " -"
	}
	return fmt.Sprintf("%s %d", s, r.Status)
}

// line is what Fault and Gate match.
func (r Request) line() string {
	if r.Server == "" {
		return r.Method + " " + r.URI
	}
	return r.Method + " " + r.Server + ":" + r.URI
}

// New starts an upstream that has nothing and asks nobody for credentials. It
// ends with the test, and all that it holds back does.
func New(t testing.TB) *Upstream { return start(t, false) }

// NewTLS is New with https and HTTP/2: see [Upstream.Certificate].
func NewTLS(t testing.TB) *Upstream { return start(t, true) }

func start(t testing.TB, secure bool) *Upstream {
	u := &Upstream{t: t, secure: secure, repos: map[string]*repo{}}
	u.ended, u.end = context.WithCancel(context.Background())
	u.url = u.serve("", http.HandlerFunc(u.registry))
	return u
}

// Certificate is what all ports of an upstream with TLS show; it is its own CA.
func (u *Upstream) Certificate() *x509.Certificate {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.certificate
}

// URL is where it is: http or https, a loopback address and a port.
func (u *Upstream) URL() *url.URL {
	at := *u.url
	return &at
}

// Host is its address and port.
func (u *Upstream) Host() string { return u.url.Host }

// Log gives the requests that came, to all its ports.
func (u *Upstream) Log() []Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []Request
	for _, r := range u.log {
		out = append(out, *r)
	}
	return out
}

// Requests gives the log as lines: see [Request.String].
func (u *Upstream) Requests() []string {
	var lines []string
	for _, r := range u.Log() {
		lines = append(lines, r.String())
	}
	return lines
}

// Take gives the log as lines and empties it.
func (u *Upstream) Take() []string {
	lines := u.Requests()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.log = u.log[min(len(lines), len(u.log)):]
	return lines
}

// Count is the number of requests whose line contains match.
func (u *Upstream) Count(match string) int {
	n := 0
	for _, line := range u.Requests() {
		if strings.Contains(line, match) {
			n++
		}
	}
	return n
}

// Sent is how many bytes of bodies have left in answer to the requests whose line
// contains match: see [Request]. It is what was asked for once if no byte went
// twice.
func (u *Upstream) Sent(match string) int64 {
	var n int64
	for _, r := range u.Log() {
		if strings.Contains(r.String(), match) {
			n += r.Sent
		}
	}
	return n
}

// Connections is the number of connections that the requests whose line contains
// match came on.
func (u *Upstream) Connections(match string) int {
	conns := map[int]bool{}
	for _, r := range u.Log() {
		if strings.Contains(r.String(), match) {
			conns[r.Conn] = true
		}
	}
	return len(conns)
}

// connection is one that a client made; connectionKey is for its requests'
// contexts.
type (
	connection    struct{ number int }
	connectionKey struct{}
)

// serve starts one of the upstream's ports.
func (u *Upstream) serve(name string, h http.Handler) *url.URL {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.answer(name, h, w, r)
	}))
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, &connection{number: int(u.conns.Add(1))})
	}
	if u.secure {
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{GetConfigForClient: u.impostor}
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // that a client refuses a certificate is for the test to see
		s.StartTLS()
		u.mu.Lock()
		u.certificate = s.Certificate()
		u.mu.Unlock()
	} else {
		s.Start()
	}
	u.mu.Lock()
	u.servers = append(u.servers, s)
	u.mu.Unlock()
	u.t.Cleanup(func() {
		u.end()
		s.CloseClientConnections()
		s.Close()
	})
	at, err := url.Parse(s.URL)
	if err != nil {
		u.t.Fatal(err)
	}
	return at
}

// answer writes the request down and answers it as the faults that fit it say.
func (u *Upstream) answer(server string, h http.Handler, w http.ResponseWriter, r *http.Request) {
	req := &Request{
		Server: server, Method: r.Method, URI: r.URL.RequestURI(),
		Range: r.Header.Get("Range"), Header: r.Header.Clone(), Proto: r.Proto,
	}
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		req.Conn = c.number
	}
	u.mu.Lock()
	u.log = append(u.log, req)
	// The last that was armed stands in front.
	for _, f := range u.faults {
		if strings.Contains(req.line(), f.match) {
			h = f.fault(h)
		}
	}
	u.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(u.ended, cancel)()
	h.ServeHTTP(&recorder{
		ResponseWriter: w,
		note: func(status int) {
			u.mu.Lock()
			defer u.mu.Unlock()
			if req.Status == 0 {
				req.Status = status
			}
		},
		count: func(n int) {
			u.mu.Lock()
			defer u.mu.Unlock()
			if req.Method != http.MethodHead && (req.Status == http.StatusOK || req.Status == http.StatusPartialContent) {
				req.Sent += int64(n)
			}
		},
	}, r.WithContext(ctx))
}

// recorder notes the status of an answer, and what leaves of it, before any byte
// leaves, so that whoever has the answer finds it in the log.
type recorder struct {
	http.ResponseWriter
	note  func(status int)
	count func(n int)
}

func (w *recorder) WriteHeader(status int) {
	w.note(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.note(http.StatusOK)
	w.count(len(b)) // whoever has the last byte finds it counted
	n, err := w.ResponseWriter.Write(b)
	w.count(n - len(b))
	return n, err
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type armed struct {
	match string
	fault Fault
}

// arm puts a fault in place and gives what takes it away.
func (u *Upstream) arm(a *armed) (disarm func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = append(u.faults, a)
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.faults = slices.DeleteFunc(u.faults, func(f *armed) bool { return f == a })
	}
}
