package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/weir-registry/weir/store"
)

// errStalled ends a body of which no further byte came in time.
var errStalled = fmt.Errorf("the answer stalled: %w", os.ErrDeadlineExceeded)

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
	b.timer = time.AfterFunc(stall, func() { cancel(errStalled) })
	b.timer.Stop()
	return b
}

// Read gives what there is. Errors: the caller's context's, errStalled, the
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
	case errors.Is(context.Cause(b.ctx), errStalled):
		err = errStalled
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

// readAll reads a body that must not be larger than most bytes.
func readAll(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, wrongAnswer("larger than %d bytes", most)
	}
	return b, nil
}

// span is a stretch of a body. What an upstream sent around it is left out.
type span struct {
	io.ReadCloser
	skip int64 // bytes still to be left out
	left int64 // bytes still to be given; -1 = all that come
	// open says that the body's length is not known, and that it may therefore end
	// inside the stretch.
	open bool
	// some says that a byte must come yet, or else the stretch is behind the end.
	some  bool
	ended bool              // the body's own end was seen
	fails func(error) error // gives an error its meaning for the caller
}

// Read gives the stretch's bytes. A body that ends inside it ends with
// io.ErrUnexpectedEOF, one of unknown length that ends before it with
// store.ErrRange.
func (s *span) Read(p []byte) (int, error) {
	if s.skip > 0 {
		n, err := io.CopyN(io.Discard, s.ReadCloser, s.skip)
		s.skip -= n
		if err == io.EOF && s.open {
			return 0, store.ErrRange
		}
		if err != nil {
			return 0, s.fails(noEOF(err))
		}
	}
	if s.left == 0 {
		return 0, io.EOF
	}
	if s.left > 0 && int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.ReadCloser.Read(p)
	if s.left > 0 {
		s.left -= int64(n)
	}
	s.some = s.some && n == 0
	s.ended = s.ended || err != nil
	switch {
	case err == io.EOF && s.open && s.some:
		return 0, store.ErrRange
	case err == nil, err == io.EOF && (s.left <= 0 || s.open):
		return n, err
	default:
		return n, s.fails(noEOF(err))
	}
}

// endWait is how long the end of a body is waited for whose last byte was read.
const endWait = time.Second

// Close lets go of the body. Where the stretch was read but not the mark of the
// body's end behind it (of a chunked one, which may come later than the last byte)
// it is read here: only then is the connection there for the next stretch.
func (s *span) Close() error {
	if s.left == 0 && !s.ended {
		late := time.AfterFunc(endWait, func() { _ = s.ReadCloser.Close() })
		_, _ = s.ReadCloser.Read(make([]byte, 1)) // it does not matter how this ends
		late.Stop()
	}
	return s.ReadCloser.Close()
}

// noEOF is err where the end is not to be expected.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
