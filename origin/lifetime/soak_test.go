package lifetime_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/mem"
)

// soak has many writers push, mount, delete and pull few images, while garbage is collected
// all the time. Nobody deletes a blob: whatever manifest is there has all of its blobs, and
// no push that was told that its blobs are there lacks one.
type soak struct {
	t       *testing.T
	seed    uint64
	grace   time.Duration
	writers []*local.Registry // the process that each writer talks to
	collect []*lifetime.Collector
	think   func(*rand.Rand)       // what a writer does between two requests
	wait    time.Duration          // between two collections
	least   amount                 // what is enough
	beside  []func() error         // what else is done, again and again
	fresh   func() *local.Registry // one that remembers nothing, when all is over

	repos []origin.Repo
	trees []origintest.Tree
	cells map[cellKey]*cell

	operations, cycles, retried, freed, unknown, lost, late atomic.Int64
}

// amount is how much is done.
type amount struct{ operations, cycles int64 }

type cellKey struct {
	repo   origin.Repo
	digest digest.Digest
}

// cell is what is known of one manifest in one repository: whether it must be there.
type cell struct {
	mu       sync.Mutex
	deletes  int  // that were begun
	deleting int  // of them, that have not ended
	pushed   bool // a push was acknowledged
	since    int  // deletes, when that push began, and none was under way
}

func (c *cell) must() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pushed && c.since == c.deletes
}

// push notes that a push begins. acked notes that it was acknowledged.
func (c *cell) push() (acked func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begun, quiet := c.deletes, c.deleting == 0
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if quiet {
			c.pushed, c.since = true, begun
		}
	}
}

// delete notes that a deletion begins, and its end that it is over.
func (c *cell) delete() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deletes++
	c.deleting++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.deleting--
	}
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{t: t, seed: seed, think: func(*rand.Rand) {}, cells: map[cellKey]*cell{}}
	rnd := rand.New(rand.NewPCG(s.seed, 0))
	var layers [][]byte
	for range 300 {
		layers = append(layers, origintest.Bytes(rnd.Uint64(), 1+rnd.IntN(2000)))
	}
	for range 300 {
		var of [][]byte
		for _, i := range rnd.Perm(len(layers))[:1+rnd.IntN(4)] {
			of = append(of, layers[i])
		}
		s.trees = append(s.trees, origintest.Image(fmt.Appendf(nil, `{"n":%d}`, rnd.IntN(300)), of...))
	}
	for _, name := range []string{"a", "a/b", "c"} {
		s.repos = append(s.repos, repo(t, name))
		for _, tree := range s.trees {
			s.cells[cellKey{repo(t, name), tree.Digest()}] = &cell{}
		}
	}
	return s
}

// run goes on until there was enough of everything.
func (s *soak) run(ctx context.Context) {
	done, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	enough := func() bool {
		return s.operations.Load() >= s.least.operations && s.cycles.Load() >= s.least.cycles || s.lost.Load()+s.unknown.Load() > 0 || done.Err() != nil
	}
	for i, c := range s.collect {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(s.seed, uint64(1000+i)))
			for !enough() {
				rep, err := c.Run(ctx, false)
				switch {
				case ctx.Err() != nil:
				case err == nil:
					s.freed.Add(rep.Freed)
					s.cycles.Add(1)
				case errors.Is(err, lifetime.ErrClock): // a machine that stood still for so long
					s.late.Add(1)
				default:
					s.t.Errorf("seed %d: collection: %v", s.seed, err)
					stop()
				}
				select {
				case <-time.After(s.wait/2 + rand.N(s.wait)):
				case <-done.Done():
				}
				s.think(rnd)
			}
		})
	}
	for i, reg := range s.writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(s.seed, uint64(1+i)))
			for !enough() {
				if err := s.step(ctx, reg, rnd); err != nil && ctx.Err() == nil {
					s.t.Errorf("seed %d, writer %d: %v", s.seed, i, err)
					stop()
				}
			}
		})
	}
	for _, do := range s.beside {
		wg.Go(func() {
			for !enough() {
				if err := do(); err != nil && ctx.Err() == nil {
					s.t.Errorf("seed %d: %v", s.seed, err)
					stop()
				}
			}
		})
	}
	wg.Wait()
	stop()
}

