package fill

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/weir-registry/weir/origin"
)

// maxWait is how long a fill waits for its turn before those who want it are told to
// come again.
const maxWait = 10 * time.Second

// turnsOf gives the turns of an upstream's fills; nil where a blob of that size, -1 if
// it is not known, needs none. g.mu is held.
func (g *Group) turnsOf(upstream string, size int64) *semaphore.Weighted {
	if g.opts.Concurrency <= 0 || size >= 0 && size <= small {
		return nil
	}
	turns := g.turns[upstream]
	if turns == nil {
		turns = semaphore.NewWeighted(int64(g.opts.Concurrency))
		g.turns[upstream] = turns
	}
	return turns
}

// admit waits for f's turn among the fills of its upstream. A small blob needs none,
// and a fill ahead has its own.
func (g *Group) admit(ctx context.Context, f *Fill) error {
	g.mu.Lock()
	f.mu.Lock()
	has, size := f.turn != nil, f.size
	f.mu.Unlock()
	turns := g.turnsOf(f.key.Upstream, size)
	if turns == nil || has {
		g.mu.Unlock()
		return nil
	}
	g.mu.Unlock()
	if !turns.TryAcquire(1) {
		if err := g.await(ctx, f, turns); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.turn = func() { turns.Release(1) }
	f.mu.Unlock()
	return nil
}

// await waits for a turn, and has a fill ahead give its own back.
func (g *Group) await(ctx context.Context, f *Fill, turns *semaphore.Weighted) error {
	upstream := f.key.Upstream
	g.mu.Lock()
	g.wanted[turns]++
	g.yield(upstream)
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.wanted[turns]--; g.wanted[turns] == 0 {
			delete(g.wanted, turns)
		}
	}()
	waiting, stop := context.WithTimeoutCause(ctx, maxWait, errTurn)
	defer stop()
	if err := turns.Acquire(waiting, 1); err != nil {
		if cause := context.Cause(waiting); !errors.Is(cause, errTurn) {
			return cause
		}
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "too many downloads from %s at once", upstream), errTurn)
	}
	return nil
}

// errTurn is the cause of a fill that did not get its turn in time.
var errTurn = errors.New("fill: no turn in time")

// release gives f's turn back, if it has one.
func (f *Fill) release() {
	f.mu.Lock()
	turn := f.turn
	f.turn = nil
	f.mu.Unlock()
	if turn != nil {
		turn()
	}
}
