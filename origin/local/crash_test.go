package local_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// crashPoints is how many power cuts the registry survives in a test; under the race
// detector, where each takes three times as long, it is a tenth of them.
const crashPoints = 10_000

// logSize is how large a log grows in a story, in bytes: a few changes of records, so
// that the power is cut while logs come and go.
const logSize = 1500

// storySteps is how many operations each worker of a story does: what is left of a long
// one takes long to read.
const storySteps = 24

// TestCrashPoints cuts the power while workers push, mount, tag and delete, garbage is
// collected, a scrub mends, and a mirror takes in, adopts and evicts the blobs that they
// push; and again while the next process starts up and goes on. Whatever is left of what
// was not synced, all that was acknowledged is there, nothing is torn, and nobody repairs
// anything.
func TestCrashPoints(t *testing.T) {
	points := crashPoints
	switch {
	case testing.Short():
		points = 300
	case raceDetector:
		points /= 10
	}
	c := &crasher{t: t, dir: disktest.Dir(t), want: int64(points), seed: oracletest.Seed(t)}
	c.run()
	if c.failed.Load() == 0 {
		t.Logf("%d power cuts, %d of them over another: %d operations acked", c.done.Load(), c.again.Load(), c.acked.Load())
	}
	if c.failed.Load() == 0 && (c.done.Load() < int64(points) || c.again.Load()*20 < int64(points) || c.acked.Load()*10 < int64(points)) {
		t.Error("too little happened")
	}
}

// A store that leaves out a sync is found out.
func TestCrashPointsBite(t *testing.T) {
	for name, wrap := range map[string]func(disk.FS) disk.FS{
		"no sync of directories":    func(inner disk.FS) disk.FS { return noDirSync{inner} },
		"no sync of files":          func(inner disk.FS) disk.FS { return noFileSync{inner, ""} },
		"no sync of logs":           func(inner disk.FS) disk.FS { return noFileSync{inner, "log/"} },
		"no sync before a log goes": func(inner disk.FS) disk.FS { return noSyncAll{inner} },
	} {
		t.Run(name, func(t *testing.T) {
			c := &crasher{t: t, dir: disktest.Dir(t), want: 2000, seed: oracletest.Seed(t), wrap: wrap, quiet: true}
			c.run()
			if c.failed.Load() == 0 {
				t.Errorf("not noticed in %d power cuts", c.done.Load())
			}
		})
	}
}

// noDirSync syncs no directory.
type noDirSync struct{ disk.FS }

func (noDirSync) Sync(string) error { return nil }

// noFileSync syncs no file that is being written, if its name begins so.
type noFileSync struct {
	disk.FS
	prefix string
}

func (x noFileSync) Create(name string) (disk.File, error) {
	f, err := x.FS.Create(name)
	if strings.HasPrefix(name, x.prefix) {
		f = noSync{f}
	}
	return f, err
}

func (x noFileSync) Append(name string) (disk.File, error) {
	f, err := x.FS.Append(name)
	if strings.HasPrefix(name, x.prefix) {
		f = noSync{f}
	}
	return f, err
}

// noSyncAll does not sync the whole.
type noSyncAll struct{ disk.FS }

func (noSyncAll) SyncAll() error { return nil }

type noSync struct{ disk.File }

func (noSync) Sync() error { return nil }

// crasher tells stories until it has had as many power cuts as are wanted, or one of
// them lost something.
type crasher struct {
	t     *testing.T
	dir   string
	want  int64
	seed  uint64
	wrap  func(disk.FS) disk.FS // what is wrong with the store; nil = nothing
	quiet bool                  // failures are what is wanted

	done, again, acked, failed atomic.Int64
	points                     chan point
}

// point is a power cut: what is left, and what was promised until then.
type point struct {
	name   string
	seed   uint64
	image  *disktest.Image
	ledger *oracletest.Ledger
	world  *oracletest.World
}

// check wants that all that was promised is there. That there is a mirror is no secret.
func (p *point) check(ctx context.Context, reg *local.Registry) error {
	world := *p.world
	world.Mirrored = []oracletest.Mirrored{{Repo: hub}}
	return oracletest.Check(ctx, reg, p.ledger, &world)
}

// hub is the repository that is mirrored.
const hub = "hub/app"

// cutEvery is how many calls there are to a power cut, on average: neighbours have much
// the same to say.
const cutEvery = 5

func (c *crasher) run() {
	c.points = make(chan point)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for p := range c.points {
				if err := c.survive(p); err != nil {
					c.fail(p.name, err)
				}
				c.done.Add(1)
			}
		})
	}
	for n := uint64(0); c.done.Load() < c.want && c.failed.Load() == 0 && c.t.Context().Err() == nil; n++ {
		name := fmt.Sprintf("seed %d, story %d", c.seed, n)
		if err := c.story(name, c.seed+n); err != nil {
			c.fail(name, err)
		}
	}
	close(c.points)
	wg.Wait()
}

func (c *crasher) fail(name string, err error) {
	if n := c.failed.Add(1); n < 5 && !c.quiet {
		c.t.Errorf("%s: %v", name, err)
	}
}

// registry opens the registry of a directory over a file system whose power can be cut,
// and which may end for the process before that.
func (c *crasher) registry(dir, boot string, crash *disktest.Crash, end *disktest.Faulty) (*local.Registry, func() error, error) {
	o := disk.Options{Boot: boot, LogSize: logSize}
	if crash != nil {
		o.FS = func(inner disk.FS) disk.FS {
			fsys := crash.FS(inner)
			if c.wrap != nil {
				fsys = c.wrap(fsys)
			}
			return end.FS(fsys)
		}
	}
	s, err := disk.Open(dir, o)
	if err != nil {
		return nil, nil, err
	}
	reg, err := local.New(s.Blobs(), s.Records(), local.Options{Delete: true, Grace: crashGrace, Sole: true})
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	for _, err := range reg.Evictable(c.t.Context()) {
		if err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
	}
	return reg, s.Close, nil
}

