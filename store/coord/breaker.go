package coord

import (
	"sync"
	"time"
)

const (
	// Patience is how long one call of Redis may take where nobody says: some hundred times
	// what it takes in a network that is well.
	Patience = 250 * time.Millisecond
	// pause is how long nobody asks after a call that failed; then one may try.
	pause = 500 * time.Millisecond
)

// breaker lets no call through while there is nobody to answer.
type breaker struct {
	mu     sync.Mutex
	open   bool      // the last call failed
	next   time.Time // when one may try again
	trying bool
}

// allow reports whether a call may be made. Whoever makes it reports how it went.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return true
	}
	if b.trying || time.Now().Before(b.next) {
		return false
	}
	b.trying = true
	return true
}

// report takes note of how a call went. It reports whether that is news.
func (b *breaker) report(well bool) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	news = b.open == well
	b.open, b.trying = !well, false
	if !well {
		b.next = time.Now().Add(pause)
	}
	return news
}

// giveUp takes back what allow allowed: nothing is known.
func (b *breaker) giveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}
