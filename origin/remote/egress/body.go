package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// ErrStalled ends a body of which no further byte came, or could be sent, in time.
var ErrStalled = fmt.Errorf("it stalled: %w", os.ErrDeadlineExceeded)

// body is an answer's body. Each Read must give a byte within the stall time; how
// long the whole takes, and how long its reader takes between two reads, is
// nobody's business here. It ends the request when it is closed.
type body struct {
	inner   io.ReadCloser
	parent  context.Context // the caller's: a body is bound to the call that opened it
	ctx     context.Context // the request's
	cancel  context.CancelCauseFunc
	stall   time.Duration
	timer   *time.Timer
	onBytes func(n int64)
}

func newBody(
	parent, ctx context.Context, cancel context.CancelCauseFunc,
	inner io.ReadCloser, stall time.Duration, onBytes func(int64),
) *body {
	b := &body{inner: inner, parent: parent, ctx: ctx, cancel: cancel, stall: stall, onBytes: onBytes}
	b.timer = time.AfterFunc(stall, func() { cancel(ErrStalled) })
	b.timer.Stop()
	return b
}

// Read gives what there is. Errors: the caller's context's, ErrStalled, the
// connection's; io.ErrUnexpectedEOF where it ended before its Content-Length.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.inner.Read(p)
	b.timer.Stop()
	if n > 0 {
		b.onBytes(int64(n))
	}
	switch {
	case err == nil || err == io.EOF:
	case b.parent.Err() != nil:
		err = b.parent.Err()
	case errors.Is(context.Cause(b.ctx), ErrStalled):
		err = ErrStalled
	}
	return n, err
}

// Close ends the request. A connection whose body was not read to its end is not
// used again.
func (b *body) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.inner.Close()
}

// sent is a request's body. Between two reads of it what was read is being sent,
// and that must be done within the stall time; how long its own source takes is
// nobody's business here.
type sent struct {
	inner io.ReadCloser
	stall time.Duration

	mu    sync.Mutex
	timer *time.Timer
	over  bool // the answer is there, or the body was let go of
}

func newSent(inner io.ReadCloser, stall time.Duration, stalled func()) *sent {
	s := &sent{inner: inner, stall: stall}
	s.timer = time.AfterFunc(stall, stalled)
	s.timer.Stop()
	return s
}

func (s *sent) Read(p []byte) (int, error) {
	s.timer.Stop()
	n, err := s.inner.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !s.over {
		s.timer.Reset(s.stall)
	}
	return n, err
}

// Close implements io.Closer.
func (s *sent) Close() error {
	s.answered()
	return s.inner.Close()
}

// answered ends the watch.
func (s *sent) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.timer.Stop()
}

// ReadAll reads a body that must not be larger than most bytes. Errors: the
// body's, ErrLarge.
func ReadAll(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrLarge, most)
	}
	return b, nil
}

// ErrLarge says that a body is larger than it may be.
var ErrLarge = errors.New("too large")
