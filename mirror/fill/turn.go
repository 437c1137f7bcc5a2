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

// admit waits for f's turn among the fills of its upstream. A small blob needs none.
func (g *Group) admit(ctx context.Context, f *Fill) error {
	if g.opts.Concurrency <= 0 || (f.size >= 0 && f.size <= small) {
		return nil
	}
	g.mu.Lock()
	turns := g.turns[f.key.Upstream]
	if turns == nil {
		turns = semaphore.NewWeighted(int64(g.opts.Concurrency))
		g.turns[f.key.Upstream] = turns
	}
	g.mu.Unlock()

	waiting, stop := context.WithTimeoutCause(ctx, maxWait, errTurn)
	defer stop()
	if err := turns.Acquire(waiting, 1); err != nil {
		if cause := context.Cause(waiting); !errors.Is(cause, errTurn) {
			return cause
		}
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "too many downloads from %s at once", f.key.Upstream), errTurn)
	}
	f.mu.Lock()
	f.turn = func() { turns.Release(1) }
	f.mu.Unlock()
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
