package main

import (
	"context"
	"sync/atomic"
)

// use is who uses a thing that another one may replace: it ends when the last of them has
// left.
type use struct {
	users *atomic.Int64 // and one for being in place; 0: it has ended
	ended chan struct{}
}

func newUse() use {
	u := use{&atomic.Int64{}, make(chan struct{})}
	u.users.Store(1)
	return u
}

// enter reports whether the thing may be used, until leave.
func (u use) enter() bool {
	for {
		n := u.users.Load()
		if n == 0 {
			return false
		}
		if u.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (u use) leave() {
	if u.users.Add(-1) == 0 {
		close(u.ended)
	}
}

// end is called once, when the thing is replaced. It waits for the last to leave, or for
// ctx.
func (u use) end(ctx context.Context) {
	u.leave()
	select {
	case <-u.ended:
	case <-ctx.Done():
	}
}
