package remote

import (
	"errors"
	"io"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/store"
)

// readAll reads a body that must not be larger than most bytes.
func readAll(r io.Reader, most int64) ([]byte, error) {
	b, err := egress.ReadAll(r, most)
	if errors.Is(err, egress.ErrLarge) {
		return nil, wrongAnswer("larger than %d bytes", most)
	}
	return b, err
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
