//go:build nightly

package lifetime_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/store/disk"
)

// night is how much must be done: by the rule of three, less than one loss in 33,000
// operations then, with 95 % confidence (trust G-2).
func night(t *testing.T) amount {
	return amount{operations: oracletest.PartOf[int64](t, 100_000), cycles: oracletest.PartOf[int64](t, 5000)}
}

// Garbage is collected every 100 ms on average by each of two processes over one store,
// under sixteen writers.
func TestNightlySoakReplicas(t *testing.T) {
	soakReplicas(t, night(t), func(*soak) {}).Keep(t)
}

// And on disks, in the time of this world.
func TestNightlySoakDisk(t *testing.T) {
	soakDisks(t, night(t), func(*soak) {}).Keep(t)
}

// disks is over how many disks a soak is spread. One waits for syncs nearly all the time:
// a collection takes a quarter of a second, of which 25 ms are work.
const disks = 8

// soakDisks has so many processes over a disk each do their part of least, each under
// sixteen writers. more may add to each of them before it begins.
func soakDisks(t *testing.T, least amount, more func(*soak)) *oracletest.Report {
	seed := oracletest.Seed(t)
	rep := oracletest.NewReport(t, "disk, one process each", seed)
	rep.More["disks"] = disks
	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // what is done by then is told
		var cancel func()
		ctx, cancel = context.WithDeadline(ctx, end.Add(-time.Minute))
		defer cancel()
	}
	var all sync.WaitGroup
	var each []*soak
	for i := range uint64(disks) {
		s := newSoak(t, seed+i)
		s.grace, s.wait = 30*time.Second, 100*time.Millisecond
		s.least = amount{operations: least.operations/disks + 1, cycles: least.cycles/disks + 1}
		s.onDisk(t.TempDir(), 16)
		more(s)
		each = append(each, s)
		all.Go(func() { s.run(ctx) })
	}
	all.Wait()
	for _, s := range each {
		s.after(t.Context())
		s.into(rep)
	}
	if rep.Operations < least.operations || rep.Cycles < least.cycles {
		t.Errorf("%d operations and %d cycles are too few", rep.Operations, rep.Cycles)
	}
	return rep
}

// onDisk has all writers talk to one process.
func (s *soak) onDisk(dir string, writers int) {
	var opened *disk.Store
	open := func() *local.Registry {
		var err error
		if opened, err = disk.Open(dir, disk.Options{}); err != nil {
			s.t.Fatal(err)
		}
		reg, err := local.New(opened.Blobs(), opened.Records(), local.Options{Delete: true, Grace: s.grace, Sole: true})
		if err != nil {
			s.t.Fatal(err)
		}
		return reg
	}
	stop := func() {
		if err := opened.Close(); err != nil {
			s.t.Error(err)
		}
	}
	reg := open()
	for range writers {
		s.writers = append(s.writers, reg)
	}
	s.collect = append(s.collect, lifetime.NewCollector(reg, reg, lifetime.CollectOptions{Grace: s.grace}))
	// Of 16 who think for so long there are about twenty operations for each collection. More
	// keep collections from the disk, of which there are to be many.
	s.think = func(rnd *rand.Rand) { time.Sleep(time.Duration(rnd.Int64N(int64(1500 * time.Millisecond)))) }
	s.fresh = func() *local.Registry { stop(); return open() }
	s.t.Cleanup(func() { stop() })
}
