package basic

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/weir-registry/weir/authz"
)

const (
	// queue is how many wait for their hash to be computed.
	queue = 64
	// patience is how long one waits: so long does a right password fail at most while
	// others are wrong all the time, before it is asked for again.
	patience = 5 * time.Second
)

// gate bounds how many hashes are computed at once. When there are more than it lets
// in, who was not wrong lately goes first, and pushes those out of the queue who were.
type gate struct {
	failures *failures

	mu       sync.Mutex
	free     int       // cores that nobody has
	suspects int       // of them, how many those may have who were wrong often
	waiting  []*waiter // in the order in which they go
}

// waiter is one who wants a hash computed.
type waiter struct {
	who      from
	trusted  bool // this very password was right before
	standing standing
	suspect  bool          // holds one of the cores for suspects
	in       chan struct{} // closed when it is let in
	out      chan struct{} // closed when it is pushed out
}

func newGate(cores int, f *failures) *gate {
	return &gate{failures: f, free: cores, suspects: max(1, cores/2)}
}

// enter waits until a hash may be computed for who, and gives what ends that.
// Errors: authz.ErrBusy.
func (g *gate) enter(ctx context.Context, who from, trusted bool) (leave func(), err error) {
	w := &waiter{who: who, trusted: trusted, standing: g.failures.standing(who), in: make(chan struct{}), out: make(chan struct{})}
	g.mu.Lock()
	switch {
	case g.admit(w):
		g.mu.Unlock()
		return func() { g.leave(w) }, nil
	case len(g.waiting) >= queue && !g.pushOut(w):
		g.mu.Unlock()
		return nil, authz.ErrBusy
	}
	i := slices.IndexFunc(g.waiting, func(x *waiter) bool { return order(w, x) < 0 })
	if i < 0 {
		i = len(g.waiting)
	}
	g.waiting = slices.Insert(g.waiting, i, w)
	g.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.in:
		return func() { g.leave(w) }, nil
	case <-w.out:
	case <-timer.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	i = slices.Index(g.waiting, w)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	select {
	case <-w.in: // at the same moment: somebody else may have it
		g.leave(w)
	default:
	}
	return nil, authz.ErrBusy
}

// admit lets w in if there is room for such as it is.
func (g *gate) admit(w *waiter) bool {
	suspect := !w.trusted && w.standing.suspect()
	if g.free == 0 || suspect && g.suspects == 0 {
		return false
	}
	g.free--
	if suspect {
		g.suspects--
	}
	w.suspect = suspect
	close(w.in)
	return true
}

// pushOut makes room in the queue for w, if the last in it comes after w.
func (g *gate) pushOut(w *waiter) bool {
	last := g.waiting[len(g.waiting)-1]
	if order(w, last) >= 0 {
		return false
	}
	g.waiting = g.waiting[:len(g.waiting)-1]
	close(last.out)
	return true
}

func (g *gate) leave(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	if w.suspect {
		g.suspects++
	}
	for _, w := range g.waiting { // others were wrong while they waited
		w.standing = g.failures.standing(w.who)
	}
	slices.SortStableFunc(g.waiting, order) // of those who are alike, the first that came
	g.waiting = slices.DeleteFunc(g.waiting, g.admit)
}

// order says who goes first: negative, a does.
func order(a, b *waiter) int {
	if a.trusted != b.trusted {
		if a.trusted {
			return -1
		}
		return 1
	}
	return a.standing.compare(b.standing)
}
