package local

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// fewCondemned is how many condemned blobs whoever pushes first lists, at most, so that
// those who push later need not look. More are left to the next collection.
const fewCondemned = 1000

// condemnations knows, in a store that no other process writes to, which blobs are surely
// not condemned. It counts the records by a hash of their digests: some kilobytes,
// however many there are. There are never more records than it has counted; to have
// counted too many costs a look into the store.
type condemnations struct {
	seed  maphash.Seed
	slots [1 << 12]atomic.Int32
	known atomic.Bool // what was there at the start is counted

	mu   sync.Mutex // of who lists
	many bool       // more than fewCondemned
}

func newCondemnations() *condemnations { return &condemnations{seed: maphash.MakeSeed()} }

func (c *condemnations) slot(d digest.Digest) int {
	return int(maphash.String(c.seed, d.String()) % uint64(len(c.slots)))
}

func (c *condemnations) add(d digest.Digest, n int32) { c.slots[c.slot(d)].Add(n) }

// ruledOut reports whether the blob is surely not condemned.
func (r *Registry) ruledOut(ctx context.Context, d digest.Digest) bool {
	c := r.condemnations
	// An error leaves it to the record.
	return r.countCondemned(ctx, fewCondemned) == nil && c.known.Load() && c.slots[c.slot(d)].Load() == 0
}

// countCondemned counts what was there at the start, unless that was done or there are
// more than most. One that is spared meanwhile may stay counted.
func (r *Registry) countCondemned(ctx context.Context, most int) error {
	c := r.condemnations
	if !r.options().Sole || c.known.Load() {
		return nil
	}
	// Who pushes looks into the store rather than wait: who collects may list for long.
	if most > fewCondemned {
		c.mu.Lock()
	} else if !c.mu.TryLock() {
		return nil
	}
	defer c.mu.Unlock()
	if c.known.Load() || c.many && most == fewCondemned {
		return nil
	}
	var counts [len(c.slots)]int32
	n := 0
	for e, err := range r.records.List(ctx, prefixCondemned, "") {
		if err != nil {
			return fmt.Errorf("list condemned blobs: %w", err)
		}
		if n++; n > most {
			c.many = true
			return nil
		}
		if d, ok := digestOfPath(lastOfKey(e.Key, prefixCondemned)); ok {
			counts[c.slot(d)]++
		}
	}
	for i, n := range counts {
		c.slots[i].Add(n)
	}
	c.known.Store(true)
	return nil
}

// countAllCondemned is for who collects.
func (r *Registry) countAllCondemned(ctx context.Context) error {
	return r.countCondemned(ctx, math.MaxInt)
}

// uncondemn deletes the record of a condemned blob as it was read; whatever it is where
// version is "", which is that of a damaged one.
func (r *Registry) uncondemn(ctx context.Context, d digest.Digest, version string) error {
	known := r.condemnations.known.Load() // before, or it may not be counted
	if_ := store.Version(version)
	if version == "" {
		if_ = store.Always()
	}
	err := r.records.Delete(ctx, keyCondemned(d), if_)
	if err == nil && known {
		r.condemnations.add(d, -1)
	}
	return err
}
