package fanout

import (
	"fmt"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
)

const (
	// firstRefusal is how long an endpoint is left alone that limits requests and does
	// not say for how long; each further refusal doubles that, up to longestRefusal.
	firstRefusal, longestRefusal = 10 * time.Second, 10 * time.Minute
	// assumed is the window of a limit that names none: that of Docker Hub.
	assumed = 6 * time.Hour
)

// Limits is what an endpoint has said of how often it may be asked. The zero value is
// ready. Its methods are safe for concurrent use.
type Limits struct {
	mu        sync.Mutex
	tell      func(remaining int) // nil: nobody wants to know
	forget    *time.Timer         // when what it said does not count any more; nil: it has said nothing
	known     bool
	limit     int
	remaining int
	window    time.Duration
	told      time.Time // when it said so
	until     time.Time // it is left alone
	pause     time.Duration
}

// Told takes note of an answer which says that remaining of limit requests are left
// in a window of time (0: it did not say).
func (l *Limits) Told(limit, remaining int, window time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if window <= 0 {
		window = assumed
	}
	l.known, l.limit, l.remaining, l.window, l.told = true, limit, remaining, window, time.Now()
	l.pass()
}

// pass tells what it has said, for as long as that counts. l.mu is held.
func (l *Limits) pass() {
	if l.tell == nil || !l.known {
		return
	}
	l.tell(l.remaining)
	left := time.Until(l.told.Add(l.window))
	if l.forget == nil {
		l.forget = time.AfterFunc(left, l.forgotten)
	} else {
		l.forget.Reset(left)
	}
}

// forgotten says that it is not known any more how many requests remain.
func (l *Limits) forgotten() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tell != nil && time.Since(l.told) >= l.window {
		l.tell(-1)
	}
}

// close ends the reports. Another one of that endpoint may report by now, so what was said last
// stays.
func (l *Limits) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forget != nil {
		l.forget.Stop()
	}
	l.tell = nil
}

// report has tell called with how many requests remain, whenever the endpoint says, and
// with -1 when its window has passed since; until close.
func (l *Limits) report(tell func(remaining int)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell = tell
	if !l.known {
		tell(-1) // what one before it has said
	}
	l.pass()
}

// refused takes note of a 429, and of its Retry-After (0: it had none).
func (l *Limits) refused(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if after <= 0 {
		if now.Before(l.until) {
			return // of several that ran when the first one was refused
		}
		l.pause = min(max(2*l.pause, firstRefusal), longestRefusal)
		after = l.pause
	}
	if until := now.Add(after); until.After(l.until) {
		l.until = until
	}
}

// admitted takes note of an answer that is no refusal. What was asked before a refusal
// and answered after it does not end that.
func (l *Limits) admitted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !time.Now().Before(l.until) {
		l.pause = 0
	}
}

// shut gives the refusal that still holds; nil: there is none.
func (l *Limits) shut(host string) *origin.UpstreamError {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(l.until)
	if left <= 0 {
		return nil
	}
	return &origin.UpstreamError{
		Endpoint: host, Status: 429, RetryAfter: left,
		Err: origin.Wrap(origin.Errorf(origin.ErrUnavailable, "upstream %s wants fewer requests", host),
			fmt.Errorf("left alone for %s more", left.Round(time.Second))),
	}
}

// thrift is by how much what costs a request should be put off: 1 while half of the
// limit or more is left, then 2, from a quarter on 4, from a tenth on 8. Only what
// was said within its window counts.
func (l *Limits) thrift() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || l.limit <= 0 || time.Since(l.told) >= l.window {
		return 1
	}
	switch left := float64(l.remaining) / float64(l.limit); {
	case left >= 0.5:
		return 1
	case left >= 0.25:
		return 2
	case left >= 0.1:
		return 4
	default:
		return 8
	}
}
