package foreign

import (
	"context"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
)

const (
	// patience is how long an answer is waited for that the mirror can do without.
	patience = 3 * time.Second
	// pause is how long a registry is left alone that could not say.
	pause = 5 * time.Second
)

// errSilent is the answer of a registry that gives none.
var errSilent error = origin.Errorf(origin.ErrUnavailable, "the registry behind is not available")

// quiet leaves a registry alone that is away: it is asked again after a pause, by
// one request, whose answer says for all whether it is back. The zero value is ready.
type quiet struct {
	mu    sync.Mutex
	until time.Time
}

// ask does what asks the registry for something that can be done without. If impatient,
// do's context ends after a while. Errors: errSilent, and do's.
func (q *quiet) ask(ctx context.Context, impatient bool, do func(ctx context.Context) error) error {
	if !q.enter() {
		return errSilent
	}
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if impatient {
		late := time.AfterFunc(patience, func() { cancel(errSilent) })
		defer late.Stop()
	}
	err := do(own)
	return q.heard(ctx, own, err)
}

// enter reports whether the registry may be asked now. Who asks first after the pause
// has the others wait for another one.
func (q *quiet) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if q.until.IsZero() {
		return true
	}
	if now.Before(q.until) {
		return false
	}
	q.until = now.Add(pause)
	return true
}

// away reports whether the registry is left alone now.
func (q *quiet) away() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return time.Now().Before(q.until)
}

// heard takes note of how a request in the context own ended, which was made for ctx.
func (q *quiet) heard(ctx, own context.Context, err error) error {
	if err != nil && ctx.Err() == nil && context.Cause(own) == errSilent {
		err = errSilent
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case outage(ctx, err):
		q.until = time.Now().Add(pause)
	case ctx.Err() == nil:
		q.until = time.Time{}
	}
	return err
}
