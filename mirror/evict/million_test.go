package evict_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// many is a store of a million blobs that takes no memory for them.
type many struct{ evict.Store }

func nth(i uint64) digest.Digest {
	var b [32]byte
	binary.LittleEndian.PutUint64(b[:], i*0x9e3779b97f4a7c15) // spread over the shards
	binary.BigEndian.PutUint64(b[8:], i)
	return digest.NewDigestFromBytes(digest.SHA256, b[:])
}

func (many) Evictable(context.Context) iter.Seq2[origin.Evictable, error] {
	repos := thousand()
	return func(yield func(origin.Evictable, error) bool) {
		for i := range howMany() {
			info := store.Info{Digest: nth(i), Size: 1 << 20, Modified: time.Unix(int64(i%1000), 0)}
			if !yield(origin.Evictable{Info: info, Repos: repos[i/8%uint64(len(repos)):][:1]}, nil) {
				return
			}
		}
	}
}

// thousand are the repositories that the blobs are in, eight in a row together.
func thousand() (list []origin.Repo) {
	for i := range 1000 {
		repo, _ := origin.ParseRepo(fmt.Sprint("hub/r", i)) // it is a name
		list = append(list, repo)
	}
	return list
}

func (many) EvictFrom(context.Context, origin.Repo, digest.Digest) error { return nil }

func (many) Evict(context.Context, digest.Digest) error { return nil }

// howMany blobs there are: as many in each repository, so that nothing exceeds a quota before
// anything comes. The race detector makes each cost ten times as much.
func howMany() uint64 {
	if raceDetector {
		return 48_000
	}
	return 1_000_000
}

// A million blobs in 125,000 images are kept track of in 320 MiB of memory, also while
// they are being listed, and in 500 MiB where all of the thousand repositories that they are
// in have quotas; and to find what leaves takes no time.
func TestMillion(t *testing.T) {
	each := int64(howMany()/1000) << 20
	for name, x := range map[string]struct {
		limits evict.Limits
		most   uint64 // bytes for each
	}{
		"budget": {evict.Limits{MaxSize: int64(howMany()) << 20}, 320},
		"quotas": {evict.Limits{Quota: func(origin.Repo) int64 { return each }}, 500},
	} {
		t.Run(name, func(t *testing.T) { million(t, x.limits, x.most*howMany()) })
	}
}

func million(t *testing.T, limits evict.Limits, most uint64) {
	repos := thousand()
	in := func(i uint64) origin.Repo { return repos[i/8%uint64(len(repos))] }
	before := heap()
	records := mem.NewRecords()
	c := evict.New(many{}, records, evict.Options{Limits: limits})
	c.Start()
	peak, listing := uint64(0), time.Now()
	for c.Bytes() < int64(howMany())<<20 {
		if time.Since(listing) > time.Minute*5 {
			t.Fatalf("%d MiB are known", c.Bytes()>>20)
		}
		time.Sleep(20 * time.Millisecond)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc-before)
	}
	singles := heap() - before
	for i := uint64(0); i < howMany(); i += 8 {
		var blobs []digest.Digest
		for j := range uint64(8) {
			blobs = append(blobs, nth(i+j))
		}
		c.Image(in(i), nth(howMany()+i), blobs)
	}
	images := heap() - before
	t.Logf("heap: %d MiB at most while listing, %d MiB then, %d MiB with images", peak>>20, singles>>20, images>>20)
	if max(peak, singles, images) > most && !raceDetector {
		t.Errorf("more than %d bytes", most)
	}
	began := time.Now()
	for i := range uint64(1000) {
		if err := c.Reserve(in(i), nth(2*howMany()+i), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > time.Second && !raceDetector {
		t.Errorf("1000 reservations at the budget took %v", took)
	}
	c.Configure(evict.Limits{})
	began = time.Now()
	c.Configure(limits)
	t.Logf("limits where there were none took %v", time.Since(began).Round(time.Millisecond))
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	// And the next process knows their use.
	c = evict.New(many{}, records, evict.Options{})
	c.Start()
	for c.Bytes() < int64(howMany())<<19 {
		time.Sleep(20 * time.Millisecond)
	}
	if use, ok := c.LastUse(nth(howMany() - 1)); !ok || time.Since(use) > time.Hour {
		t.Errorf("last use after a restart: %v, %v", use, ok)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// heap is what is in use after everything else was collected.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

var _ evict.Store = origin.Keeper(nil)
