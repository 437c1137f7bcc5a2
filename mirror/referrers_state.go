package mirror

import (
	"context"
	"encoding/json"

	"github.com/weir-registry/weir/store"
)

// largestReferrers is the largest list that is kept. A referrer is some 300 bytes:
// these are 20,000. What has more is asked for each time.
const largestReferrers = 6 << 20

// keptReferrers is a mirror's memory of what refers to what: records, and some of them
// in memory: they cost what their records are long.
type keptReferrers struct {
	state *state
	held  *held[contentKey, referrers]
}

func newKeptReferrers(s *state) *keptReferrers {
	return &keptReferrers{state: s, held: newHeld[contentKey, referrers](referrerBudget)}
}

// get gives what is remembered. Errors: store.ErrNotFound.
func (r *keptReferrers) get(ctx context.Context, k contentKey) (referrers, error) {
	if h, ok := r.held.get(k); ok && r.state.holds(func() string { return referrersKey(k) }) {
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
	if !r.state.trusts() {
		return read, nil
	}
	// What was put meanwhile is newer than what was read.
	read = r.held.getOrAdd(k, read, len(k.digest)+len(rec.Data))
	if reading.meanwhile() {
		r.state.forget(referrersKey(k), func() { r.held.remove(k) })
	}
	return read, nil
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
	r.state.put(referrersKey(k), func() { r.held.add(k, list, len(k.digest)+len(data)) }, func(ctx context.Context) error {
		_, err := r.state.records.Put(ctx, referrersKey(k), data, store.Always())
		return err
	})
}

// drop forgets what refers to k.
func (r *keptReferrers) drop(ctx context.Context, k contentKey) error {
	_, err := r.state.drop(ctx, referrersKey(k), func() bool { return r.held.remove(k) })
	return err
}
