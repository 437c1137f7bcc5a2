package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// startUpload begins the push of a blob: by taking it from another repository, by
// one request that has it all, or by opening a session for later ones.
func (s *server) startUpload(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	if c.Mount != "" {
		done, err := s.mount(w, r.Context(), repo, c)
		if done || err != nil {
			return err
		}
	}
	in, err := s.registry.Upload(r.Context(), repo, "", c.Algorithm)
	if err != nil {
		return err
	}
	if c.Digest != "" {
		return s.finish(w, r, c, in)
	}
	return s.session(w, c, in, http.StatusAccepted)
}

// mount answers 201 if the blob could be linked. If not, whatever the reason that
// a client could understand, the push goes on as if nobody had asked: a right that
// is missing there says nothing about what exists.
func (s *server) mount(w http.ResponseWriter, ctx context.Context, repo origin.Repo, c Call) (done bool, err error) {
	from := c.From
	if !from.IsZero() {
		from, err = s.find(c, from)
	}
	if err == nil {
		_, err = s.registry.Mount(ctx, from, repo, c.Mount)
	}
	if err == nil {
		s.created(w, c, c.Mount)
		return true, nil
	}
	if e, ok := errors.AsType[*origin.Error](err); ok && e.HTTPStatus() < 500 {
		return false, nil
	}
	return false, err
}

// resume opens the session that a call names.
func (s *server) resume(w http.ResponseWriter, r *http.Request, c Call) (store.Ingest, error) {
	repo, err := s.name(w, c)
	if err != nil {
		return nil, err
	}
	in, err := s.registry.Upload(r.Context(), repo, c.ID, "")
	if errors.Is(err, origin.ErrUploadInvalid) || errors.Is(err, store.ErrBusy) {
		return nil, errWritten
	}
	return in, err
}

// errWritten is what a client is told who sends to an upload beside somebody else.
var errWritten = origin.Errorf(origin.ErrUploadInvalid, "another request is writing to this upload").WithStatus(http.StatusRequestedRangeNotSatisfiable)

func (s *server) getUpload(w http.ResponseWriter, r *http.Request, c Call) error {
	in, err := s.resume(w, r, c)
	if err != nil {
		return err
	}
	return s.session(w, c, in, http.StatusNoContent)
}

