package local

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// entryCost is what an entry costs beside its key's and value's bytes: list
// element, map slot and headers, roughly.
const entryCost = 200

// lru keeps what was used last within a budget of bytes. The package's own
// lru.Cache bounds a number of entries, which says nothing where one may be a
// hundred thousand times another.
type lru[K comparable, V any] struct {
	mu      sync.Mutex
	entries *simplelru.LRU[K, priced[V]]
	cost    int64
	most    int64
	trusted func() bool // whether what is kept still holds; nil: always
	doubted map[K]struct{}
}

type priced[V any] struct {
	value V
	cost  int64
}

// newLRU gives a cache of at most that many bytes, by the costs it is told.
func newLRU[K comparable, V any](most int64) *lru[K, V] {
	c := &lru[K, V]{most: most, doubted: map[K]struct{}{}}
	// The only error is of a size that is not positive.
	c.entries, _ = simplelru.NewLRU(math.MaxInt, func(_ K, p priced[V]) { c.cost -= p.cost })
	return c
}

func (c *lru[K, V]) get(k K) (V, bool) {
	if c.trusted != nil && !c.trusted() {
		var none V
		return none, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.doubted[k]; ok {
		var none V
		return none, false
	}
	p, ok := c.entries.Get(k)
	return p.value, ok
}

// believes reports whether who asks will be given what is put under k.
func (c *lru[K, V]) believes(k K) bool {
	if c.trusted != nil && !c.trusted() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, doubted := c.doubted[k]
	return !doubted
}

// doubt drops what is kept under k, and has nothing believed that is put there, until
// believe: somebody may just be reading what does not hold any more.
func (c *lru[K, V]) doubt(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(k)
	c.doubted[k] = struct{}{}
}

// believe drops what was put meanwhile under a doubted k.
func (c *lru[K, V]) believe(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(k)
	delete(c.doubted, k)
}

// sure is get for whoever acknowledges a write on the strength of it: where others write
// too, what is kept may be a moment old.
func (c *lru[K, V]) sure(k K) (V, bool) {
	if c.trusted != nil {
		var none V
		return none, false
	}
	return c.get(k)
}

// put keeps v, unless it alone is over the budget.
func (c *lru[K, V]) put(k K, v V, cost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(k) // so that its cost is given back
	if cost > c.most {
		return
	}
	c.entries.Add(k, priced[V]{v, cost})
	c.cost += cost
	c.shrink()
}

// getOrPut gives what is kept under k, or keeps v.
func (c *lru[K, V]) getOrPut(k K, v V, cost int64) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.entries.Get(k); ok {
		return p.value
	}
	c.entries.Add(k, priced[V]{v, cost})
	c.cost += cost
	c.shrink()
	return v
}

// reprice changes the cost of what is kept under k if it is the one meant, and
// does not bring back what has left.
func (c *lru[K, V]) reprice(k K, meant func(V) bool, cost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.entries.Peek(k)
	if !ok || !meant(p.value) {
		return
	}
	c.entries.Add(k, priced[V]{p.value, cost})
	c.cost += cost - p.cost
	c.shrink()
}

func (c *lru[K, V]) remove(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(k)
}

// purge drops everything, doubts too.
func (c *lru[K, V]) purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Purge()
	clear(c.doubted)
}

// shrink drops the least recently used until the budget holds. The last entry
// stays however large: an index that does not fit would be built anew for each
// page.
func (c *lru[K, V]) shrink() {
	for c.cost > c.most && c.entries.Len() > 1 {
		c.entries.RemoveOldest()
	}
}
