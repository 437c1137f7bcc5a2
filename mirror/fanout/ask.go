package fanout

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// question is what endpoints are asked.
type question[T any] struct {
	name    string // the same for the same thing
	bounded bool   // by the budget
	do      func(ctx context.Context, e *endpoint) (T, error)
	// drop lets go of an answer that nobody wants; nil: there is nothing to let go of.
	drop func(T)
	// hold has an answer say that e is alive, and call release when it is done with;
	// nil: it is done with at once.
	hold func(answer *T, e *endpoint, release context.CancelFunc)
}

// attempt is one endpoint being asked.
type attempt struct {
	endpoint *endpoint
	began    time.Time
	cancel   context.CancelCauseFunc
	leave    func()
	patience patience
}

// outcome is how an attempt ended.
type outcome[T any] struct {
	*attempt
	answer T
	err    error
}

// errLost ends an attempt that another one was better than.
var errLost = errors.New("fanout: another endpoint answered")

// errSilent ends an attempt at an endpoint that nothing comes from.
var errSilent = errors.New("fanout: no answer in time")

// ask asks the endpoints among which there is a choice in their order: the next one
// when one has failed, or has had its share of the budget, or after HedgeAfter. Then
// the first good answer counts, and what else runs is cut off. Errors: the worst of
// what the endpoints said, or ctx's.
func ask[T any](ctx context.Context, f *Fanout, among choice, q question[T]) (T, error) {
	var none T
	results := make(chan outcome[T], len(among.list)) // so that no attempt waits to be heard
	running := map[*attempt]bool{}
	end := time.Now().Add(f.opts.Budget)
	hedge := newHedge(f.opts.HedgeAfter)
	defer hedge.stop()
	worst := among.worst

	left := among.list
	start := func() {
		for len(left) > 0 {
			var share time.Duration
			if q.bounded {
				share = max(time.Until(end)/time.Duration(len(left)), minShare)
			}
			e := left[0]
			left = left[1:]
			leave, why := e.enter(among.insists)
			if why != nil {
				worst = worse(worst, why) // since we looked
				continue
			}
			running[begin(ctx, e, share, leave, q, results)] = true
			break
		}
		hedge.restart(len(left) > 0)
	}
	for {
		if len(running) == 0 {
			start()
		}
		if len(running) == 0 {
			return none, worst
		}
		select {
		case o := <-results:
			delete(running, o.attempt)
			if ctx.Err() != nil {
				o.abandon(q)
				abandon(running, results, q)
				return none, context.Cause(ctx)
			}
			final := o.endpoint.note(q.name, o.began, o.err)
			o.leave()
			if o.err == nil || final {
				abandon(running, results, q)
				return o.answer, o.err
			}
			worst = worse(worst, o.err)
		case <-hedge.C():
			start()
		case <-ctx.Done():
			abandon(running, results, q)
			return none, context.Cause(ctx)
		}
	}
}

// minShare is the least time that an endpoint is given, whatever those before it took.
const minShare = 100 * time.Millisecond

// begin asks one endpoint. share is how long it may be silent; 0: as long as it likes.
func begin[T any](parent context.Context, e *endpoint, share time.Duration, leave func(), q question[T], results chan<- outcome[T]) *attempt {
	ctx, cancel := context.WithCancelCause(parent)
	a := &attempt{endpoint: e, began: time.Now(), cancel: cancel, leave: leave}
	if share > 0 {
		a.patience.start(share, e, func() { cancel(errSilent) })
	}
	go func() {
		answer, err := q.do(ctx, e)
		// Its time may have run out in the moment in which it answered.
		if late := !a.patience.stop(); late || err != nil && errors.Is(context.Cause(ctx), errSilent) {
			if err == nil && q.drop != nil {
				q.drop(answer)
			}
			err = silence(e)
		}
		if err == nil && q.hold != nil {
			q.hold(&answer, e, func() { cancel(nil) })
		} else {
			cancel(nil)
		}
		results <- outcome[T]{attempt: a, answer: answer, err: err}
	}()
	return a
}

func silence(e *endpoint) error {
	return &origin.UpstreamError{
		Endpoint: e.Host, Timeout: true, Silent: true,
		Err: origin.Outage(true, "upstream "+e.Host+" did not answer in time", errSilent),
	}
}

// abandon cuts off what runs, and lets go of what it still answers.
func abandon[T any](running map[*attempt]bool, results <-chan outcome[T], q question[T]) {
	for a := range running {
		a.cancel(errLost)
	}
	if n := len(running); n > 0 {
		go func() { // until they have noticed
			for range n {
				o := <-results
				o.abandon(q)
			}
		}()
	}
}

func (o outcome[T]) abandon(q question[T]) {
	o.leave()
	if o.err == nil && q.drop != nil {
		q.drop(o.answer)
	}
}

// worse gives the one of two errors that says more of what is wrong: that something
// is not there counts only if nobody failed to say.
func worse(a, b error) error {
	if a == nil || severity(b) > severity(a) {
		return b
	}
	return a
}

func severity(err error) int {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	switch {
	case !ok:
		return 0
	case ue.NotThere():
		return 1
	case ue.Denied():
		return 2
	case ue.Limited():
		return 3
	default:
		return 4
	}
}

// answers reports whether err is an answer to the question, and no outage.
func answers(err error) bool {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	return err == nil || errors.Is(err, store.ErrRange) || ok && (ue.NotThere() || ue.Denied())
}

// patience ends an attempt at an endpoint that is silent for too long. While others
// hear of it, this one merely has not had its turn.
type patience struct {
	mu    sync.Mutex
	timer *time.Timer // nil: there is no end to it
	ended bool
	late  bool
}

func (p *patience) start(share time.Duration, e *endpoint, give func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := time.Now()
	p.timer = time.AfterFunc(share, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.ended:
		case e.heardSince(since):
			since = time.Now()
			p.timer.Reset(share)
		default:
			p.late = true
			give()
		}
	})
}

// stop ends it. It reports whether that was in time.
func (p *patience) stop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	return !p.late
}

// hedge says when the next endpoint is to be asked too.
type hedge struct {
	after time.Duration
	timer *time.Timer // nil: never
}

func newHedge(after time.Duration) *hedge { return &hedge{after: after} }

func (h *hedge) restart(more bool) {
	h.stop()
	if more && h.after > 0 {
		h.timer = time.NewTimer(h.after)
	}
}

func (h *hedge) stop() {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
}

// C gives the channel on which it says so.
func (h *hedge) C() <-chan time.Time {
	if h.timer == nil {
		return nil
	}
	return h.timer.C
}
