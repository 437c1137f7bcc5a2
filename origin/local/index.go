package local

import (
	"context"
	"iter"
	"sync"
)

// indexCost is what an index costs without items, and itemCost what an item does
// beside its key and value, in bytes.
const (
	indexCost = 300
	itemCost  = 32
)

// indexes are the sorted listings that are in memory: those used last, within a
// budget of bytes. One that has left is built anew when it is asked for.
//
// Writers put their record first and then tell the index, if there is one, both
// under the lock of the record's name. Nothing is lost between them:
//
//   - A writer that finds no index here need not tell anyone: whoever makes one
//     later begins to list after the record was written.
//   - A writer that finds one that is being built leaves its change there; it is
//     applied after the listing, which may have missed it.
//   - Two writers of one name come in the order of its lock, so that the last
//     change of an index is the last one of the record.
//   - A reader may hold an index that has left meanwhile. What it misses was
//     written after it asked.
type indexes[T any] struct {
	lru *lru[string, *index[T]]
	// load lists the items of one index from the store whose keys are greater than
	// after, in order.
	load func(ctx context.Context, name, after string) iter.Seq2[item[T], error]
	// cost is what a value costs in bytes.
	cost func(T) int64
	// trusted says whether what is in memory still holds; nil: always.
	trusted func() bool
}

// index is one sorted listing. It is built by the first who reads it.
type index[T any] struct {
	mu      sync.Mutex
	built   bool
	list    sorted[T]
	cost    int64
	builder chan struct{} // not nil while someone builds; closed when they end
	pending []change[T]   // told while someone builds
}

type change[T any] struct {
	item   item[T]
	remove bool
}

func newIndexes[T any](most int64, cost func(T) int64, load func(ctx context.Context, name, after string) iter.Seq2[item[T], error]) *indexes[T] {
	return &indexes[T]{lru: newLRU[string, *index[T]](most), load: load, cost: cost}
}

// set tells the index of that name, if there is one, that the item was written.
// The caller holds the item's lock.
func (x *indexes[T]) set(name string, it item[T]) { x.tell(name, change[T]{item: it}) }

// remove tells it that the item was deleted. The caller holds the item's lock.
func (x *indexes[T]) remove(name, key string) {
	x.tell(name, change[T]{item: item[T]{key: key}, remove: true})
}

// holds reports whether there is an index of that name.
func (x *indexes[T]) holds(name string) bool {
	_, ok := x.lru.get(name)
	return ok
}

// forget drops an index after a write that may or may not have happened.
func (x *indexes[T]) forget(name string) { x.lru.remove(name) }

func (x *indexes[T]) tell(name string, c change[T]) {
	ix, ok := x.lru.get(name)
	if !ok {
		return
	}
	ix.mu.Lock()
	switch {
	case ix.builder != nil:
		ix.pending = append(ix.pending, c)
	case ix.built:
		x.apply(ix, c)
	}
	cost := ix.cost
	ix.mu.Unlock()
	x.reprice(name, ix, cost)
}

// apply makes a change; ix.mu is held.
func (x *indexes[T]) apply(ix *index[T], c change[T]) {
	var old item[T]
	var was bool
	if c.remove {
		old, was = ix.list.remove(c.item.key)
	} else {
		old, was = ix.list.set(c.item)
		ix.cost += x.price(c.item)
	}
	if was {
		ix.cost -= x.price(old)
	}
}

func (x *indexes[T]) price(it item[T]) int64 {
	return itemCost + int64(len(it.key)) + x.cost(it.value)
}

func (x *indexes[T]) reprice(name string, ix *index[T], cost int64) {
	x.lru.reprice(name, func(cur *index[T]) bool { return cur == ix }, indexCost+cost)
}

// page visits the items of the index of that name that come after the key, in
// order, until visit says that it has enough. The index is locked meanwhile:
// visit does nothing but collect.
func (x *indexes[T]) page(ctx context.Context, name, after string, visit func(item[T]) bool) error {
	if x.trusted != nil && !x.trusted() {
		for it, err := range x.load(ctx, name, after) {
			if err != nil || !visit(it) {
				return err
			}
		}
		return nil
	}
	ix := x.lru.getOrPut(name, &index[T]{}, indexCost)
	if err := x.build(ctx, name, ix); err != nil {
		return err
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for it := range ix.list.after(after) {
		if !visit(it) {
			break
		}
	}
	return nil
}

// build lists the store into ix unless that was done. One caller does it at a
// time, the others wait; where it fails, the next one tries again, with a context
// of its own.
func (x *indexes[T]) build(ctx context.Context, name string, ix *index[T]) error {
	for {
		ix.mu.Lock()
		if ix.built {
			ix.mu.Unlock()
			return nil
		}
		if ix.builder == nil {
			break
		}
		wait := ix.builder
		ix.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ix.builder = make(chan struct{})
	ix.mu.Unlock()

	fresh := &index[T]{}
	var err error
	for it, e := range x.load(ctx, name, "") {
		if err = e; err != nil {
			break
		}
		x.apply(fresh, change[T]{item: it})
	}

	ix.mu.Lock()
	close(ix.builder)
	ix.builder = nil
	if err == nil {
		ix.list, ix.cost, ix.built = fresh.list, fresh.cost, true
		for _, c := range ix.pending {
			x.apply(ix, c)
		}
	}
	ix.pending = nil
	cost := ix.cost
	ix.mu.Unlock()
	x.reprice(name, ix, cost)
	return err
}
