package coord

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-registry/weir/store"
)

const (
	// UnannouncedRecord changes when something changed that could not be announced otherwise.
	UnannouncedRecord = "coord/unannounced"
	// look is how often it is looked at, and looked how long what was seen then is believed:
	// what is announced so is seen within a second, or nobody believes his memory.
	look   = 300 * time.Millisecond
	looked = 900 * time.Millisecond
	// storePatience is how long the store may take for it.
	storePatience = 5 * time.Second
)

// unannounced is the announcement that needs no Redis: one record, which tells that
// something changed, and not what.
type unannounced struct {
	records store.Records

	mu   sync.Mutex
	next *saying // of those who come while one is being written
	owed bool    // one could not be written

	turn sync.Mutex
	base time.Time
	seen atomic.Int64 // nanoseconds from base to when it was asked for what was seen last; 0: never
}

// current reports whether what changed until a moment ago has been seen.
func (u *unannounced) current() bool {
	seen := u.seen.Load()
	return seen > 0 && time.Since(u.base)-time.Duration(seen) < looked
}

// saying is one write of the record, for all who wanted it before it began.
type saying struct {
	done chan struct{}
	err  error
}

// say changes the record. One write does for all who wait.
func (u *unannounced) say(ctx context.Context) error {
	u.mu.Lock()
	s, first := u.next, u.next == nil
	if first {
		s = &saying{done: make(chan struct{})}
		u.next = s
	}
	u.mu.Unlock()
	if !first {
		<-s.done // the write has a limit of its own
		return s.err
	}
	u.turn.Lock()
	defer u.turn.Unlock()
	u.mu.Lock()
	u.next = nil
	u.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	_, s.err = u.records.Put(ctx, UnannouncedRecord, []byte(hex.EncodeToString(nonce)), store.Always())
	u.mu.Lock()
	u.owed = s.err != nil
	u.mu.Unlock()
	close(s.done)
	return s.err
}

// watch calls changed when the record has, and once at the beginning, until ctx ends; and
// writes what could not be written before.
func (u *unannounced) watch(ctx context.Context, changed func()) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for last := ""; ctx.Err() == nil; {
		limited, cancel := context.WithTimeout(ctx, storePatience)
		asked := time.Since(u.base)
		rec, err := u.records.Get(limited, UnannouncedRecord)
		cancel()
		if err == nil || errors.Is(err, store.ErrNotFound) {
			now := string(rec.Data) + rec.Version
			if now != last || u.seen.Load() == 0 {
				changed()
			}
			last = now
			u.seen.Store(max(1, int64(asked)))
		}
		u.mu.Lock()
		owed := u.owed
		u.mu.Unlock()
		if owed {
			_ = u.say(ctx) // or later
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}
