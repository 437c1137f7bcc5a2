package mirror

import (
	"context"
	"sync"

	"github.com/weir-registry/weir/origin"
)

// flights has a question asked once, however many ask it at the same time. The
// zero value is ready.
type flights[K comparable, V any] struct {
	mu      sync.Mutex
	closed  bool
	flying  map[K]*flight[V]
	running sync.WaitGroup
}

type flight[V any] struct {
	done    chan struct{}
	cancel  context.CancelCauseFunc
	waiting int // those who want to know; guarded by flights.mu
	answer  V
	err     error
}

// errClosing is what is asked of a mirror that ends.
var errClosing = origin.Errorf(origin.ErrUnavailable, "shutting down")

// do gives the answer to the question that is named key. fetch, which asks it, runs
// on when those who wait are gone: its context is none of theirs.
//
// golang.org/x/sync/singleflight would do it too, but lets nobody wait for what
// still runs, or end it, which a clean end needs.
func (f *flights[K, V]) do(ctx context.Context, key K, fetch func(ctx context.Context) (V, error)) (V, error) {
	var none V
	f.mu.Lock()
	fl, ok := f.flying[key]
	if !ok && f.closed {
		f.mu.Unlock()
		return none, errClosing
	}
	if !ok {
		fl = &flight[V]{done: make(chan struct{})}
		var own context.Context
		own, fl.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
		if f.flying == nil {
			f.flying = map[K]*flight[V]{}
		}
		f.flying[key] = fl
		f.running.Go(func() {
			fl.answer, fl.err = fetch(own)
			fl.cancel(nil)
			f.mu.Lock()
			delete(f.flying, key)
			f.mu.Unlock()
			close(fl.done)
		})
	}
	fl.waiting++
	f.mu.Unlock()
	defer f.leave(fl)
	select {
	case <-fl.done:
		return fl.answer, fl.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// leave takes one of those who wait away. At the end of a mirror nothing is asked that
// nobody wants to know.
func (f *flights[K, V]) leave(fl *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiting--; fl.waiting == 0 && f.closed {
		fl.cancel(errClosing)
	}
}

// close lets nothing more be asked, and waits for what somebody wants to know; when ctx
// ends, that is cut too.
func (f *flights[K, V]) close(ctx context.Context) {
	f.mu.Lock()
	f.closed = true
	for _, fl := range f.flying {
		if fl.waiting == 0 {
			fl.cancel(errClosing)
		}
	}
	f.mu.Unlock()
	cut := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, fl := range f.flying {
			fl.cancel(errClosing)
		}
	})
	defer cut()
	f.running.Wait()
}