// after wants, of a registry that remembers nothing, that whatever manifest is there is
// complete, that those are there which must be, and that nothing stored is corrupt.
func (s *soak) after(ctx context.Context) {
	reg := s.fresh()
	for _, repo := range s.repos {
		for _, tree := range s.trees {
			if err := s.pull(ctx, reg, repo, tree); err != nil {
				s.t.Errorf("seed %d, afterwards: %v", s.seed, err)
			}
		}
	}
	scrubber := lifetime.NewScrubber(reg, lifetime.ScrubOptions{})
	for _, first := range []bool{true, false} {
		rep, err := scrubber.Run(ctx, true, false)
		if err != nil || rep.Checked == 0 || !first && rep.Mended > 0 {
			s.t.Errorf("seed %d: scrubbed afterwards: %+v, %v", s.seed, rep, err)
		}
	}
}

// into writes what came of it into a report that may have that of others.
func (s *soak) into(r *oracletest.Report) {
	r.Operations += s.operations.Load()
	r.Cycles += s.cycles.Load()
	r.Lost += s.lost.Load()
	r.More["writers"] += float64(len(s.writers))
	r.More["grace_seconds"] = s.grace.Seconds()
	r.More["blobs_freed"] += float64(s.freed.Load())
	r.More["told_to_try_again"] += float64(s.retried.Load())
	r.More["manifest_blob_unknown"] += float64(s.unknown.Load())
	r.More["late"] += float64(s.late.Load())
}

// step does one thing that a client does. Its error is not of what the soak counts.
func (s *soak) step(ctx context.Context, reg *local.Registry, rnd *rand.Rand) error {
	repo, tree := s.repos[rnd.IntN(len(s.repos))], s.trees[rnd.IntN(len(s.trees))]
	switch n := rnd.IntN(10); {
	case n < 4:
		return s.push(ctx, reg, rnd, repo, tree)
	case n < 7:
		s.operations.Add(1)
		defer s.cells[cellKey{repo, tree.Digest()}].delete()()
		err := reg.DeleteManifest(ctx, repo, origin.ByDigest(tree.Digest()))
		if origin.Unknown(err) {
			return nil
		}
		return err
	default:
		return s.pull(ctx, reg, repo, tree)
	}
}

// again does something until it is not told to try again.
func (s *soak) again(do func() error) error {
	for range 100 {
		s.operations.Add(1)
		err := do()
		if !errors.Is(err, origin.ErrUnavailable) {
			return err
		}
		s.retried.Add(1)
	}
	return errors.New("told to try again a hundred times")
}

func (s *soak) push(ctx context.Context, reg *local.Registry, rnd *rand.Rand, to origin.Repo, tree origintest.Tree) error {
	begun := time.Now()
	for _, b := range tree.Blobs {
		if err := s.provide(ctx, reg, rnd, to, b); err != nil {
			return err
		}
		s.think(rnd)
	}
	acked := s.cells[cellKey{to, tree.Digest()}].push()
	err := s.again(func() error {
		_, err := reg.Push(ctx, to, tree.Manifest, origin.PushOptions{})
		return err
	})
	if errors.Is(err, origin.ErrManifestBlobUnknown) && time.Since(begun) > s.grace*9/10 {
		s.late.Add(1) // leases are renewed when a tenth of them is over, and hold no longer
		return nil
	}
	if errors.Is(err, origin.ErrManifestBlobUnknown) {
		s.unknown.Add(1)
		return fmt.Errorf("a blob that was there is unknown to its manifest: %w", err)
	}
	if err != nil {
		return err
	}
	acked()
	return s.pull(ctx, reg, to, tree)
}