// story lets workers work on a fresh registry, and cuts the power now and then. Every
// other story has one worker.
func (c *crasher) story(name string, seed uint64) (err error) {
	dir := filepath.Join(c.dir, fmt.Sprint("live-", seed))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	crash, err := disktest.NewCrash(dir)
	if err != nil {
		return err
	}
	const boot = "0"
	world, ledger := oracletest.NewWorld(seed, 300), &oracletest.Ledger{Collects: true}
	rnd := rand.New(rand.NewPCG(seed, 1<<32))
	cut := func() {
		c.points <- point{
			fmt.Sprintf("%s, call %d", name, crash.Calls()), rnd.Uint64(),
			crash.Cut(rnd), ledger.Snapshot(), world,
		}
	}
	var dead atomic.Pointer[oracletest.Ledger] // what was promised when the process ended
	crash.Hook(func() {
		if dead.Load() == nil && rnd.IntN(cutEvery) == 0 {
			cut()
		}
	})
	// The first process is killed somewhere. What the next one finds is not all durable.
	for life := range uint64(2) {
		var end disktest.Faulty
		reg, closeStore, err := c.registry(dir, boot, crash, &end)
		if err != nil {
			return err
		}
		if life == 0 {
			killed := rnd.IntN(250)
			end.Arm(func(n int, _ string) error {
				if n < killed {
					return nil
				}
				dead.CompareAndSwap(nil, ledger.Snapshot())
				return syscall.EIO
			})
		}
		var wg sync.WaitGroup
		var collecting sync.RWMutex
		for n := range 1 + seed%2 {
			wg.Go(func() {
				if err := work(c.t.Context(), reg, dir, &collecting, ledger, world, seed, 2*n+life, storySteps); err != nil {
					c.fail(name, err)
				}
			})
		}
		wg.Wait()
		if err := closeStore(); err != nil {
			return err
		}
		if l := dead.Swap(nil); l != nil {
			ledger = l
			// Whoever is killed does not say that all is well.
			if err := os.WriteFile(filepath.Join(dir, ".lock"), []byte(boot), 0o600); err != nil {
				return err
			}
		}
		ledger.Settle()
	}
	crash.Hook(nil)
	cut()
	c.acked.Add(int64(ledger.Count(oracletest.Acked)))
	return nil
}

// survive wants that all is well with what is left after a power cut; for one in three,
// after the power was cut once more, while the next process starts up and goes on.
func (c *crasher) survive(p point) (err error) {
	dir := filepath.Join(c.dir, strconv.FormatUint(p.seed, 36))
	rnd := rand.New(rand.NewPCG(p.seed, 0))
	p.ledger.Settle()
	if rnd.IntN(3) == 0 {
		if err := c.cutAgain(&p, dir, rnd); err != nil {
			return err
		}
		c.again.Add(1)
	}
	if err := p.image.Write(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	reg, closeStore, err := c.registry(dir, "2", nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	ctx := c.t.Context()
	if err := p.check(ctx, reg); err != nil || rnd.IntN(10) > 0 {
		return err
	}
	if err := sound(ctx, reg); err != nil {
		return err
	}
	// And it goes on as if nothing had been.
	if err := work(ctx, reg, dir, new(sync.RWMutex), p.ledger, p.world, p.seed, 0, 12); err != nil {
		return err
	}
	return errors.Join(p.check(ctx, reg), sound(ctx, reg))
}

// sound wants that a scrub finds nothing corrupt.
func sound(ctx context.Context, reg *local.Registry) error {
	rep, err := lifetime.NewScrubber(reg, lifetime.ScrubOptions{}).Run(ctx, false, false)
	if len(rep.Corrupt) > 0 {
		err = errors.Join(err, fmt.Errorf("a scrub finds %v", rep.Corrupt))
	}
	return err
}

// cutAgain starts the registry on what is left, lets it work a little, and cuts the
// power meanwhile. The point is that of the second cut then.
func (c *crasher) cutAgain(p *point, dir string, rnd *rand.Rand) (err error) {
	if err := p.image.Write(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	crash, err := disktest.NewCrash(dir)
	if err != nil {
		return err
	}
	ledger := p.ledger
	at := rnd.IntN(50)
	if rnd.IntN(3) == 0 {
		at = rnd.IntN(4) // while it starts up
	}
	var cut atomic.Bool
	take := func() {
		if cut.CompareAndSwap(false, true) {
			p.image, p.ledger = crash.Cut(rnd), ledger.Snapshot()
		}
	}
	crash.Hook(func() {
		if crash.Calls() >= at {
			take()
		}
	})
	reg, closeStore, err := c.registry(dir, "1", crash, new(disktest.Faulty))
	if err != nil {
		return err
	}
	w := oracletest.NewWorker(reg, ledger, p.world, p.seed, 1)
	w.Lossy = true
	for i := 0; i < 5 && !cut.Load(); i++ {
		if err := w.Step(c.t.Context()); err != nil {
			return errors.Join(err, closeStore())
		}
	}
	// If not yet, then before whatever comes next, be it that a log goes behind all this.
	crash.Hook(take)
	err = closeStore()
	take()
	p.ledger.Settle()
	return err
}
