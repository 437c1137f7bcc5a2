package serve

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// getBlob answers GET and HEAD.
func (s *server) getBlob(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	// Only GET has ranges (RFC 9110, 14.2).
	if r.Method == http.MethodHead || !noneMatch(r.Header, c.Digest) {
		return s.statBlob(w, r, c, repo)
	}
	if to, ok, err := s.elsewhere(r, c, repo); ok || err != nil {
		return s.redirect(w, r, c, to, err)
	}
	rng, ranged := askedRange(r.Header, c.Digest)
	if rng.Len < 0 {
		return s.unsatisfiable(w, r, c, repo, store.ErrRange)
	}
	blob, err := s.registry.Blob(r.Context(), repo, c.Digest, rng)
	if errors.Is(err, store.ErrRange) {
		return s.unsatisfiable(w, r, c, repo, err)
	}
	if err != nil {
		return err
	}
	if blob.Length < 0 && blob.Offset > 0 {
		// A part needs its end in Content-Range, which nobody knows: the whole is
		// right too (RFC 9110, 14.2: a server may ignore Range).
		if err := blob.Body.Close(); err != nil {
			return err
		}
		if blob, err = s.registry.Blob(r.Context(), repo, c.Digest, store.Range{}); err != nil {
			return err
		}
	}
	return s.sendBlob(w, r, c, blob, ranged)
}

// elsewhere gives the place where the client may fetch the blob by itself, if there is one.
func (s *server) elsewhere(r *http.Request, c Call, repo origin.Repo) (to origin.Redirect, ok bool, err error) {
	if from, is := s.registry.(origin.Redirector); is {
		to, ok, err = from.BlobURL(r.Context(), repo, c.Digest)
	}
	return to, ok, err
}

// redirect sends the client there, for this once: the address is his alone, and holds for a
// short time.
func (s *server) redirect(w http.ResponseWriter, r *http.Request, c Call, to origin.Redirect, err error) error {
	if err != nil {
		return err
	}
	h := w.Header()
	setSource(r.Context(), h, to.Source)
	h.Set("Docker-Content-Digest", c.Digest.String())
	h.Set("Location", to.URL)
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}

// sendBlob writes what a registry opened, and closes it.
func (s *server) sendBlob(w http.ResponseWriter, r *http.Request, c Call, blob origin.Blob, ranged bool) (err error) {
	defer func() {
		if closeErr := blob.Body.Close(); err == nil && closeErr != nil {
			err = &cut{closeErr}
		}
	}()
	h := w.Header()
	s.blobHeaders(r, h, c, blob.Descriptor)
	if blob.Length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(blob.Length, 10))
	}
	status := http.StatusOK
	// An empty part has no Content-Range: what there is of an empty blob is all of it.
	if ranged && blob.Length > 0 {
		status = http.StatusPartialContent
		h.Set("Content-Range", contentRange(blob.Offset, blob.Length, blob.Size))
	}
	w.WriteHeader(status)
	n, err := s.pace(w, r).body(blob.Body)
	if err == nil && blob.Length >= 0 && n != blob.Length {
		err = fmt.Errorf("body has %d bytes of %d: %w", n, blob.Length, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return &cut{fmt.Errorf("blob %s: %w", c.Digest, err)}
	}
	return nil
}

func (s *server) statBlob(w http.ResponseWriter, r *http.Request, c Call, repo origin.Repo) error {
	desc, err := s.registry.Stat(r.Context(), repo, c.Digest)
	if err != nil {
		return err
	}
	h := w.Header()
	s.blobHeaders(r, h, c, desc)
	if !noneMatch(r.Header, c.Digest) {
		h.Del("Content-Type")
		return notModified(w)
	}
	if desc.Size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(desc.Size, 10))
	}
	return nil
}

func (s *server) blobHeaders(r *http.Request, h http.Header, c Call, desc origin.Descriptor) {
	setSource(r.Context(), h, desc.Source)
	h.Set("Docker-Content-Digest", c.Digest.String())
	h.Set("Etag", etag(c.Digest))
	h["Accept-Ranges"] = byBytes
	h["Content-Type"] = octetStream
	setContent(h)
}

// unsatisfiable answers a range of which there is no byte, with the blob's size.
func (s *server) unsatisfiable(w http.ResponseWriter, r *http.Request, c Call, repo origin.Repo, cause error) error {
	desc, err := s.registry.Stat(r.Context(), repo, c.Digest)
	if err != nil {
		return err
	}
	if desc.Size >= 0 {
		w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(desc.Size, 10))
	}
	return cause
}

func (s *server) deleteBlob(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	if err := s.registry.DeleteBlob(r.Context(), repo, c.Digest); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
