package mirror

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// entryCost is what an entry costs beside what it is said to: list element, map slot and
// headers, roughly.
const entryCost = 200

// held keeps what was used last within a budget of bytes. A number of entries, which is
// what the package's own Cache bounds, says nothing where an upstream decides how long one is.
type held[K comparable, V any] struct {
	most  int64
	after func() // tests come in the instant after something was kept

	mu      sync.Mutex
	entries *simplelru.LRU[K, priced[V]]
	cost    int64
}

type priced[V any] struct {
	value V
	cost  int64
}

func newHeld[K comparable, V any](most int64) *held[K, V] {
	h := &held[K, V]{most: most, after: func() {}}
	// It fails only for a size below one.
	h.entries, _ = simplelru.NewLRU(math.MaxInt, func(_ K, p priced[V]) { h.cost -= p.cost })
	return h
}

func (h *held[K, V]) get(k K) (V, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.entries.Get(k)
	return p.value, ok
}

// add keeps v, which is size bytes long.
func (h *held[K, V]) add(k K, v V, size int) {
	h.mu.Lock()
	h.put(k, v, size)
	h.mu.Unlock()
	h.after()
}

// getOrAdd gives what is kept under k, or keeps v.
func (h *held[K, V]) getOrAdd(k K, v V, size int) V {
	h.mu.Lock()
	if p, ok := h.entries.Get(k); ok {
		h.mu.Unlock()
		return p.value
	}
	h.put(k, v, size)
	h.mu.Unlock()
	h.after()
	return v
}

// put makes room for v. h.mu is held.
func (h *held[K, V]) put(k K, v V, size int) {
	h.entries.Remove(k) // so that its cost is given back
	p := priced[V]{v, int64(size) + entryCost}
	h.cost += p.cost
	h.entries.Add(k, p)
	for h.cost > h.most {
		h.entries.RemoveOldest()
	}
}

func (h *held[K, V]) remove(k K) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries.Remove(k)
}

func (h *held[K, V]) keys() []K {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries.Keys()
}
