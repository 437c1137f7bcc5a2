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
	// apart has the clients of each replica work in repositories of their own: what one
	// changes the other may not see for a moment, which the oracle would call a broken word.
	apart bool
}

// attic is where the garbage comes from.
const attic = "zz-attic"

func newChaos(t *testing.T, seed uint64, freed *atomic.Int64) *chaos {
	t.Helper()
	a := &aged{}
	c := &chaos{
		t: t, seed: seed, blobs: agedBlobs{mem.NewBlobs(), a}, records: agedRecords{mem.NewRecords(), a},
		world: oracletest.NewWorld(seed, 256), freed: freed,
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
// until they have done half of their work; trouble is made meanwhile.
func (c *chaos) run(members []coord.Notify, trouble func()) {
	t, ctx := c.t, c.t.Context()
	t.Helper()
	resume := make(chan struct{})
	var calls atomic.Int64
	h := &hooked{blobs: c.blobs, records: c.records, hook: func() {
		if calls.Add(1) == int64(20+c.seed*37%400) {
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
	seed, freed := oracletest.Seed(t), &atomic.Int64{}
	stories := uint64(50)
	if raceDetector {
		stories /= 5 // each takes ten times as long
	}
	for n := range stories {
		synctest.Test(t, func(t *testing.T) {
			p := coord.NewProcess()
			c := newChaos(t, seed+n, freed)
			time.Sleep(time.Second)
			c.records.age()
			c.run([]coord.Notify{p.Member(), p.Member()}, func() {})
		})
	}
	t.Logf("%d blobs freed", freed.Load())
	if freed.Load() == 0 {
		t.Error("nothing was freed")
	}
}

// Meanwhile Redis forgets everything, or stands still for longer than any lock would be
// held: slower, and nothing is lost.
func TestCollectorsWhileRedisFails(t *testing.T) {
	const ttl = 200 * time.Millisecond
	server := coordtest.Start(t)
	seed, freed := oracletest.Seed(t), &atomic.Int64{}
	for n := range uint64(50) {
		c := newChaos(t, seed+n, freed)
		c.records.age()
		c.apart = true
		key, err := coord.SharedKey(t.Context(), c.records)
		if err != nil {
			t.Fatal(err)
		}
		var members []coord.Notify
		var redis []*coord.Redis
		for range 2 {
			r, err := coord.NewRedis(coord.RedisOptions{
				URL: func() (string, error) { return server.URL(), nil }, Key: key, Records: c.records, Patience: ttl / 4,
			})
			if err != nil {
				t.Fatal(err)
			}
			members, redis = append(members, r), append(redis, r)
		}
		c.run(members, func() {
			server.Do("FLUSHALL")
			if n%5 == 0 {
				server.Hold()
				<-time.After(2 * ttl)
				server.Resume()
			}
			server.Do("FLUSHALL")
		})
		for _, r := range redis {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d blobs freed", freed.Load())
}
