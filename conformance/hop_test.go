package conformance

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/mirror/foreign"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store/mem"
)

// hop is a registry at one end of HTTP, and a log of what it was asked.
type hop struct {
	url *url.URL
	t   testing.TB

	mu   sync.Mutex
	told *sync.Cond // an answer is complete
	log  []string
	over map[string]bool // lines that were answered
}

// serving puts a registry behind HTTP.
func serving(t testing.TB, r origin.Registry, names serve.Options) *hop {
	t.Helper()
	return newHop(t, serve.New(r, names))
}

func newHop(t testing.TB, h http.Handler) *hop {
	t.Helper()
	p := &hop{t: t, over: map[string]bool{}}
	p.told = sync.NewCond(&p.mu)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := lineOf(r)
		p.mu.Lock()
		p.log = append(p.log, line)
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.over[line] = true
			p.told.Broadcast()
		}()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	p.url = parsed(t, s.URL)
	return p
}

// before is a hop in front of a server that runs already.
func before(t testing.TB, at *url.URL) *hop {
	t.Helper()
	return newHop(t, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(at)
			r.Out.Host = r.In.Host // what it answers with leads here again
		},
		FlushInterval: -1,
	})
}

func parsed(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// lineOf is a request's method and path. An upload has no name that could be known
// before, and no state of its server's: ID, and the digest.
func lineOf(r *http.Request) string {
	path, query := r.URL.Path, r.URL.RawQuery
	if repo, id, ok := strings.Cut(path, "/blobs/uploads/"); ok && id != "" {
		path, query = repo+"/blobs/uploads/ID", ""
		if d := r.URL.Query().Get("digest"); d != "" {
			query = "digest=" + d
		}
	}
	if query != "" {
		path += "?" + query
	}
	return r.Method + " " + path
}

// await waits for the end of a request.
func (p *hop) await(line string) {
	p.t.Helper()
	defer context.AfterFunc(p.t.Context(), p.told.Broadcast)()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.over[line] && p.t.Context().Err() == nil {
		p.told.Wait()
	}
}

// took gives the requests that came since the last time.
func (p *hop) took() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log, p.over = nil, map[string]bool{}
	return log
}

// check wants that these requests came since the last time, in this order.
func (p *hop) check(what string, want ...string) {
	p.t.Helper()
	if got := p.took(); !slices.Equal(got, want) {
		p.t.Errorf("%s was asked\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// client is a registry's client, which reads and writes.
func client(t testing.TB, at *url.URL) *remote.Origin {
	t.Helper()
	r, err := remote.NewOrigin(remote.Options{URL: at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// reader is a client that reads alone, as of an upstream.
func reader(t testing.TB, at *url.URL) *remote.Registry {
	t.Helper()
	r, err := remote.New(remote.Options{URL: at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// newLocal is weir's own registry, in memory.
func newLocal(t testing.TB) *local.Registry {
	t.Helper()
	r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const upstreamName = "upstream.test"

// tableOf routes to one upstream; standard says whether it is the default one.
func tableOf(t testing.TB, up *url.URL, standard bool) *mirror.Table {
	t.Helper()
	name := ""
	if standard {
		name = upstreamName
	}
	endpoints := fanout.New(upstreamName, []fanout.Endpoint{{Host: up.Host, Reader: reader(t, up)}}, fanout.Options{}, nil)
	t.Cleanup(endpoints.Close)
	table, err := mirror.NewTable([]*mirror.Upstream{{
		Name:   upstreamName,
		Reader: endpoints,
		Tags:   mirror.Tags{TTL: 1 << 40, StaleIfError: 1 << 40, NegativeTTL: 1 << 30},
	}}, name, "")
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// inProcess is a mirror over its own registry, behind HTTP.
func inProcess(t testing.TB, up *url.URL, standard bool) *hop {
	t.Helper()
	table := tableOf(t, up, standard)
	return mirroring(t, table, newLocal(t), func(context.Context) {})
}

// sidecar is a mirror in front of another registry, behind HTTP.
func sidecar(t testing.TB, up, behind *url.URL, standard bool) *hop {
	t.Helper()
	table := tableOf(t, up, standard)
	f := foreign.New(client(t, behind), mem.NewRecords(), foreign.Options{Mirrored: table.Mirrored})
	return mirroring(t, table, f, f.Close)
}

func mirroring(t testing.TB, table *mirror.Table, o origin.Registry, drain func(context.Context)) *hop {
	t.Helper()
	spools, err := fill.OpenSpools(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := mirror.New(o, mem.NewRecords(), fill.NewGroup(spools, fill.Options{Limits: fill.Limits{Linger: fill.Complete, Streams: 4}}), table, mirror.Options{Delete: true})
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		drain(context.Background())
		if err := spools.Close(); err != nil {
			t.Error(err)
		}
	})
	return serving(t, m, serve.Options{Names: table})
}
