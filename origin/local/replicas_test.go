package local_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// replica makes a registry of several over one store that tell each other.
func replica(t testing.TB, blobs store.Blobs, records store.Records, n coord.Notify, o local.Options) *local.Registry {
	t.Helper()
	o.Others = n
	r, err := local.New(blobs, coord.Announce(records, n, func(string) bool { return true }), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// inProcess makes two replicas over one store in memory.
func inProcess(t testing.TB, o local.Options) (one, other *local.Registry) {
	t.Helper()
	blobs, records, p := mem.NewBlobs(), mem.NewRecords(), coord.NewProcess()
	return replica(t, blobs, records, p.Member(), o), replica(t, blobs, records, p.Member(), o)
}

// overRedis makes two replicas over one store in memory and a Redis.
func overRedis(t testing.TB, s *coordtest.Server, o local.Options) (one, other *local.Registry) {
	t.Helper()
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	key, err := coord.SharedKey(t.Context(), records)
	if err != nil {
		t.Fatal(err)
	}
	member := func() *local.Registry {
		r, err := coord.NewRedis(coord.RedisOptions{URL: func() (string, error) { return s.URL(), nil }, Key: key, Records: records})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		reg := replica(t, blobs, records, r, o)
		coordtest.Eventually(t, "a replica is told what others write", reg.Settled)
		return reg
	}
	return member(), member()
}

// turns is replicas that are asked by turns, each of which has heard what the others did
// before.
type turns struct {
	replicas []*local.Registry
	n        atomic.Uint64
}

func (r *turns) next() *local.Registry {
	for _, each := range r.replicas {
		for !each.Settled() {
			runtime.Gosched()
		}
	}
	return r.replicas[r.n.Add(1)%uint64(len(r.replicas))]
}

func (r *turns) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	return r.next().Resolve(ctx, repo, ref)
}

func (r *turns) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	return r.next().Manifest(ctx, repo, ref)
}

func (r *turns) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	return r.next().Stat(ctx, repo, d)
}

func (r *turns) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	return r.next().Blob(ctx, repo, d, rng)
}

func (r *turns) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	return r.next().Tags(ctx, repo, p)
}

func (r *turns) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	return r.next().Referrers(ctx, repo, d, artifactType, p)
}

func (r *turns) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	return r.next().Push(ctx, repo, m, o)
}

func (r *turns) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	return r.next().Upload(ctx, repo, id, alg)
}

func (r *turns) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	return r.next().Mount(ctx, from, to, d)
}

func (r *turns) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	return r.next().DeleteManifest(ctx, repo, ref)
}

func (r *turns) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	return r.next().DeleteBlob(ctx, repo, d)
}

func (r *turns) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	return r.next().Repos(ctx, p)
}

// TestReplicasAreOneRegistry: two replicas that are asked by turns pass the exam of one.
func TestReplicasAreOneRegistry(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		one, other := inProcess(t, local.Options{Delete: true})
		return &turns{replicas: []*local.Registry{one, other}}
	})
}

// TestUntrustedMemory: while nobody says what others write, a registry passes the exam
// without believing its memory.
func TestUntrustedMemory(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		others := &silent{}
		r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true, Others: others})
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
}

// silent is others of whom nothing is heard until the test says so.
type silent struct {
	current atomic.Bool
	changed func(keys []string)
	missed  func()
}

func (*silent) Publish(context.Context, ...string) {}

func (s *silent) Settle(context.Context) error {
	if !s.current.Load() {
		return coord.ErrAway
	}
	return nil
}

func (s *silent) Subscribe(changed func(keys []string), missed func()) func() bool {
	s.changed, s.missed = changed, missed
	return s.current.Load
}
