package lifetime_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/origintest"
)

// limited is a rig's registry where every repository but free may name that many bytes.
func (r *rig) limited(most int64) *lifetime.Quota {
	return lifetime.NewQuota(r.reg, r.reg, lifetime.QuotaOptions{
		Quota: func(repo origin.Repo) int64 {
			if repo.String() == "free" {
				return 0
			}
			return most
		},
		Full:   func(_ context.Context, repo origin.Repo) (origin.Repo, error) { return repo, nil },
		Grace:  grace,
		Shared: r.options.Shared,
	})
}

func upload(ctx context.Context, w origin.Writer, repo origin.Repo, b []byte) error {
	in, err := w.Upload(ctx, repo, "", digest.SHA256)
	if err != nil {
		return err
	}
	if _, err := in.Write(b); err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = in.Commit(ctx, digest.FromBytes(b))
	return errors.Join(err, in.Close())
}

func TestQuota(t *testing.T) {
	inTime(t, func(r *rig) {
		ctx, in := r.t.Context(), repo(r.t, "a")
		q := r.limited(1000)
		denied := func(what string, err error, says ...string) {
			r.t.Helper()
			if !errors.Is(err, origin.ErrDenied) {
				r.t.Errorf("%s: %v", what, err)
				return
			}
			for _, s := range says {
				if !strings.Contains(err.Error(), s) {
					r.t.Errorf("%s: %q does not say %q", what, err, s)
				}
			}
		}
		first := origintest.Image([]byte("{}"), origintest.Bytes(1, 598))
		first.Push(r.t, q, "a", "one")
		first.Push(r.t, q, "a", "same") // it is there
		denied("a second one", upload(ctx, q, in, origintest.Bytes(2, 500)), "quota of a is 1000 bytes", "600 are in use", "500 more")
		denied("alone", upload(ctx, q, in, origintest.Bytes(2, 1001)), "1000 bytes", "in use", "1001 more")
		r.push("free", origintest.Image([]byte("{}"), origintest.Bytes(3, 500)))
		other := origintest.Bytes(3, 500)
		_, err := q.Mount(ctx, repo(r.t, "free"), in, digest.FromBytes(other))
		denied("a mount", err, "600 are in use")
		if err := upload(ctx, q, in, origintest.Bytes(4, 400)); err != nil {
			r.t.Errorf("up to the quota: %v", err)
		}
		denied("beside what is not named yet", upload(ctx, q, in, []byte("x")), "1000 are in use")
		for u := range r.blobs.Ingests(ctx) {
			r.t.Errorf("a refused upload is left: %+v", u)
		}
		// What is deleted does not count any more, nor what nobody named within the grace.
		if err := q.DeleteManifest(ctx, in, origin.ByDigest(first.Digest())); err != nil {
			r.t.Error(err)
		}
		if err := upload(ctx, q, in, origintest.Bytes(5, 600)); err != nil {
			r.t.Errorf("after a deletion: %v", err)
		}
		r.age(2 * grace)
		if err := upload(ctx, q, in, origintest.Bytes(6, 1000)); err != nil {
			r.t.Errorf("after the grace: %v", err)
		}
		// A manifest that names what was pushed long ago counts.
		denied("a manifest", func() error { _, err := q.Push(ctx, in, first.Manifest, origin.PushOptions{}); return err }(), "1000 are in use")
	})
}

// Of pushes that race for what is left no more get through than fit.
func TestQuotaRace(t *testing.T) {
	inMemory(t, func(r *rig) {
		q := r.limited(1000)
		var ok atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if upload(r.t.Context(), q, repo(r.t, "a"), origintest.Bytes(uint64(i), 300)) == nil {
					ok.Add(1)
				}
			})
		}
		all.Wait()
		if ok.Load() != 3 {
			r.t.Errorf("%d of 300 bytes fit into 1000", ok.Load())
		}
	})
}

// Other quotas go on from what there is: what was pushed while there was none counts, and so
// does what is being pushed through the ones before.
func TestQuotaChanges(t *testing.T) {
	inTime(t, func(r *rig) {
		ctx, in := r.t.Context(), repo(r.t, "a")
		old := r.limited(1000)
		if err := upload(ctx, old, in, make([]byte, 400)); err != nil {
			r.t.Fatal(err)
		}
		options := lifetime.QuotaOptions{
			Quota: func(origin.Repo) int64 { return 500 },
			Full:  func(_ context.Context, repo origin.Repo) (origin.Repo, error) { return repo, nil },
			Grace: grace,
		}
		next := old.With(r.reg, options)
		if err := upload(ctx, next, in, make([]byte, 101)); !errors.Is(err, origin.ErrDenied) {
			r.t.Errorf("beside what was pushed before: %v", err)
		}
		if err := upload(ctx, next, in, make([]byte, 100)); err != nil {
			r.t.Errorf("what there is room for: %v", err)
		}
	})
}
