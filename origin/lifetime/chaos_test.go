package lifetime_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// aged is a store in memory in which all that was written before a time is two graces older.
type aged struct{ before atomic.Pointer[time.Time] }

func (a *aged) age() { now := time.Now(); a.before.Store(&now) }

func (a *aged) of(t time.Time) time.Time {
	if b := a.before.Load(); b != nil && t.Before(*b) {
		return t.Add(-2 * grace)
	}
	return t
}

type agedRecords struct {
	*mem.Records
	*aged
}

func (a agedRecords) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := a.Records.Get(ctx, key)
	rec.Modified = a.of(rec.Modified)
	return rec, err
}

func (a agedRecords) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range a.Records.List(ctx, prefix, after) {
			e.Modified = a.of(e.Modified)
			if !yield(e, err) {
				return
			}
		}
	}
}

type agedBlobs struct {
	*mem.Blobs
	*aged
}

func (a agedBlobs) All(ctx context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for info, err := range a.Blobs.All(ctx) {
			info.Modified = a.of(info.Modified)
			if !yield(info, err) {
				return
			}
		}
	}
}

// chaos is one round of two replicas whose clients push what is garbage elsewhere, while two
// more processes collect it. Nobody has a lock of anything: that is what a lock comes to which
// is granted always, or lost without its holder knowing.
type chaos struct {
	t       *testing.T
	seed    uint64
	blobs   agedBlobs
	records agedRecords
	world   *oracletest.World
	freed   *atomic.Int64
	asleep  *atomic.Int64 // times that trouble was made in the middle of a collection
	// apart has the clients of each replica work in repositories of their own: what one
	// changes the other may not see for a moment, which the oracle would call a broken word.
	apart bool
}

// attic is where the garbage comes from.
const attic = "zz-attic"

func newChaos(t *testing.T, seed uint64, freed, asleep *atomic.Int64) *chaos {
	t.Helper()
	a := &aged{}
	c := &chaos{
		t: t, seed: seed, blobs: agedBlobs{mem.NewBlobs(), a}, records: agedRecords{mem.NewRecords(), a},
		world: oracletest.NewWorld(seed, 256), freed: freed, asleep: asleep,
	}
	reg := open(t, c.blobs, c.records, true)
	for _, b := range c.world.Blobs {
		origintest.PushBlob(t, reg, attic, b)
	}
	return c
}

// story is what the clients of a replica do, and what was answered.
type story struct {
	world  *oracletest.World
	ledger *oracletest.Ledger
}

// stories gives one for each of so many replicas: the same, or one each.
func (c *chaos) stories(n int) []story {
	list := slices.Repeat([]story{{c.world, new(oracletest.Ledger)}}, n)
	for i := range n {
		if c.apart {
			list[i] = story{c.world.Apart(i), new(oracletest.Ledger)}
		}
	}
	return list
}

