package local_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
)

// work does random operations on the registry of a directory, and collects garbage and
// scrubs at times. What nobody needs goes at once, as if all leases were over; so nobody
// pushes meanwhile.
func work(ctx context.Context, reg *local.Registry, dir string, collecting *sync.RWMutex, ledger *oracletest.Ledger, world *oracletest.World, seed, n uint64, steps int) error {
	w := oracletest.NewWorker(reg, ledger, world, seed, n)
	w.Lossy = true
	rnd := rand.New(rand.NewPCG(seed, n))
	later := ahead{reg}
	collector := lifetime.NewCollector(later, later, lifetime.CollectOptions{Grace: crashGrace, UploadExpiry: crashGrace, Now: later.now})
	scrubber := lifetime.NewScrubber(reg, lifetime.ScrubOptions{})
	for i := range steps {
		if err := step(ctx, w, collecting); err != nil {
			return err
		}
		mirrors(ctx, reg, dir, world, rnd)
		if i%12 == 5 {
			rep, _ := scrubber.Run(ctx, true, false)
			if len(rep.Corrupt) > 0 {
				return fmt.Errorf("a scrub finds %v", rep.Corrupt)
			}
		}
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
func mirrors(ctx context.Context, reg *local.Registry, dir string, world *oracletest.World, rnd *rand.Rand) {
	repo, err := origin.ParseRepo(hub)
	if err != nil {
		panic(err)
	}
	content := func() []byte { return world.Blobs[rnd.IntN(len(world.Blobs))] }
	some := func() digest.Digest { return digest.FromBytes(content()) }
	tree := world.Trees[rnd.IntN(len(world.Trees))]
	_, _ = reg.Push(ctx, repo, tree.Manifest, origin.PushOptions{Sparse: true})
	_, _ = reg.Mirrored().Mount(ctx, origin.Repo{}, repo, some())
	adopt(ctx, reg, dir, repo, content())
	for range 3 {
		_ = reg.Evict(ctx, some())
	}
}

// adopt has the registry take a spool for a blob.
func adopt(ctx context.Context, reg *local.Registry, dir string, repo origin.Repo, content []byte) {
	spools := filepath.Join(dir, "spool")
	if err := os.MkdirAll(spools, 0o700); err != nil {
		panic(err)
	}
	f, err := os.CreateTemp(spools, "")
	if err != nil {
		panic(err)
	}
	_, err = f.Write(content)
	if err == nil {
		_, _ = reg.Adopt(ctx, repo, f, digest.FromBytes(content))
	}
	if err := errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		panic(err)
	}
}