// provide has a blob in a repository: it is there, or is mounted, or pushed.
func (s *soak) provide(ctx context.Context, reg *local.Registry, rnd *rand.Rand, to origin.Repo, b origintest.Blob) error {
	err := s.again(func() error {
		_, err := reg.Stat(ctx, to, b.Digest)
		return err
	})
	if origin.Unknown(err) && rnd.IntN(2) == 0 {
		s.think(rnd)
		err = s.again(func() error {
			_, err := reg.Mount(ctx, s.repos[rnd.IntN(len(s.repos))], to, b.Digest)
			return err
		})
	}
	if origin.Unknown(err) {
		err = s.again(func() error { return uploadBlob(ctx, reg, to, b.Bytes) })
	}
	return err
}

// pull wants that a manifest is there if nobody deletes it, and that all of its blobs are
// if it is.
func (s *soak) pull(ctx context.Context, reg *local.Registry, from origin.Repo, tree origintest.Tree) error {
	there := func() (bool, error) {
		s.operations.Add(1)
		_, err := reg.Names(ctx, from, tree.Digest()) // and not from memory
		if origin.Unknown(err) {
			return false, nil
		}
		return err == nil, err
	}
	c := s.cells[cellKey{from, tree.Digest()}]
	must := c.must()
	switch is, err := there(); {
	case err != nil:
		return err
	case !is && must && c.must():
		s.lost.Add(1)
		return fmt.Errorf("manifest %s of %s is gone, and nobody has deleted it", tree.Digest(), from)
	case !is:
		return nil
	}
	for _, b := range tree.Blobs {
		s.operations.Add(1)
		err := oracletest.ReadBlob(ctx, reg, from, b.Digest)
		if err == nil {
			continue
		}
		if is, again := there(); again == nil && !is && origin.Unknown(err) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.lost.Add(1)
		return fmt.Errorf("manifest %s of %s is there: %w", tree.Digest(), from, err)
	}
	return nil
}

// replicas have half of the writers talk to one process and half to the other; each
// collects garbage, and their locks let everybody in.
func (s *soak) replicas(writers int) {
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	process := func() *local.Registry {
		reg, err := local.New(blobs, records, local.Options{Delete: true, Grace: s.grace})
		if err != nil {
			s.t.Fatal(err)
		}
		return reg
	}
	for i := range 2 {
		reg := process()
		for range writers / 2 {
			s.writers = append(s.writers, reg)
		}
		// One of them waits for the next run to remove what it condemned, the other does not.
		s.collect = append(s.collect, lifetime.NewCollector(reg, reg, lifetime.CollectOptions{Grace: s.grace, Shared: i == 0}))
		scrubber := lifetime.NewScrubber(reg, lifetime.ScrubOptions{})
		s.beside = append(s.beside, func() error {
			rep, err := scrubber.Run(s.t.Context(), true, false)
			if err == nil && len(rep.Corrupt) > 0 {
				err = fmt.Errorf("scrub: found what nobody has damaged: %+v", rep)
			}
			time.Sleep(s.wait)
			return err
		})
	}
	s.fresh = process
}

// soakReplicas runs in a bubble, so that nothing depends on how fast the machine is. more
// may add to the soak before it begins.
func soakReplicas(t *testing.T, least amount, more func(*soak)) *oracletest.Report {
	seed := oracletest.Seed(t)
	rep := oracletest.NewReport(t, "memory, two replicas", seed)
	synctest.Test(t, func(t *testing.T) {
		s := newSoak(t, seed)
		s.grace, s.wait, s.least = 5*time.Second, 100*time.Millisecond, least
		s.think = func(rnd *rand.Rand) { time.Sleep(time.Duration(rnd.Int64N(int64(200 * time.Millisecond)))) }
		s.replicas(16)
		more(s)
		s.run(t.Context())
		s.after(t.Context())
		s.into(rep)
	})
	return rep
}

// Garbage is collected all the time by two processes under sixteen writers, and all is
// scrubbed; nothing that anybody relies on goes, and nothing is found to be damaged. The
// nightly tests do it for long, and on a disk.
func TestSoakReplicas(t *testing.T) {
	least := amount{operations: 8000, cycles: 160}
	if raceDetector {
		least = amount{operations: 4000, cycles: 80}
	}
	rep := soakReplicas(t, least, func(*soak) {})
	t.Logf("%+v", rep)
	if rep.More["blobs_freed"] == 0 {
		t.Error("no blob was freed")
	}
}
