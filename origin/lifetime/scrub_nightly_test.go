//go:build nightly

package lifetime_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/oracletest"
)

// scrubbed counts what scrubbing beside a soak comes to.
type scrubbed struct{ runs, objects, mended, steps atomic.Int64 }

func (c *scrubbed) into(r *oracletest.Report) {
	r.More["scrubs"] = float64(c.runs.Load())
	r.More["objects_scrubbed"] = float64(c.objects.Load())
	r.More["records_mended"] = float64(c.mended.Load())
	r.More["oracle_steps"] = float64(c.steps.Load())
}

// scrub has the registry of a soak scrubbed all the time, with the word to repair. Nothing is
// damaged: whatever is found is wrong. Besides, workers push indexes, referrers and tags,
// move and delete them in repositories of their own, and the oracle judges them.
func (c *scrubbed) scrub(s *soak) {
	ctx, reg := s.t.Context(), s.writers[0]
	rnd := rand.New(rand.NewPCG(s.seed, 2000))
	scrubber := lifetime.NewScrubber(reg, lifetime.ScrubOptions{})
	scrub := func() error {
		rep, err := scrubber.Run(ctx, true, false)
		c.runs.Add(1)
		c.objects.Add(rep.Checked)
		c.mended.Add(rep.Mended)
		if err == nil && (len(rep.Corrupt)+len(rep.Repaired) > 0 || rep.Mended > 0) {
			err = fmt.Errorf("found what nobody has damaged: %+v", rep)
		}
		if err != nil {
			s.lost.Add(1)
			return fmt.Errorf("scrub: %w", err)
		}
		s.think(rnd)
		return nil
	}
	world, ledger := oracletest.NewWorld(s.seed, 256).Apart(9), &oracletest.Ledger{Collects: true}
	within := oracletest.Within(reg, world)
	const workers, steps = 4, 25
	type worker struct {
		*oracletest.Worker
		rnd *rand.Rand
	}
	var each []worker
	for n := range uint64(workers) {
		each = append(each, worker{oracletest.NewWorker(within, ledger, world, s.seed, n), rand.New(rand.NewPCG(s.seed, 3000+n))})
	}
	judge := func() error {
		var all sync.WaitGroup
		errs := make([]error, workers)
		for i, w := range each {
			w.Use(within, ledger)
			all.Go(func() {
				for range steps {
					if errs[i] = w.Step(ctx); errs[i] != nil {
						return
					}
					c.steps.Add(1)
					s.think(w.rnd)
				}
			})
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				s.lost.Add(1)
				return err
			}
		}
		var err error
		if ledger, err = oracletest.Checkpoint(ctx, within, ledger, world); err != nil {
			s.lost.Add(1)
		}
		return err
	}
	s.beside = append(s.beside, scrub, judge)
}

// Everything is scrubbed all the time beside that, too: nothing that lives is taken for
// damaged, and nothing is lost (trust G-8).
func TestNightlyScrubReplicas(t *testing.T) {
	var c scrubbed
	rep := soakReplicas(t, night(t), c.scrub)
	c.into(rep)
	rep.Keep(t)
}

// And on disks.
func TestNightlyScrubDisk(t *testing.T) {
	var c scrubbed
	rep := soakDisks(t, night(t), c.scrub)
	c.into(rep)
	rep.Keep(t)
}
