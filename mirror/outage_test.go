package mirror_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// front is a mirror of one upstream that is asked over HTTP, and asks so.
type front struct {
	t        testing.TB
	upstream *remotetest.Upstream
	tags     mirror.Tags
	blobs    store.Blobs
	records  store.Records
	reader   *fanout.Fanout
	mirror   *mirror.Mirror
	server   *httptest.Server
}

func newFront(t testing.TB, u *remotetest.Upstream, tags mirror.Tags) *front {
	f := &front{t: t, upstream: u, tags: tags, blobs: mem.NewBlobs(), records: mem.NewRecords()}
	f.start()
	t.Cleanup(f.stop)
	return f
}

func (f *front) start() {
	f.t.Helper()
	options := remote.Options{URL: f.upstream.URL(), Timeouts: remote.Timeouts{Header: 3 * time.Second}}
	if c := f.upstream.Certificate(); c != nil {
		ca := x509.NewCertPool()
		ca.AddCert(c)
		options.Trust = egress.Always(&egress.Trust{CA: ca})
	}
	endpoint, err := remote.New(options)
	if err != nil {
		f.t.Fatal(err)
	}
	f.reader = fanout.New("docker.io", []fanout.Endpoint{{Host: f.upstream.Host(), Reader: endpoint}},
		fanout.Options{Budget: 2800 * time.Millisecond}, nil)
	table, err := mirror.NewTable([]*mirror.Upstream{{
		Name: "docker.io", Tags: f.tags, Reader: f.reader,
	}}, "docker.io", "")
	if err != nil {
		f.t.Fatal(err)
	}
	spools, err := fill.OpenSpools(f.t.TempDir())
	if err != nil {
		f.t.Fatal(err)
	}
	f.mirror = mirror.New(newLocal(f.t, f.blobs, f.records), f.records,
		fill.NewGroup(spools, fill.Options{Limits: fill.Limits{Linger: fill.Complete, Streams: 4}}), table, mirror.Options{})
	f.server = httptest.NewServer(serve.New(f.mirror, serve.Options{Names: table}))
}

func (f *front) stop() {
	f.t.Helper()
	f.server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what an upstream is still asked that hangs is of no use
	_ = f.mirror.Close(ctx)
	f.reader.Close()
}

// settle waits until what was fetched is kept.
func (f *front) settle() {
	f.t.Helper()
	f.server.Close()
	if err := f.mirror.Close(context.Background()); err != nil {
		f.t.Error(err)
	}
	f.reader.Close()
	f.start()
}

// reply is what a request got.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (f *front) ask(q wish) reply {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), q.method, f.server.URL+q.path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if q.span != "" {
		req.Header.Set("Range", q.span)
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		f.t.Errorf("%s: %v", q, err)
		return reply{}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Errorf("%s: %v", q, err)
	}
	return reply{resp.StatusCode, resp.Header, b}
}

// wish is a request, and what it gets where the content is there.
type wish struct {
	method, path, span string
	tag                bool // it is by tag
	digest             digest.Digest
	content            []byte // what its digest names
}

func (q wish) String() string { return strings.TrimSpace(q.method + " " + q.path + " " + q.span) }

// met tells what is wrong with an answer to q that should be content, "" if nothing is.
func (q wish) met(a reply, cache string) string {
	want, status := q.content, http.StatusOK
	if q.span != "" {
		status = http.StatusPartialContent
		switch q.span {
		case "bytes=10-19":
			want = want[10:20]
		case "bytes=-5":
			want = want[len(want)-5:]
		default:
			want = want[len(want)/2:]
		}
	}
	length := len(want)
	if q.method == http.MethodHead {
		want = nil
	}
	switch {
	case a.status != status:
		return "status"
	case !bytes.Equal(a.body, want):
		return "body"
	case a.header.Get("Docker-Content-Digest") != q.digest.String():
		return "digest"
	case a.header.Get("Content-Length") != strconv.Itoa(length):
		return "length " + a.header.Get("Content-Length")
	case a.header.Get("Weir-Cache") != cache:
		return "Weir-Cache"
	case strings.HasPrefix(a.header.Get("Warning"), `299 - "stale: upstream docker.io `) != (cache == "stale"):
		return "Warning"
	}
	return ""
}

// wishes are all ways to ask for a manifest or a blob of library/nginx.
func wishes(kind, ref string, d digest.Digest, content []byte) []wish {
	path := "/v2/docker.io/library/nginx/" + kind + "/" + ref
	q := wish{method: http.MethodGet, path: path, tag: ref != d.String(), digest: d, content: content}
	list := []wish{q}
	q.method = http.MethodHead
	list = append(list, q)
	if kind == "blobs" {
		q.method = http.MethodGet
		for _, span := range []string{"bytes=10-19", "bytes=-5", "bytes=" + strconv.Itoa(len(content)/2) + "-"} {
			q.span = span
			list = append(list, q)
		}
	}
	return list
}