func (s *server) cancelUpload(w http.ResponseWriter, r *http.Request, c Call) error {
	in, err := s.resume(w, r, c)
	if err != nil {
		return err
	}
	if err := in.Cancel(); err != nil {
		return fmt.Errorf("cancel upload: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// patchUpload appends a chunk, or a stream of unknown length. What arrived is kept
// whatever happens, and the client may ask how much that was.
func (s *server) patchUpload(w http.ResponseWriter, r *http.Request, c Call) error {
	in, err := s.resume(w, r, c)
	if err != nil {
		return err
	}
	if err := s.receive(w, r, c, in); err != nil {
		return errors.Join(err, in.Close())
	}
	return s.session(w, c, in, http.StatusAccepted)
}

// putUpload appends what the body has, if anything, and makes the blob of it all.
func (s *server) putUpload(w http.ResponseWriter, r *http.Request, c Call) error {
	in, err := s.resume(w, r, c)
	if err != nil {
		return err
	}
	return s.finish(w, r, c, in)
}

// finish receives the body and commits. Content that is not what its digest says
// leaves nothing behind; after any other failure the client may resume.
func (s *server) finish(w http.ResponseWriter, r *http.Request, c Call, in store.Ingest) error {
	err := s.receive(w, r, c, in)
	if err == nil {
		_, err = in.Commit(r.Context(), c.Digest)
	}
	switch {
	case err == nil:
		s.created(w, c, c.Digest)
		return nil
	case errors.Is(err, store.ErrDigest), errors.Is(err, origin.ErrDigestInvalid):
		return errors.Join(origin.Errorf(origin.ErrDigestInvalid, "the blob's digest is not %s", c.Digest), in.Cancel())
	case c.ID == "":
		return errors.Join(err, in.Cancel()) // its client does not know how to resume it
	default:
		return errors.Join(err, in.Close())
	}
}

// receive appends a request's body to an upload. Errors: *cut where the body ended
// too early, origin.ErrUploadInvalid with status 416 where a chunk is not the next
// one, origin.ErrSizeInvalid where it is not as long as it says.
func (s *server) receive(w http.ResponseWriter, r *http.Request, c Call, in store.Ingest) error {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return s.append(in, r.Body)
	}
	off, n, ok := ParseContentRange(header)
	switch {
	case !ok:
		return origin.Errorf(origin.ErrUploadInvalid, "Content-Range %s is not one of a chunk", origin.Quote(header))
	case off != in.Size():
		s.setSession(w.Header(), c, in)
		return origin.Errorf(origin.ErrUploadInvalid, "the next chunk begins at byte %d", in.Size()).WithStatus(http.StatusRequestedRangeNotSatisfiable)
	case r.ContentLength >= 0 && r.ContentLength != n:
		return origin.Errorf(origin.ErrSizeInvalid, "Content-Range speaks of %d bytes, Content-Length of %d", n, r.ContentLength)
	}
	// A length that is not announced is seen when it is over: one byte more tells.
	if err := s.append(in, io.LimitReader(r.Body, n)); err != nil {
		return err
	}
	if got := in.Size() - off; got != n {
		return origin.Errorf(origin.ErrSizeInvalid, "Content-Range speaks of %d bytes, the body has %d", n, got)
	}
	if more, err := r.Body.Read(make([]byte, 1)); more > 0 {
		return origin.Errorf(origin.ErrSizeInvalid, "Content-Range speaks of %d bytes, the body has more", n)
	} else if err != nil && err != io.EOF {
		return &cut{err}
	}
	return nil
}

// append copies an upload's bytes, and tells a client that went away from a store
// that could not write. It begins with a small buffer, takes a large one when the
// client fills that, and gives it back when the client does not fill a small one
// any more: thousands of clients that crawl hold little memory, and the few that a
// line has room for are served in large steps.
func (s *server) append(in store.Ingest, body io.Reader) error {
	small := s.buffers.Get().(*[copyBuffer]byte)
	defer s.buffers.Put(small)
	var large *[uploadBuffer]byte
	defer func() { s.large.put(large) }()
	buf := small[:]
	for {
		n, readErr := body.Read(buf)
		if n > 0 {
			if _, err := in.Write(buf[:n]); err != nil {
				return fmt.Errorf("receive upload: %w", err)
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return &cut{readErr}
		}
		if n < len(small) {
			s.large.put(large)
			large, buf = nil, small[:]
		} else if large == nil {
			if large = s.large.get(); large != nil {
				buf = large[:]
			}
		}
	}
}

// session lets go of an upload, to be resumed, and answers with its state.
func (s *server) session(w http.ResponseWriter, c Call, in store.Ingest, status int) error {
	s.setSession(w.Header(), c, in)
	if err := in.Close(); err != nil {
		return fmt.Errorf("keep upload: %w", err)
	}
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	return nil
}

func (s *server) setSession(h http.Header, c Call, in store.Ingest) {
	s.setLocation(h, c.target(c.Repo.String(), "blobs", "uploads", in.ID()))
	h.Set("Docker-Upload-UUID", in.ID())
	// The last byte received. Of nothing there is none, and the field has no way to
	// say so: "0-0" is what clients expect.
	h.Set("Range", "0-"+strconv.FormatInt(max(in.Size()-1, 0), 10))
}

// created answers that a blob is there.
func (s *server) created(w http.ResponseWriter, c Call, d digest.Digest) {
	h := w.Header()
	s.setLocation(h, c.target(c.Repo.String(), "blobs", d.String()))
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}
