package local_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
)

// work does random operations on a registry, and collects garbage at times. What nobody
// needs goes at once, as if all leases were over; so nobody pushes meanwhile.
func work(ctx context.Context, reg *local.Registry, collecting *sync.RWMutex, ledger *oracletest.Ledger, world *oracletest.World, seed, n uint64, steps int) error {
	w := oracletest.NewWorker(reg, ledger, world, seed, n)
	w.Lossy = true
	rnd := rand.New(rand.NewPCG(seed, n))
	later := ahead{reg}
	collector := lifetime.NewCollector(later, later, lifetime.CollectOptions{Grace: crashGrace, UploadExpiry: crashGrace, Now: later.now})
	for i := range steps {
		if err := step(ctx, w, collecting); err != nil {
			return err
		}
		mirrors(ctx, reg, world, rnd)
		if i%12 == 11 {
			collecting.Lock()
			_, _ = collector.Run(ctx, false) // what it cannot do the next one does
			collecting.Unlock()
		}
	}
	return nil
}

func step(ctx context.Context, w *oracletest.Worker, collecting *sync.RWMutex) error {
	collecting.RLock()
	defer collecting.RUnlock()
	return w.Step(ctx)
}

const crashGrace = time.Hour

// ahead is a registry that is gone through when all that it has now is past the grace.
type ahead struct{ *local.Registry }

func (ahead) now() time.Time { return time.Now().Add(2 * crashGrace) }

func (a ahead) Now(ctx context.Context) (time.Time, error) {
	now, err := a.Registry.Now(ctx)
	return now.Add(2 * crashGrace), err
}

// mirrors has a mirror take in something, and evict something, that workers push. What
// becomes of it is nobody's loss.
func mirrors(ctx context.Context, reg *local.Registry, world *oracletest.World, rnd *rand.Rand) {
	repo, err := origin.ParseRepo(hub)
	if err != nil {
		panic(err)
	}
	some := func() digest.Digest { return digest.FromBytes(world.Blobs[rnd.IntN(len(world.Blobs))]) }
	tree := world.Trees[rnd.IntN(len(world.Trees))]
	_, _ = reg.Push(ctx, repo, tree.Manifest, origin.PushOptions{Sparse: true})
	_, _ = reg.Mirrored().Mount(ctx, origin.Repo{}, repo, some())
	for range 3 {
		_ = reg.Evict(ctx, some())
	}
}
