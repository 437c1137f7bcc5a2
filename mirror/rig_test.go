package mirror_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// endpoint is an upstream in this process: a registry, a log of what it was asked,
// and a hand on its answers.
type endpoint struct {
	origin.Registry
	host string
	fail func(ctx context.Context, ask string) error // instead of an answer; nil: answers
	cut  func(r store.Range) int64                   // bytes of a blob after which the answer breaks off, -1: none; nil: never

	mu  sync.Mutex
	log []string
}

func newEndpoint(t testing.TB, host string) *endpoint {
	return &endpoint{Registry: newLocal(t, mem.NewBlobs(), mem.NewRecords()), host: host}
}

func newLocal(t testing.TB, blobs store.Blobs, records store.Records) *local.Registry {
	t.Helper()
	r, err := local.New(blobs, records, local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// took gives what was asked since it was last called.
func (e *endpoint) took() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	log := e.log
	e.log = nil
	return log
}

// asked writes down a question and gives what fails it.
func (e *endpoint) asked(ctx context.Context, format string, args ...any) error {
	ask := fmt.Sprintf(format, args...)
	e.mu.Lock()
	e.log = append(e.log, ask)
	fail := e.fail
	e.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx, ask)
}

// said makes an answer an upstream's.
func said[T any](e *endpoint, answer T, err error) (T, error) {
	var none T
	switch {
	case err == nil:
		return answer, nil
	case origin.Unknown(err):
		return none, e.status(404)
	default:
		return none, err
	}
}

func (e *endpoint) status(code int) *origin.UpstreamError {
	cause := origin.ErrUnavailable
	if code < 500 && code != 429 {
		cause = origin.ErrManifestUnknown
	}
	return &origin.UpstreamError{Endpoint: e.host, Status: code, Err: cause}
}

// failing sets what fails it while it is being asked.
func (e *endpoint) failing(fail func(ctx context.Context, ask string) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail = fail
}

// down is the failure of an upstream that refuses connections.
func (e *endpoint) down(context.Context, string) error {
	return &origin.UpstreamError{Endpoint: e.host, Silent: true, Err: origin.ErrUnavailable}
}

// limits is the failure of one that wants to be asked in half a minute.
func (e *endpoint) limits(context.Context, string) error {
	err := e.status(429)
	err.RetryAfter = 30 * time.Second
	return err
}

// hang is the failure of one that never answers.
func (e *endpoint) hang(ctx context.Context, _ string) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(15 * time.Second):
		return &origin.UpstreamError{Endpoint: e.host, Timeout: true, Silent: true, Err: origin.ErrUnavailable}
	}
}

// pinged is an endpoint that is found to be back without being asked (fanout.Pinger), as
// those over HTTP are.
type pinged struct{ *endpoint }

func (e pinged) Ping(ctx context.Context) error {
	e.mu.Lock()
	fail := e.fail
	e.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx, "GET /v2/")
}

func (e *endpoint) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if err := e.asked(ctx, "HEAD %s %s", repo, ref); err != nil {
		return origin.Descriptor{}, err
	}
	d, err := e.Registry.Resolve(ctx, repo, ref)
	d.Source.Upstream = e.host
	return said(e, d, err)
}

func (e *endpoint) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	if err := e.asked(ctx, "GET %s %s", repo, ref); err != nil {
		return origin.Manifest{}, err
	}
	m, err := e.Registry.Manifest(ctx, repo, ref)
	m.Source.Upstream = e.host
	return said(e, m, err)
}

func (e *endpoint) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if err := e.asked(ctx, "HEAD %s blob %s", repo, d); err != nil {
		return origin.Descriptor{}, err
	}
	desc, err := e.Registry.Stat(ctx, repo, d)
	desc.Source.Upstream = e.host
	return said(e, desc, err)
}

func (e *endpoint) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	if err := e.asked(ctx, "GET %s blob %s", repo, d); err != nil {
		return origin.Blob{}, err
	}
	b, err := e.Registry.Blob(ctx, repo, d, r)
	b.Source.Upstream = e.host
	if err == nil && e.cut != nil {
		if n := e.cut(r); n >= 0 {
			b.Body = &cutBody{ReadCloser: b.Body, left: n, err: e.status(0)}
		}
	}
	return said(e, b, err)
}

// cutBody breaks off.
type cutBody struct {
	io.ReadCloser
	left int64
	err  error
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, c.err
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

func (e *endpoint) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	if err := e.asked(ctx, "LIST %s", repo); err != nil {
		return origin.List[string]{}, err
	}
	l, err := e.Registry.Tags(ctx, repo, p)
	return said(e, l, err)
}

func (e *endpoint) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	if err := e.asked(ctx, "REFERRERS %s %s", repo, d); err != nil {
		return origin.List[origin.Descriptor]{}, err
	}
	l, err := e.Registry.Referrers(ctx, repo, d, artifactType, p)
	return said(e, l, err)
}

// rig is a mirror of two upstreams, docker.io, with one endpoint or more, and
// ghcr.io, over an origin in memory.
type rig struct {
	*mirror.Mirror
	t       testing.TB
	hub     []*endpoint
	ghcr    *endpoint
	origin  *local.Registry
	blobs   store.Blobs
	records store.Records
	spools  string // directory; "": one of its own
	meter   *meter
	tags    mirror.Tags
	limits  *fanout.Limits           // of docker.io's first endpoint; nil: it says nothing
	tune    func(u *mirror.Upstream) // of each upstream; nil: as it is
	group   fill.Options
	pings   bool             // docker.io's endpoints are pinged
	readers []*fanout.Fanout // of the mirror that runs
	options mirror.Options   // besides what every rig has
	others  local.Others     // tell the origin what others write; nil: nobody does
}