// run lets clients work at both replicas. One collector is held up in the middle of its run
// until they have done half of their work; trouble is made then.
func (c *chaos) run(members []coord.Notify, trouble func()) {
	t, ctx := c.t, c.t.Context()
	t.Helper()
	asleep, resume := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	h := &hooked{blobs: c.blobs, records: c.records, hook: func(context.Context) {
		if calls.Add(1) == int64(20+c.seed*37%400) {
			close(asleep)
			<-resume
		}
	}}
	collect := func(blobs store.Blobs, records store.Records) (*lifetime.Collector, *local.Registry) {
		reg := open(t, blobs, records, false)
		return lifetime.NewCollector(reg, reg, lifetime.CollectOptions{Grace: grace}), reg
	}
	held, _ := collect(hookedBlobs{h}, hookedRecords{h})
	free, _ := collect(c.blobs, c.records)
	const workers, steps = 2, 30
	var work, collections sync.WaitGroup
	stories, done := c.stories(len(members)), make(chan struct{})
	for _, each := range []*lifetime.Collector{held, free} {
		collections.Go(func() {
			for range 50 {
				rep, err := each.Run(ctx, false)
				if err != nil {
					t.Errorf("seed %d: collection: %v", c.seed, err)
				}
				c.freed.Add(rep.Freed)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	var stepped atomic.Int64
	for i, m := range members {
		reg, err := local.New(c.blobs, coord.Announce(c.records, m, func(key string) bool { return strings.HasPrefix(key, "r/") }), local.Options{Delete: true, Grace: grace, Others: m})
		if err != nil {
			t.Fatal(err)
		}
		for n := range workers {
			work.Go(func() {
				w := oracletest.NewWorker(reg, stories[i].ledger, stories[i].world, c.seed, uint64(workers*i+n))
				for range steps {
					if err := w.Step(ctx); err != nil {
						t.Errorf("seed %d: %v", c.seed, err)
					}
					if stepped.Add(1) == int64(len(members)*workers*steps/2) {
						close(resume)
					}
				}
			})
		}
	}
	select {
	case <-asleep:
		c.asleep.Add(1)
	case <-resume:
	}
	trouble()
	work.Wait()
	close(done)
	collections.Wait()
	if _, err := free.Run(ctx, false); err != nil {
		t.Errorf("seed %d: collection: %v", c.seed, err)
	}
	for _, s := range stories {
		reg := oracletest.Within(open(t, c.blobs, c.records, false), s.world)
		if err := oracletest.Check(ctx, reg, s.ledger, s.world); err != nil {
			t.Errorf("seed %d: %v", c.seed, err)
		}
	}
}

// Collections overlap, and one sleeps in the middle of its work: nothing is lost.
func TestCollectorSleeps(t *testing.T) {
	seed, freed, asleep := oracletest.Seed(t), &atomic.Int64{}, &atomic.Int64{}
	stories := uint64(50)
	if raceDetector {
		stories /= 5 // each takes ten times as long: all are told in `make crash`
	}
	for n := range stories {
		synctest.Test(t, func(t *testing.T) {
			p := coord.NewProcess()
			c := newChaos(t, seed+n, freed, asleep)
			time.Sleep(time.Second)
			c.records.age()
			c.run([]coord.Notify{p.Member(), p.Member()}, func() {})
		})
	}
	wasMade(t, freed, asleep)
}

// wasMade wants that there was something to lose.
func wasMade(t *testing.T, freed, asleep *atomic.Int64) {
	t.Helper()
	t.Logf("%d blobs freed, %d times trouble in the middle of a collection", freed.Load(), asleep.Load())
	if freed.Load() == 0 || asleep.Load() == 0 {
		t.Error("nothing was freed, or a collection was never in the middle of its work")
	}
}

// overRedis is a member of those who share records, by that server.
func overRedis(t *testing.T, server *coordtest.Server, records store.Records, patience time.Duration) *coord.Redis {
	t.Helper()
	key, err := coord.SharedKey(t.Context(), records)
	if err != nil {
		t.Fatal(err)
	}
	r, err := coord.NewRedis(coord.RedisOptions{
		URL: func() (string, error) { return server.URL(), nil }, Key: key, Records: records, Patience: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// In the middle of a collection Redis forgets everything, or stands still for longer than any
// lock would be held; or each replica has one of its own: slower, and nothing is lost (trust
// G-5).
func TestCollectorsWhileRedisFails(t *testing.T) {
	const ttl = 200 * time.Millisecond
	servers := []*coordtest.Server{coordtest.Start(t), coordtest.Start(t)}
	seed, freed, asleep := oracletest.Seed(t), &atomic.Int64{}, &atomic.Int64{}
	for n := range uint64(50) {
		c := newChaos(t, seed+n, freed, asleep)
		c.records.age()
		c.apart = true
		masters := servers[:1+n%2]
		var members []coord.Notify
		var redis []*coord.Redis
		for i := range 2 {
			r := overRedis(t, masters[i%len(masters)], c.records, ttl/4)
			members, redis = append(members, r), append(redis, r)
		}
		c.run(members, func() {
			for _, s := range masters {
				s.Do("FLUSHALL")
			}
			if n%5 == 0 {
				masters[0].Hold()
				<-time.After(2 * ttl)
				masters[0].Resume()
			}
			for _, s := range masters {
				s.Do("FLUSHALL")
			}
		})
		for _, r := range redis {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	wasMade(t, freed, asleep)
}