// stock is what the upstream of an outage has: cached gives what was pulled before,
// fresh what was not.
func stock(t testing.TB, u *remotetest.Upstream) (cached, fresh []wish) {
	t.Helper()
	const repo = "library/nginx"
	small, large := origintest.Bytes(1, 3000), origintest.Bytes(2, 300<<10)
	amd64 := u.AddImage(repo, "1.27", small, large)
	arm64 := u.AddImage(repo, "", origintest.Bytes(3, 3000))
	index := u.AddIndex(repo, "multi", amd64.Descriptor, arm64.Descriptor)
	client := &http.Client{}
	if c := u.Certificate(); c != nil {
		roots := x509.NewCertPool()
		roots.AddCert(c)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	}
	bytesOf := func(kind, ref string) []byte {
		resp, err := client.Get(u.URL().String() + "/v2/" + repo + "/" + kind + "/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	indexBytes, config := bytesOf("manifests", "multi"), bytesOf("blobs", amd64.Config.Digest.String())
	client.CloseIdleConnections()
	cached = append(cached, wishes("manifests", "multi", index.Digest, indexBytes)...)
	cached = append(cached, wishes("manifests", index.Digest.String(), index.Digest, indexBytes)...)
	cached = append(cached, wishes("blobs", amd64.Config.Digest.String(), amd64.Config.Digest, config)...)
	cached = append(cached, wishes("manifests", "1.27", amd64.Digest, amd64.Bytes)...)
	cached = append(cached, wishes("manifests", amd64.Digest.String(), amd64.Digest, amd64.Bytes)...)
	cached = append(cached, wishes("blobs", amd64.Layers[0].Digest.String(), amd64.Layers[0].Digest, small)...)
	cached = append(cached, wishes("blobs", amd64.Layers[1].Digest.String(), amd64.Layers[1].Digest, large)...)

	fresh = append(fresh, wishes("manifests", "other", arm64.Digest, arm64.Bytes)...)
	fresh = append(fresh, wishes("manifests", arm64.Digest.String(), arm64.Digest, arm64.Bytes)...)
	fresh = append(fresh, wishes("blobs", arm64.Layers[0].Digest.String(), arm64.Layers[0].Digest, origintest.Bytes(3, 3000))...)
	return cached, fresh
}

// Whatever happens to an upstream: what was pulled once is answered with its bytes, by
// a mirror that runs on and by one that starts while it lasts, and says that it is
// stale where it may be; what was not is answered with an error that says whether it is
// not there, or could not be asked for.
func TestOutage(t *testing.T) {
	for _, o := range remotetest.Outages() {
		t.Run(o.Name, func(t *testing.T) {
			t.Parallel()
			u := remotetest.New(t)
			if o.TLS {
				u = remotetest.NewTLS(t)
			}
			tags := defaultTags()
			tags.TTL = 0 // each pull is one past it
			tags.NegativeTTL = 10 * time.Minute
			f := newFront(t, u, tags)
			cached, fresh := stock(t, u)
			for _, q := range cached {
				if a := f.ask(q); a.status >= 300 {
					t.Fatalf("%s: %d %s", q, a.status, a.body)
				}
			}
			f.settle()

			o.Begin(u)
			for _, life := range []string{"running", "restarted"} {
				if life == "restarted" {
					f.stop()
					f.start()
				}
				u.Take()
				// All at once: each is the first for what it asks.
				var all sync.WaitGroup
				for _, q := range cached {
					all.Go(func() { f.served(life+", first", q) })
				}
				all.Wait()
				if o.Silent && u.Count(" -") == 0 {
					t.Errorf("%s: the upstream answered, or was not asked: %v", life, u.Requests())
				}
				asked := len(u.Take())
				if tags := 2; asked > 2*tags { // a check, and a challenge's
					t.Errorf("%s: the upstream was asked %d times about %d tags", life, asked, tags)
				}
				for _, q := range cached {
					f.served(life+", then", q)
				}
				// Whether it is back may be asked at any time: that costs it nothing.
				probe := func(r string) bool { return strings.HasPrefix(r, "GET /v2/ ") }
				if again := slices.DeleteFunc(u.Take(), probe); len(again) > 0 {
					t.Errorf("%s: and again: %v", life, again)
				}
				for _, q := range fresh {
					all.Go(func() {
						want := http.StatusBadGateway
						switch {
						case o.Gone:
							want = http.StatusNotFound
						case o.Limited:
							want = http.StatusServiceUnavailable
						case o.Silent:
							want = http.StatusGatewayTimeout
						}
						if a := f.ask(q); a.status != want {
							t.Errorf("%s: not cached, %s: %d %s, want %d", life, q, a.status, a.body, want)
						}
					})
				}
				all.Wait()
			}
		})
	}
}

// served wants the content that q asks for.
func (f *front) served(when string, q wish) {
	f.t.Helper()
	cache := "hit"
	if q.tag {
		cache = "stale"
	}
	a := f.ask(q)
	if wrong := q.met(a, cache); wrong != "" {
		f.t.Errorf("%s, %s: wrong is its %s: %d, %d bytes, %v", when, q, wrong, a.status, len(a.body), a.header)
	}
}

// A tag that was deleted upstream stays servable for stale_if_error, and says so; where
// stale_if_gone is off it is gone.
func TestDeletedUpstream(t *testing.T) {
	for _, ifGone := range []bool{true, false} {
		for _, life := range []string{"running", "restarted"} {
			t.Run(life, func(t *testing.T) {
				u := remotetest.New(t)
				tags := defaultTags()
				tags.TTL, tags.StaleIfGone = 0, ifGone
				f := newFront(t, u, tags)
				cached, _ := stock(t, u)
				for _, q := range cached {
					f.ask(q)
				}
				f.settle()
				u.Remove("library/nginx", "1.27")
				u.Remove("library/nginx", "multi")
				if life == "restarted" {
					f.stop()
					f.start()
				}
				for _, q := range cached {
					if !q.tag || ifGone {
						f.served("deleted", q)
					} else if a := f.ask(q); a.status != http.StatusNotFound {
						t.Errorf("%s: %d %s", q, a.status, a.body)
					}
				}
			})
		}
	}
}