func defaultTags() mirror.Tags {
	return mirror.Tags{
		TTL: 5 * time.Minute, StaleIfError: 30 * 24 * time.Hour, StaleIfGone: true, NegativeTTL: 10 * time.Second,
		Immutable: func(tag string) bool { return strings.HasPrefix(tag, "v") },
	}
}

func newRig(t testing.TB, change ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, tags: defaultTags(), group: fill.Options{Limits: fill.Limits{Linger: fill.Complete, Streams: 4}}, meter: &meter{results: map[string]int{}}}
	r.hub = []*endpoint{newEndpoint(t, "registry-1.docker.io")}
	r.ghcr = newEndpoint(t, "ghcr.io")
	r.blobs, r.records = mem.NewBlobs(), mem.NewRecords()
	for _, c := range change {
		c(r)
	}
	r.open()
	r.start()
	return r
}

// open makes the origin over what there is.
func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.origin, err = local.New(r.blobs, r.records, local.Options{Delete: true, Others: r.others}); err != nil {
		r.t.Fatal(err)
	}
}

// start makes a mirror over what there is, as a process that begins does.
func (r *rig) start() {
	r.t.Helper()
	var hub []fanout.Endpoint
	for _, e := range r.hub {
		hub = append(hub, fanout.Endpoint{Host: e.host, Reader: e})
		if r.pings {
			hub[len(hub)-1].Reader = pinged{e}
		}
	}
	hub[0].Limits = r.limits
	upstreams := []*mirror.Upstream{
		{Name: "docker.io", Reader: fanout.New("docker.io", hub, fanout.Options{}, nil), Tags: r.tags, ReferrersTTL: time.Minute},
		{Name: "ghcr.io", Reader: fanout.New("ghcr.io", []fanout.Endpoint{{Host: r.ghcr.host, Reader: r.ghcr}}, fanout.Options{}, nil), Tags: r.tags, ReferrersTTL: time.Minute},
	}
	if r.tune != nil {
		for _, u := range upstreams {
			r.tune(u)
		}
	}
	r.readers = nil
	for _, u := range upstreams {
		r.readers = append(r.readers, u.Reader)
	}
	table, err := mirror.NewTable(upstreams, "docker.io", "weir.corp")
	if err != nil {
		r.t.Fatal(err)
	}
	dir := r.spools
	if dir == "" {
		dir = r.t.TempDir()
	}
	spools, err := fill.OpenSpools(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	options := r.options
	options.Delete, options.Meter = true, r.meter
	r.Mirror = mirror.New(r.origin, r.records, fill.NewGroup(spools, r.group), table, options)
}

// restart ends the mirror and starts another one over the same store.
func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.open()
	r.start()
}

func (r *rig) stop() {
	r.t.Helper()
	if err := r.Close(context.Background()); err != nil {
		r.t.Errorf("close: %v", err)
	}
	for _, f := range r.readers {
		f.Close()
	}
}

// requests checks what upstream e was asked since the last time.
func (r *rig) requests(e *endpoint, want ...string) {
	r.t.Helper()
	if got := e.took(); !slices.Equal(got, want) {
		r.t.Errorf("%s was asked\n\t%s\nwant\n\t%s", e.host, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// pull pulls an image as containerd does: HEAD by tag, then by digest, the manifest,
// its config and layers at once. It gives where the tag came from.
func (r *rig) pull(repo, tag string, want origintest.Tree) origin.Source {
	r.t.Helper()
	ctx := context.Background()
	d, err := r.Resolve(ctx, origintest.Repo(r.t, repo), origintest.Ref(r.t, tag))
	if err != nil {
		r.t.Fatalf("resolve %s:%s: %v", repo, tag, err)
	}
	if d.Digest != want.Manifest.Digest || d.Size != want.Manifest.Size || d.MediaType != want.Manifest.MediaType {
		r.t.Errorf("%s:%s is %v, want %v", repo, tag, d.Descriptor, want.Manifest.Descriptor.Descriptor)
	}
	m, err := r.Manifest(ctx, origintest.Repo(r.t, repo), origin.ByDigest(d.Digest))
	if err != nil {
		r.t.Fatalf("manifest %s: %v", d.Digest, err)
	}
	if string(m.Bytes) != string(want.Manifest.Bytes) {
		r.t.Errorf("manifest %s has other bytes", d.Digest)
	}
	for _, b := range want.Blobs {
		r.blob(repo, b.Digest, b.Bytes)
	}
	return d.Source
}

// blob reads a blob and gives where it came from.
func (r *rig) blob(repo string, d digest.Digest, want []byte) origin.Source {
	r.t.Helper()
	b, err := r.Blob(context.Background(), origintest.Repo(r.t, repo), d, store.Range{})
	if err != nil {
		r.t.Fatalf("blob %s: %v", d, err)
	}
	got, err := io.ReadAll(b.Body)
	if err != nil || string(got) != string(want) {
		r.t.Errorf("blob %s: %d bytes, %v", d, len(got), err)
	}
	if err := b.Body.Close(); err != nil {
		r.t.Error(err)
	}
	return b.Source
}

// meter counts results.
type meter struct {
	mu      sync.Mutex
	results map[string]int
	served  int64
}

func (m *meter) MirrorRequest(upstream, kind, result string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.results[upstream+" "+kind+" "+result]++
}

func (m *meter) ServedBytes(_ string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.served += n
}

// countedBlobs counts how often a blob is looked for.
type countedBlobs struct {
	store.Blobs
	stats atomic.Int64
}

func (c *countedBlobs) Stat(ctx context.Context, d digest.Digest) (store.Info, error) {
	c.stats.Add(1)
	return c.Blobs.Stat(ctx, d)
}
