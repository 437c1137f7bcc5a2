package main

import (
	"sync"
	"time"
)

// A pace is a line of limited speed. Whoever sends over it reserves its bytes and
// waits as long as it is told; who comes first goes first, so that many share it
// fairly when they send in small pieces.
type pace struct {
	perSecond float64

	mu   sync.Mutex
	free time.Time // when all that was reserved has gone over the line
}

// newPace makes a line of perSecond bytes each second.
func newPace(perSecond float64) *pace { return &pace{perSecond: perSecond} }

// slack is how far a line catches up after those who use it came late: without it,
// each wait that a busy machine stretches would make the line slower.
const slack = 20 * time.Millisecond

// reserve puts n bytes on the line at now and gives how long to wait until they
// have gone over it.
func (p *pace) reserve(now time.Time, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.IsZero() {
		p.free = now
	}
	if late := now.Add(-slack); p.free.Before(late) {
		p.free = late
	}
	p.free = p.free.Add(time.Duration(float64(n) / p.perSecond * float64(time.Second)))
	return max(0, p.free.Sub(now))
}
