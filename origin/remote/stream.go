package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// stream is a request that sends an upload's bytes as they come (PATCH).
type stream struct {
	w      *io.PipeWriter
	cancel context.CancelFunc
	done   chan struct{}
	answer *answer // of the endpoint, its body read; set when done
	err    error
}

// open begins to send an upload's bytes. The request outlives the call that begins it,
// and the client's request behind that: it belongs to the upload.
func (u *upload) open() *stream {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{w: w, cancel: cancel, done: make(chan struct{})}
	q := egress.Request{
		Method: http.MethodPatch, URL: u.at, Bulk: true, Body: r,
		Header: http.Header{"Content-Type": {"application/octet-stream"}},
	}
	go func() {
		defer close(s.done)
		s.answer, s.err = u.origin.write(ctx, u.origin.pushing(u.repo), q, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
		if s.err == nil {
			s.answer.Discard()
		}
		_ = r.Close() // a writer that still writes is told
	}()
	return s
}

// finish ends the request that sends the upload's bytes, if there is one, and takes
// note of where it goes on.
func (u *upload) finish(ctx context.Context) error {
	s := u.stream
	if s == nil {
		return nil
	}
	_ = s.w.Close() // never fails
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	u.stream = nil
	s.cancel()
	err := s.err
	if err == nil {
		err = u.advance(s.answer)
	}
	if err != nil {
		return u.origin.refused(context.Background(), origin.ErrUploadUnknown, fmt.Errorf("upload: %w", err))
	}
	return nil
}

// advance reads the answer to bytes that were sent: whether they are all there, and
// where the next request goes.
func (u *upload) advance(a *answer) error {
	if a.Header.Get("Location") != "" {
		at, err := u.origin.location(a)
		if err != nil {
			return err
		}
		u.at = at
	}
	said := a.Header.Get("Range")
	if said == "" {
		return nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(said, "bytes="), "-")
	n, number := decimal(last)
	if !ok || first != "0" || !number || n+1 != u.size {
		return wrongAnswer("of %d bytes sent, the endpoint has Range %s", u.size, origin.Quote(said))
	}
	return nil
}

// cut ends the request, whatever was sent.
func (s *stream) cut() {
	s.cancel()
	_ = s.w.CloseWithError(context.Canceled) // never fails
	<-s.done
}
