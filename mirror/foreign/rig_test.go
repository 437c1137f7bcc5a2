package foreign_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/mirror/foreign"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// behind is somebody else's registry, a log of what it was asked, and a hand on its
// answers. It speaks as origin/remote does.
type behind struct {
	*local.Registry
	blobs store.Blobs

	mu    sync.Mutex
	fail  func(ctx context.Context, ask string) error // instead of an answer; nil: answers
	spoil func(b []byte)                              // what blobs are given as; nil: as they are
	log   []string
}

func newBehind(t testing.TB) *behind {
	blobs := mem.NewBlobs()
	return &behind{Registry: newLocal(t, blobs), blobs: blobs}
}

func newLocal(t testing.TB, blobs store.Blobs) *local.Registry {
	t.Helper()
	r, err := local.New(blobs, mem.NewRecords(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *behind) failing(with func(ctx context.Context, ask string) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = with
}

func (b *behind) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	log := b.log
	b.log = nil
	return log
}

// status is what an answer of that status is to a client; 0 is none at all.
func status(code int) error {
	cause := origin.ErrUnavailable
	switch code {
	case 403:
		cause = origin.ErrDenied
	case 404:
		cause = origin.ErrBlobUnknown
	case 405:
		cause = origin.ErrUnsupported
	}
	return &origin.UpstreamError{Endpoint: "behind.test", Status: code, Err: cause}
}

// down refuses connections, hang does not answer.
func down(context.Context, string) error { return status(0) }

func hang(ctx context.Context, _ string) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Minute): // as a client of HTTP gives up
		return &origin.UpstreamError{Endpoint: "behind.test", Timeout: true, Err: origin.ErrUnavailable}
	}
}

// only fails what begins so.
func only(begin string, fail func(context.Context, string) error) func(context.Context, string) error {
	return func(ctx context.Context, ask string) error {
		if strings.HasPrefix(ask, begin) {
			return fail(ctx, ask)
		}
		return nil
	}
}

func (b *behind) asked(ctx context.Context, format string, args ...any) error {
	ask := fmt.Sprintf(format, args...)
	b.mu.Lock()
	b.log = append(b.log, ask)
	fail := b.fail
	b.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx, ask)
}

func said[T any](answer T, err error) (T, error) {
	if e, ok := err.(*origin.Error); ok {
		err = &origin.UpstreamError{Endpoint: "behind.test", Status: e.HTTPStatus(), Err: e}
	}
	return answer, err
}

func (b *behind) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if err := b.asked(ctx, "HEAD %s %s", repo, ref); err != nil {
		return origin.Descriptor{}, err
	}
	return said(b.Registry.Resolve(ctx, repo, ref))
}

func (b *behind) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if err := b.asked(ctx, "HEAD %s blob %s", repo, d); err != nil {
		return origin.Descriptor{}, err
	}
	return said(b.Registry.Stat(ctx, repo, d))
}

func (b *behind) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	if err := b.asked(ctx, "GET %s blob %s", repo, d); err != nil {
		return origin.Blob{}, err
	}
	blob, err := said(b.Registry.Blob(ctx, repo, d, r))
	if err == nil && b.spoil != nil {
		content, _ := io.ReadAll(blob.Body)
		b.spoil(content)
		blob.Body = io.NopCloser(bytes.NewReader(content))
	}
	return blob, err
}

func (b *behind) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	if err := b.asked(ctx, "LIST %s", repo); err != nil {
		return origin.List[string]{}, err
	}
	return said(b.Registry.Tags(ctx, repo, p))
}

func (b *behind) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	if err := b.asked(ctx, "PUT %s %s", repo, m.Digest); err != nil {
		return origin.Descriptor{}, err
	}
	return said(b.Registry.Push(ctx, repo, m, o))
}

func (b *behind) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	if err := b.asked(ctx, "POST %s", repo); err != nil {
		return nil, err
	}
	return said(b.Registry.Upload(ctx, repo, id, alg))
}

func (b *behind) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if err := b.asked(ctx, "MOUNT %s to %s", from, to); err != nil {
		return origin.Descriptor{}, err
	}
	desc, err := said(b.Registry.Mount(ctx, from, to, d))
	desc.Size = -1 // HTTP does not say
	return desc, err
}

func (b *behind) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	if err := b.asked(ctx, "DELETE %s %s", repo, ref); err != nil {
		return err
	}
	_, err := said(0, b.Registry.DeleteManifest(ctx, repo, ref))
	return err
}

