package remote_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store/mem"
)

// far is weir's own registry behind HTTP, and a log of what it was asked.
type far struct {
	*httptest.Server
	t testing.TB

	mu     sync.Mutex
	log    []string
	before func(w http.ResponseWriter, r *http.Request) bool // true: it answered itself
}

func newFar(t testing.TB) *far {
	t.Helper()
	reg, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return serving(t, serve.New(reg, serve.Options{}))
}

func serving(t testing.TB, h http.Handler) *far {
	t.Helper()
	f := &far{t: t}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.log = append(f.log, r.Method+" "+r.URL.RequestURI())
		before := f.before
		f.mu.Unlock()
		if before == nil || !before(w, r) {
			h.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

// answer has requests answered by f before the registry.
func (f *far) answer(with func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = with
}

// took gives the requests since it was last called, with an upload's id as ID.
func (f *far) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, line := range f.log {
		if before, after, ok := strings.Cut(line, "/blobs/uploads/"); ok && after != "" && after[0] != '?' {
			_, query, _ := strings.Cut(after, "?")
			line = strings.TrimSuffix(before+"/blobs/uploads/ID?"+query, "?")
		}
		line, _ = url.QueryUnescape(line)
		lines = append(lines, line)
	}
	f.log = nil
	return lines
}

// origin is a client of it.
func (f *far) origin(change ...func(*remote.Options)) *remote.Origin {
	f.t.Helper()
	at, err := url.Parse(f.URL)
	if err != nil {
		f.t.Fatal(err)
	}
	o := remote.Options{URL: at, UserAgent: "weir/test"}
	for _, c := range change {
		c(&o)
	}
	r, err := remote.NewOrigin(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(r.Close)
	return r
}

// A registry at the other end of HTTP is one like any other.
func TestOriginIsARegistry(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry { return newFar(t).origin() })
}

// So is a part of one.
func TestOriginBelowAPrefix(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		f := newFar(t)
		origintest.Image([]byte("{}")).Push(t, f.origin(), "aside", "x")
		return f.origin(func(o *remote.Options) { o.URL = o.URL.JoinPath("proj", "ect") })
	})
}

// And one at the end of two.
func TestOriginOverOrigin(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		return serving(t, serve.New(newFar(t).origin(), serve.Options{})).origin()
	})
}
