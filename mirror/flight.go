package mirror

import (
	"context"
	"sync"
)

// flights has a question asked once, however many ask it at the same time. The
// zero value is ready.
type flights[K comparable, V any] struct {
	mu      sync.Mutex
	flying  map[K]*flight[V]
	running sync.WaitGroup
}

type flight[V any] struct {
	done   chan struct{}
	answer V
	err    error
}

// do gives the answer to the question that is named key. fetch, which asks it, runs
// on when those who wait are gone: its context is none of theirs.
//
// golang.org/x/sync/singleflight would do it too, but lets nobody wait for what
// still runs, which a clean end needs.
func (f *flights[K, V]) do(ctx context.Context, key K, fetch func(ctx context.Context) (V, error)) (V, error) {
	f.mu.Lock()
	fl, ok := f.flying[key]
	if !ok {
		fl = &flight[V]{done: make(chan struct{})}
		if f.flying == nil {
			f.flying = map[K]*flight[V]{}
		}
		f.flying[key] = fl
		f.running.Go(func() {
			fl.answer, fl.err = fetch(context.WithoutCancel(ctx))
			f.mu.Lock()
			delete(f.flying, key)
			f.mu.Unlock()
			close(fl.done)
		})
	}
	f.mu.Unlock()
	select {
	case <-fl.done:
		return fl.answer, fl.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// wait waits for all that runs.
func (f *flights[K, V]) wait() { f.running.Wait() }
