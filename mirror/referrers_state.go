package mirror

import (
	"context"
	"encoding/json"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/store"
)

const (
	// referrersHeld is how many bytes of lists of referrers are held in memory, as
	// their records count them.
	referrersHeld = 32 << 20
	// largestReferrers is the largest list that is kept. A referrer is some 300 bytes:
	// these are 20,000. What has more is asked for each time.
	largestReferrers = 6 << 20
)

// keptReferrers is a mirror's memory of what refers to what: records, and some of them
// in memory.
type keptReferrers struct {
	state *state

	mu   sync.Mutex
	held *lru.Cache[contentKey, heldReferrers]
	size int // bytes of what is held; guarded by mu
}

type heldReferrers struct {
	referrers
	size int // of its record
}

func newKeptReferrers(s *state) *keptReferrers {
	r := &keptReferrers{state: s}
	// It is called with mu held, by Add and Remove. New fails only for a size below one.
	r.held, _ = lru.NewWithEvict(kept, func(_ contentKey, h heldReferrers) { r.size -= h.size })
	return r
}

// get gives what is remembered. Errors: store.ErrNotFound.
func (r *keptReferrers) get(ctx context.Context, k contentKey) (referrers, error) {
	if h, ok := r.peek(k); ok && r.state.holds(func() string { return referrersKey(k) }) {
		return h, nil
	}
	reading := r.state.reading()
	rec, err := r.state.read(ctx, referrersKey(k))
	if err != nil {
		return referrers{}, err
	}
	read, err := decodeReferrers(referrersKey(k), rec.Data)
	if err != nil {
		return referrers{}, r.state.usable(referrersKey(k), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// What was put meanwhile is newer than what was read.
	if newer, ok := r.held.Get(k); ok && r.state.trusts() {
		return newer.referrers, nil
	}
	if !r.state.trusts() {
		return read, nil
	}
	r.hold(k, read, len(rec.Data))
	if reading.meanwhile() {
		r.held.Remove(k)
	}
	return read, nil
}

func (r *keptReferrers) peek(k contentKey) (referrers, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, ok := r.held.Get(k)
	return h.referrers, ok
}

// hold takes a list into memory. r.mu is held.
func (r *keptReferrers) hold(k contentKey, list referrers, size int) {
	r.held.Remove(k) // Add evicts nothing where it replaces
	r.size += size
	r.held.Add(k, heldReferrers{list, size})
	for r.size > referrersHeld && r.held.Len() > 1 {
		r.held.RemoveOldest()
	}
}

// put remembers what an upstream said just now.
func (r *keptReferrers) put(k contentKey, list referrers) {
	data, err := json.Marshal(list)
	if err != nil || len(data) > largestReferrers {
		if err != nil {
			r.state.log.Error("state not recorded", "key", referrersKey(k), "error", err)
		}
		return
	}
	hold := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hold(k, list, len(data))
	}
	r.state.put(referrersKey(k), hold, func(ctx context.Context) error {
		_, err := r.state.records.Put(ctx, referrersKey(k), data, store.Always())
		return err
	})
}

// drop forgets what refers to k.
func (r *keptReferrers) drop(ctx context.Context, k contentKey) error {
	_, err := r.state.drop(ctx, referrersKey(k), func() bool { return r.remove(k) })
	return err
}

// keys gives what is held in memory.
func (r *keptReferrers) keys() []contentKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held.Keys()
}

// remove lets go of what is held in memory. It reports whether there was anything.
func (r *keptReferrers) remove(k contentKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held.Remove(k)
}
