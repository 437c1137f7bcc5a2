package lifetime_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/mem"
)

// collecting marks what a collection does.
type collecting struct{}

// onlookers are how many clients there are beside a collection, each with names of its own.
// One in 256 names has the lock of what the collection changes just then: some of their
// names may, but not of all of them.
const onlookers = 4

// onlooker is a client that pushes and pulls in a repository while its garbage is collected.
type onlooker struct {
	old, fresh origintest.Tree // what is there, and what is not
	tag        origin.Ref
}

func newOnlooker(t *testing.T, n uint64) onlooker {
	return onlooker{image(100 + n), image(200 + n), origintest.Ref(t, fmt.Sprint("t", n))}
}

func (o onlooker) look(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
	for _, image := range []origintest.Tree{o.old, o.fresh} {
		if err := pushes(ctx, reg, repo, image, o.tag); err != nil {
			return fmt.Errorf("push: %w", err)
		}
		if err := pulls(ctx, reg, repo, image); err != nil {
			return fmt.Errorf("pull: %w", err)
		}
	}
	return nil
}

// A collection works on the registry that clients use. It stops at any one of its calls to
// the store until somebody has pushed and pulled something else. If all of them have to wait
// for it, this does not end.
func TestNobodyWaits(t *testing.T) {
	for name, shared := range map[string]bool{"one process": false, "one of several": true} {
		t.Run(name, func(t *testing.T) {
			for n := int64(0); ; n++ {
				done := false
				synctest.Test(t, func(t *testing.T) {
					h := &hooked{blobs: mem.NewBlobs(), records: mem.NewRecords(), hook: unhooked}
					r := &rig{t: t, blobs: hookedBlobs{h}, records: hookedRecords{h}, age: time.Sleep}
					all := r.litter(!shared)
					var calls atomic.Int64
					looked := make(chan error, onlookers)
					h.hook = func(ctx context.Context) {
						if ctx.Value(collecting{}) == nil || calls.Add(1) != n+1 {
							return
						}
						for _, o := range all {
							go func() { looked <- o.look(t.Context(), r.reg, repo(t, "a")) }()
						}
						if err := <-looked; err != nil {
							t.Errorf("at call %d: %v", n, err)
						}
					}
					collector := lifetime.NewCollector(r.reg, r.reg, lifetime.CollectOptions{Grace: grace, UploadExpiry: grace, Shared: shared})
					freed := int64(0)
					for range 2 { // what replicas condemn goes with a later run
						rep, err := collector.Run(context.WithValue(t.Context(), collecting{}, true), false)
						if err != nil {
							t.Errorf("at call %d: %v", n, err)
						}
						freed += rep.Freed
						r.age(2 * time.Minute)
					}
					if done = calls.Load() <= n; done {
						t.Logf("%d calls, %d blobs freed", n, freed)
						return
					}
					for range len(all) - 1 {
						if err := <-looked; err != nil {
							t.Errorf("at call %d: %v", n, err)
						}
					}
					if freed < 3 {
						t.Errorf("at call %d: %d blobs freed", n, freed)
					}
				})
				if done || t.Failed() {
					break
				}
			}
		})
	}
}

// litter leaves something of all that a collection removes, and what it does not, which
// belongs to those it gives. The process that finds it has no memory of it.
func (r *rig) litter(sole bool) (all []onlooker) {
	r.t.Helper()
	r.reg = open(r.t, r.blobs, r.records, sole)
	for n := range uint64(onlookers) {
		o := newOnlooker(r.t, n)
		all = append(all, o)
		r.push("a", o.old)
	}
	condemned := r.blob("a", []byte("condemned"))
	r.blob("a", []byte("garbage"))
	r.push("a", one)
	r.push("a", origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/sbom", nil, []byte("sbom")))
	r.deleteManifest("a", one)
	in, err := r.reg.Upload(r.t.Context(), repo(r.t, "a"), "", layer.Digest.Algorithm())
	if err != nil {
		r.t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.reg.DeleteBlob(r.t.Context(), repo(r.t, "a"), condemned); err != nil {
		r.t.Fatal(err)
	}
	if err := r.reg.Condemn(r.t.Context(), condemned); err != nil {
		r.t.Fatal(err)
	}
	r.age(long)
	r.reg = open(r.t, r.blobs, r.records, sole)
	return all
}
