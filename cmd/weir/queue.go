package main

import (
	"container/list"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/ui"
)

// turns counts the requests that are being served, until their bodies end, and lets those
// wait that come while there are as many as may be. The zero value has no limit; its
// limit may change while requests are served.
type turns struct {
	mu       sync.Mutex
	limit    int // 0: none
	patience time.Duration
	serving  int
	waiting  list.List // of chan struct{}, which is closed when it is its turn
}

// configure has n requests be served at a time, 0 for any number, and others wait for
// patience at most. Those who wait already wait as long as they were to.
func (t *turns) configure(n int, patience time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit, t.patience = n, patience
	t.admit()
}

// admit lets those begin whose turn it is. t.mu is held.
func (t *turns) admit() {
	for t.waiting.Len() > 0 && (t.limit == 0 || t.serving < t.limit) {
		close(t.waiting.Remove(t.waiting.Front()).(chan struct{}))
		t.serving++
	}
}

// take waits for a turn, for which release is called once. Errors: ctx's, and
// context.DeadlineExceeded when patience is over.
func (t *turns) take(ctx context.Context) error {
	t.mu.Lock()
	if t.limit == 0 || t.serving < t.limit {
		t.serving++
		t.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	place := t.waiting.PushBack(turn)
	ctx, stop := context.WithTimeout(ctx, t.patience)
	t.mu.Unlock()
	defer stop()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came at the same moment
		return nil
	default:
	}
	t.waiting.Remove(place)
	return ctx.Err()
}

func (t *turns) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving--
	t.admit()
}

// queue serves requests in their turn. Who waits longer than may be is told to come again.
func (t *turns) queue(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ui.IsStream(r) { // it is bounded by itself, and lasts as long as somebody looks
			next.ServeHTTP(w, r)
			return
		}
		err := t.take(r.Context())
		if err == nil {
			defer t.release()
		}
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler) // nobody reads an answer
		}
		if err != nil {
			w.Header().Set("Retry-After", "1")
			serve.Error(w, r, origin.Errorf(origin.ErrUnavailable, "too many requests at once"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
