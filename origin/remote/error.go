package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// errWrong says that an answer is not what it should be.
var errWrong = errors.New("not a registry's answer")

func wrongAnswer(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errWrong, fmt.Sprintf(format, args...))
}

// failure gives an error its meaning for a caller: the caller's own context's
// error, or an origin.UpstreamError. The unknown one is what a client is told if
// the upstream has nothing, or shows nothing.
func (r *Registry) failure(ctx context.Context, missing *origin.Error, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &origin.UpstreamError{Endpoint: r.endpoint, Timeout: isTimeout(err)}
	_, e.Silent = errors.AsType[*egress.Silence](err)
	if refused, ok := errors.AsType[*refusal](err); ok {
		e.Status, e.RetryAfter = refused.status, refused.wait
		if refused.code == origin.CodeNameUnknown {
			missing = origin.ErrNameUnknown
		}
	}
	if e.Timeout {
		// The timeouts of net and net/http are context.DeadlineExceeded to errors.Is,
		// and would be taken for the end of the caller's own time.
		err = fmt.Errorf("%w: %v", os.ErrDeadlineExceeded, err)
	}
	switch {
	case e.NotThere(), e.Denied():
		e.Err = origin.Wrap(missing, err)
	case e.Limited():
		e.Err = origin.Wrap(origin.Errorf(origin.ErrUnavailable, "upstream %s wants fewer requests", r.endpoint), err)
	case e.Timeout:
		e.Err = origin.Outage(true, fmt.Sprintf("upstream %s did not answer in time", r.endpoint), err)
	case errors.Is(err, errMismatch):
		e.Err = origin.Outage(false, "upstream sent content that does not match its digest", err)
	default:
		e.Err = origin.Outage(false, fmt.Sprintf("upstream %s did not answer properly", r.endpoint), err)
	}
	return e
}

// errMismatch says that content does not have its digest.
var errMismatch = fmt.Errorf("%w: content does not match its digest", errWrong)

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// refusal is a status that is no success.
type refusal struct {
	status  int // as in origin.UpstreamError
	code    origin.Code
	message string // of the endpoint, as it came
	wait    time.Duration
	text    string
}

func (e *refusal) Error() string { return e.text }
