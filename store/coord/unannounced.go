package coord

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
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
// something changed, and not what. It also names the server by which replicas tell each other
// what changed, so that those who have another one know that they are told nothing.
type unannounced struct {
	records store.Records
	base    time.Time

	mu   sync.Mutex
	next *saying // of those who come while one is being written
	owed bool    // one could not be written

	turn sync.Mutex
	seen atomic.Pointer[sight] // what was seen last; nil: nothing
	soon chan struct{}         // it is to be looked at before its time
}

// named is the server that the record names. While it is not settled nobody relies on it: those
// who have relied on another one until now may not know yet.
type named struct {
	server  string // "": none
	settled bool
}

// lost is the server that a damaged record names: nobody's, so that whoever names his own waits as
// he does where it is another one's.
const lost = "lost"

// sight is the record as it was seen.
type sight struct {
	named
	data, version string
	damaged       bool
	asked         time.Duration // from the base, when it was asked for
	since         time.Duration // when it first named this one, and did each time since
}

// text is a record that names a server, and that is another one each time.
func (n named) text() []byte {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	return fmt.Appendf(nil, "%s %t %s", n.server, n.settled, hex.EncodeToString(nonce))
}

func parseNamed(data string) named {
	server, rest, _ := strings.Cut(data, " ")
	settled, _, ok := strings.Cut(rest, " ")
	if !ok {
		return named{} // it is as an earlier weir has written it
	}
	return named{server, settled == "true"}
}

// ask gives the record as it is. One that is not there names nobody.
func (u *unannounced) ask(ctx context.Context) (s sight, err error) {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	s.asked = time.Since(u.base)
	rec, err := u.records.Get(ctx, UnannouncedRecord)
	if s.damaged = errors.Is(err, store.ErrDamaged); s.damaged || errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	s.data, s.version = string(rec.Data), rec.Version
	if s.named, s.since = parseNamed(s.data), time.Since(u.base); s.damaged {
		s.named = named{server: lost}
	}
	return s, err
}

// put writes the record, if it is as it was seen. Errors: store.ErrConflict; others.
func (u *unannounced) put(ctx context.Context, is sight, n named) error {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	was := store.Version(is.version)
	switch {
	case is.damaged:
		was = store.Always()
	case is.version == "":
		was = store.Absent()
	}
	_, err := u.records.Put(ctx, UnannouncedRecord, n.text(), was)
	return err
}

// current gives what was seen last, if what changed until a moment ago has been seen.
func (u *unannounced) current() (s sight, ok bool) {
	seen := u.seen.Load()
	if seen == nil || time.Since(u.base)-seen.asked >= looked {
		return sight{}, false
	}
	return *seen, true
}

// server gives the one by which others are told now; "": they are told by the record, also
// where that is slow to look at, as nobody believes his memory then.
func (u *unannounced) server(ctx context.Context) string {
	s, ok := u.current()
	if !ok && u.seen.Load() == nil { // nobody looks at it
		var err error
		s, err = u.ask(ctx)
		ok = err == nil
	}
	if !ok || !s.settled {
		return ""
	}
	return s.server
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
	is, err := u.ask(ctx)
	if err == nil {
		// One that is another now was written since, which tells everybody as well.
		if err = u.put(ctx, is, is.named); errors.Is(err, store.ErrConflict) {
			err = nil
		}
	}
	s.err = err
	u.mu.Lock()
	u.owed = s.err != nil
	u.mu.Unlock()
	close(s.done)
	return s.err
}

// watch calls changed when the record has, and once at the beginning, and then agree, which
// reports whether it has written it, until ctx ends; and writes what could not be written before.
func (u *unannounced) watch(ctx context.Context, changed func(), agree func(sight) (wrote bool)) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if now, err := u.ask(ctx); err == nil {
			last := u.seen.Load()
			if last == nil || now.data != last.data || now.version != last.version {
				changed()
			}
			if last != nil && now.named == last.named {
				now.since = last.since
			}
			u.seen.Store(&now)
			if agree(now) {
				continue
			}
		}
		u.mu.Lock()
		owed := u.owed
		u.mu.Unlock()
		if owed {
			_ = u.say(ctx) // or later
		}
		select {
		case <-ticker.C:
		case <-u.soon:
		case <-ctx.Done():
		}
	}
}

// lookSoon has it looked at.
func (u *unannounced) lookSoon() {
	select {
	case u.soon <- struct{}{}:
	default:
	}
}
