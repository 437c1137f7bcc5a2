package fanout

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-registry/weir/origin"
)

const (
	// firstPause is how long an endpoint is left out that went away, before it is
	// probed; each further failure doubles that, up to longestPause.
	firstPause, longestPause = time.Second, 30 * time.Second
	// probeTime is how long a probe may take.
	probeTime = 5 * time.Second
	// enough is how many different questions in a row an endpoint may answer with a
	// 5xx before it is asked last: one that is broken says nothing of the others.
	enough = 3
	// weight is that of the newest in the mean of latencies.
	weight = 0.2
)

// endpoint is an Endpoint, and what is known of how it does.
type endpoint struct {
	Endpoint
	born  time.Time
	tell  func(up bool)
	heard atomic.Int64 // when something last came from it, in ns since born, from 1 on; 0: never

	mu      sync.Mutex
	outage  *origin.UpstreamError // why it is left out; nil: it is asked
	pause   time.Duration         // how long it is or was left out; 0: it has answered since
	last    bool                  // it is only asked last: it answers, with a 5xx
	doubted bool                  // it answered a probe, and then no question
	half    bool                  // it is asked one question at a time, although there is an outage
	trying  bool                  // that question is being asked
	timer   *time.Timer           // ends the pause
	unprobe context.CancelFunc    // cuts the probe that runs
	closed  bool
	probes  sync.WaitGroup
	bad     int           // questions in a row answered with a 5xx
	badLast string        // the last one of them
	latency time.Duration // mean time to an answer; 0: none came yet
}

// alive takes note that something came from the endpoint.
func (e *endpoint) alive() { e.heard.Store(int64(time.Since(e.born)) + 1) }

func (e *endpoint) heardSince(t time.Time) bool {
	heard := e.heard.Load()
	return heard > 0 && e.born.Add(time.Duration(heard-1)).After(t)
}

// note takes note of how a question that was asked at began ended. It reports whether
// that is final: no other endpoint can say better.
func (e *endpoint) note(question string, began time.Time, err error) (final bool) {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	switch {
	case answers(err):
		e.answered(time.Since(began))
		return !ok && err != nil
	case !ok:
		return true
	case ue.Limited():
		e.alive()
		e.Limits.refused(ue.RetryAfter)
	case ue.Silent:
		// If others have heard of it since, it is busy, or has a bad connection.
		if !e.heardSince(began) {
			e.trip(ue, 0, false)
		}
	case ue.Status >= 500:
		e.alive()
		e.errored(question, ue)
	}
	return false
}

// answered takes note of an answer, whatever it says.
func (e *endpoint) answered(took time.Duration) {
	e.alive()
	e.Limits.admitted()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bad, e.pause, e.doubted = 0, 0, false
	if e.latency == 0 {
		e.latency = took
	} else {
		e.latency += time.Duration(weight * float64(took-e.latency))
	}
	e.admit()
}

// errored takes note of a 5xx.
func (e *endpoint) errored(question string, ue *origin.UpstreamError) {
	e.mu.Lock()
	if e.bad == 0 || question != e.badLast {
		e.bad, e.badLast = e.bad+1, question
	}
	trip := e.bad >= enough || ue.RetryAfter > 0
	e.mu.Unlock()
	if trip {
		e.trip(ue, ue.RetryAfter, ue.RetryAfter == 0)
	}
}

// trip leaves the endpoint out, at least for that long, or has it asked last.
func (e *endpoint) trip(ue *origin.UpstreamError, least time.Duration, last bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed, e.outage != nil && !e.half && e.last == last:
		return // somebody else has met it
	case e.outage == nil:
		e.tell(false)
	}
	e.doubted = e.pause > 0
	e.outage, e.last = ue, last
	e.rest(least)
}

// rest has the endpoint probed after a pause. e.mu is held.
func (e *endpoint) rest(least time.Duration) {
	e.half = false
	if e.timer != nil {
		e.timer.Stop()
	}
	e.pause = min(max(2*e.pause, firstPause, least), longestPause)
	e.timer = time.AfterFunc(e.pause, e.probe)
}

// probe asks the endpoint whether it is there, and lets it be asked again. If it
// cannot be asked that, or did not answer although it was there, a single question at
// a time tries it.
func (e *endpoint) probe() {
	e.mu.Lock()
	if e.outage == nil || e.closed {
		e.mu.Unlock()
		return
	}
	pinger, ok := e.Reader.(Pinger)
	if !ok {
		e.half = true
		e.mu.Unlock()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	e.unprobe = cancel
	e.probes.Add(1)
	defer e.probes.Done()
	e.mu.Unlock()

	err := pinger.Ping(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.outage == nil || e.closed:
	case err == nil:
		// It is there; whether it does what it is there for, the next answer says.
		e.bad = enough - 1
		if e.half = e.doubted; !e.half {
			e.admit()
		}
	default:
		e.rest(0)
	}
}

// admit lets the endpoint be asked again. e.mu is held.
func (e *endpoint) admit() {
	if e.outage == nil {
		return
	}
	e.outage, e.last, e.half = nil, false, false
	e.timer.Stop()
	e.tell(true)
}

func (e *endpoint) close() {
	e.mu.Lock()
	e.closed = true
	if e.timer != nil {
		e.timer.Stop()
	}
	if e.unprobe != nil {
		e.unprobe()
	}
	e.mu.Unlock()
	e.Limits.close()
	e.probes.Wait()
}

// shut gives why the endpoint is not asked now; nil: it is.
func (e *endpoint) shut() *origin.UpstreamError {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.outage != nil && !e.last && (!e.half || e.trying) {
		return e.outage
	}
	return e.Limits.shut(e.Host)
}

// askedLast says whether the endpoint is only asked last.
func (e *endpoint) askedLast() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// enter is shut for who asks now, and calls leave after it unless it is told why not.
// A download that goes on where it came from insists.
func (e *endpoint) enter(insists bool) (leave func(), why *origin.UpstreamError) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case insists:
		return func() {}, nil
	case e.outage == nil || e.last:
		return func() {}, e.Limits.shut(e.Host)
	case !e.half || e.trying:
		return nil, e.outage
	}
	e.trying = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.trying = false
	}, nil
}