func (b *behind) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	if err := b.asked(ctx, "DELETE %s blob %s", repo, d); err != nil {
		return err
	}
	_, err := said(0, b.Registry.DeleteBlob(ctx, repo, d))
	return err
}

// upstream logs what is read of it.
type upstream struct {
	origin.Registry
	mu  sync.Mutex
	log []string
	off bool // it is down
}

func (u *upstream) asked(format string, args ...any) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.log = append(u.log, fmt.Sprintf(format, args...))
	if u.off {
		return status(0)
	}
	return nil
}

func (u *upstream) took() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	log := u.log
	u.log = nil
	return log
}

func (u *upstream) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if err := u.asked("HEAD %s %s", repo, ref); err != nil {
		return origin.Descriptor{}, err
	}
	return said(u.Registry.Resolve(ctx, repo, ref))
}

func (u *upstream) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	if err := u.asked("GET %s %s", repo, ref); err != nil {
		return origin.Manifest{}, err
	}
	return said(u.Registry.Manifest(ctx, repo, ref))
}

func (u *upstream) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if err := u.asked("HEAD %s blob %s", repo, d); err != nil {
		return origin.Descriptor{}, err
	}
	return said(u.Registry.Stat(ctx, repo, d))
}

func (u *upstream) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	if err := u.asked("GET %s blob %s", repo, d); err != nil {
		return origin.Blob{}, err
	}
	return said(u.Registry.Blob(ctx, repo, d, r))
}

// rig is a mirror in front of somebody else's registry.
type rig struct {
	*mirror.Mirror
	t       testing.TB
	up      *upstream
	behind  *behind
	foreign *foreign.Registry
	records store.Records
}

const (
	name = "library/nginx"
	full = "docker.io/library/nginx"
)

func newRig(t testing.TB) *rig {
	r := &rig{t: t, up: &upstream{Registry: newLocal(t, mem.NewBlobs())}, behind: newBehind(t), records: mem.NewRecords()}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	endpoints := fanout.New("docker.io", []fanout.Endpoint{{Host: "docker.test", Reader: r.up}}, fanout.Options{}, nil)
	r.t.Cleanup(endpoints.Close)
	table, err := mirror.NewTable([]*mirror.Upstream{{
		Name: "docker.io", Reader: endpoints,
		Tags: mirror.Tags{TTL: 1000 * time.Hour, StaleIfError: 1000 * time.Hour, NegativeTTL: time.Second},
	}}, "docker.io", "")
	if err != nil {
		r.t.Fatal(err)
	}
	spools, err := fill.OpenSpools(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.foreign = foreign.New(r.behind, r.records, foreign.Options{Mirrored: table.Mirrored})
	r.Mirror = mirror.New(r.foreign, r.records, fill.NewGroup(spools, fill.Options{Limits: fill.Limits{Linger: fill.Complete, Streams: 4}}), table, mirror.Options{Delete: true})
}

func (r *rig) stop() {
	r.t.Helper()
	if err := r.Close(context.Background()); err != nil {
		r.t.Errorf("close: %v", err)
	}
	r.foreign.Close(context.Background())
}

func (r *rig) restart() {
	r.stop()
	r.start()
}

// image is one of two blobs.
func image(seed uint64) origintest.Tree {
	return origintest.Image([]byte(`{"os":"linux"}`), origintest.Bytes(seed, 200<<10))
}

// pull pulls an image; it gives how the blobs were come by.
func (r *rig) pull(repo, tag string, want origintest.Tree) string {
	r.t.Helper()
	ctx, in := context.Background(), origintest.Repo(r.t, repo)
	m, err := r.Manifest(ctx, in, origintest.Ref(r.t, tag))
	if err != nil {
		r.t.Fatalf("manifest %s: %v", tag, err)
	}
	if !bytes.Equal(m.Bytes, want.Manifest.Bytes) {
		r.t.Errorf("manifest %s has other bytes", tag)
	}
	var how []string
	for _, b := range want.Blobs {
		blob, err := r.Blob(ctx, in, b.Digest, store.Range{})
		if err != nil {
			r.t.Fatalf("blob %s: %v", b.Digest, err)
		}
		got, err := io.ReadAll(blob.Body)
		if err != nil || !bytes.Equal(got, b.Bytes) || blob.Body.Close() != nil {
			r.t.Errorf("blob %s: %d bytes, %v", b.Digest, len(got), err)
		}
		how = append(how, string(blob.Source.Cache))
	}
	return strings.Join(how, " ")
}

func equal(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s was asked\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
