package s3test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Fault is what happens to a request.
type Fault struct {
	kind fault
	code string
	n    int64
}

type fault int

const (
	pass fault = iota
	status
	okError
	reset
	lost
	hang
	cut
	flip
	unconditional
	stale
)

// The faults that need no more to be said.
var (
	None  = Fault{}
	Reset = Fault{kind: reset} // the connection is reset, and the server asked nothing
	Lost  = Fault{kind: lost}  // the server does it, and the answer is lost
	Hang  = Fault{kind: hang}  // nobody answers
	// Unconditional takes the conditions off the request.
	Unconditional = Fault{kind: unconditional}
	// Stale gives a request the answer that it got when it was Stale for the first time.
	Stale = Fault{kind: stale}
)

// Answer is an error with that status and code; the server is asked nothing.
func Answer(statusCode int, code string) Fault {
	return Fault{kind: status, n: int64(statusCode), code: code}
}

// Lag gives a request an answer that is up to so old.
func Lag(most time.Duration) Fault { return Fault{kind: stale, n: int64(most)} }

// OKError is an answer of 200 that has an error in its body; the server is asked nothing.
func OKError(code string) Fault { return Fault{kind: okError, code: code} }

// Cut lets n bytes of the answer's body pass, and resets the connection.
func Cut(n int64) Fault { return Fault{kind: cut, n: n} }

// Flip changes byte n of the answer's body.
func Flip(n int64) Fault { return Fault{kind: flip, n: n} }

// Faults stands before a server.
type Faults struct {
	URL string

	mu    sync.Mutex
	judge func(*http.Request) Fault
	seen  []string
	old   map[string]answered // by method and URL
}

// answered is what was answered, and when that was asked.
type answered struct {
	at  time.Time
	got *httptest.ResponseRecorder
}

// NewFaults lets all requests pass, until Set says otherwise.
func NewFaults(t testing.TB, s *Server) *Faults {
	t.Helper()
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := &Faults{judge: func(*http.Request) Fault { return None }}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { hangUp(w) },
		// No buffer stays between a body that is cut and who reads it.
		FlushInterval: -1,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(w, r, proxy) }))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	f.URL = server.URL
	return f
}

// Set lets judge decide on every request from now on. Only its method, URL and header are
// there to be looked at. It is called by one request at a time.
func (f *Faults) Set(judge func(*http.Request) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.judge = judge
	f.seen = nil
}

// Seen gives the requests since Set: method, path below the bucket, and query.
func (f *Faults) Seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func (f *Faults) decide(r *http.Request) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	line := r.Method + " " + key
	if r.URL.RawQuery != "" {
		line += "?" + r.URL.RawQuery
	}
	f.seen = append(f.seen, line)
	return f.judge(r)
}

func (f *Faults) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	what := f.decide(r)
	switch what.kind {
	case status, okError:
		_, _ = io.Copy(io.Discard, r.Body) // or the client may not get to read the answer
		w.Header().Set("Content-Type", "application/xml")
		if what.kind == status {
			w.WriteHeader(int(what.n))
		}
		fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>injected</Message></Error>", what.code)
	case reset:
		hangUp(w)
	case hang:
		_, _ = io.Copy(io.Discard, r.Body) // only then does it notice that the client has left
		<-r.Context().Done()
		hangUp(w)
	case lost:
		next.ServeHTTP(httptest.NewRecorder(), r)
		hangUp(w)
	case cut, flip:
		got := httptest.NewRecorder()
		next.ServeHTTP(got, r)
		spoil(w, got, what)
	case unconditional:
		if r.Header.Get("If-Match")+r.Header.Get("If-None-Match") != "" {
			r.Header.Del("If-Match")
			r.Header.Del("If-None-Match")
			if err := sign(r); err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
		}
		next.ServeHTTP(w, r)
	case stale:
		spoil(w, f.first(r, next, time.Duration(what.n)), what)
	default:
		next.ServeHTTP(w, r)
	}
}

// first gives what a request was answered for the first time, or for the first time in most.
func (f *Faults) first(r *http.Request, next http.Handler, most time.Duration) *httptest.ResponseRecorder {
	is := r.Method + " " + r.URL.String()
	f.mu.Lock()
	old, ok := f.old[is]
	f.mu.Unlock()
	if ok && (most == 0 || time.Since(old.at) < most) {
		return old.got
	}
	now := answered{time.Now(), httptest.NewRecorder()}
	next.ServeHTTP(now.got, r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.old == nil {
		f.old = map[string]answered{}
	}
	if _, ok := f.old[is]; !ok || most > 0 {
		f.old[is] = now
	}
	return f.old[is].got
}

// sign signs a request anew, which is not as it was.
func sign(r *http.Request) error {
	r.Header.Del("Authorization")
	r.URL.Host, r.URL.Scheme = r.Host, "http"
	who := aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return signer.SignHTTP(r.Context(), who, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", "us-east-1", time.Now())
}

// spoil passes on an answer that is not as it was.
func spoil(w http.ResponseWriter, got *httptest.ResponseRecorder, what Fault) {
	body := bytes.Clone(got.Body.Bytes())
	if what.kind == flip && what.n < int64(len(body)) {
		body[what.n] ^= 1
	}
	maps.Copy(w.Header(), got.Header())
	w.WriteHeader(got.Code)
	if what.kind == cut && what.n < int64(len(body)) {
		_, _ = w.Write(body[:what.n])
		_ = http.NewResponseController(w).Flush()
		hangUp(w)
		return
	}
	_, _ = w.Write(body)
}

// hangUp resets the connection.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
