package remotetest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Upstream is the registry. All methods may be called while it serves.
type Upstream struct {
	t   testing.TB
	url *url.URL

	mu     sync.Mutex
	repos  map[string]*repo
	log    []*Request
	faults []*armed
	basic  string // the Authorization it wants, "" = none
	bearer *bearer
	cdn    *url.URL // blobs are redirected there, nil = not
	page   int      // items of a page of a listing, 0 = all
	noAPI  bool     // has no referrers API
	token  *url.URL // of the token server, nil = not started
}

// Request is one that came.
type Request struct {
	Server string // "" = the registry, "token", "cdn"
	Method string
	URI    string // path and query
	Range  string // the Range header
	Header http.Header
	Status int // 0 = not answered yet
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
// ends with the test, and opens all its gates then.
func New(t testing.TB) *Upstream {
	u := &Upstream{t: t, repos: map[string]*repo{}}
	u.url = u.serve("", http.HandlerFunc(u.registry))
	return u
}

// URL is where it is: http, a loopback address and a port.
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

// serve starts one of the upstream's ports.
func (u *Upstream) serve(name string, h http.Handler) *url.URL {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.answer(name, h, w, r)
	}))
	u.t.Cleanup(func() {
		u.openAll()
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
		Range: r.Header.Get("Range"), Header: r.Header.Clone(),
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
	h.ServeHTTP(&recorder{ResponseWriter: w, note: func(status int) {
		u.mu.Lock()
		defer u.mu.Unlock()
		if req.Status == 0 {
			req.Status = status
		}
	}}, r)
}

// recorder notes the status of an answer before any byte of it leaves, so that
// whoever has the answer finds it in the log.
type recorder struct {
	http.ResponseWriter
	note func(status int)
}

func (w *recorder) WriteHeader(status int) {
	w.note(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.note(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type armed struct {
	match string
	fault Fault
	gate  *Gate
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

func (u *Upstream) openAll() {
	u.mu.Lock()
	faults := slices.Clone(u.faults)
	u.mu.Unlock()
	for _, f := range faults {
		if f.gate != nil {
			f.gate.Open()
		}
	}
}
