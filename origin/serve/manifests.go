package serve

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// getManifest answers GET and HEAD. Accept changes no manifest: it is a hint, and a
// converted one has another digest. It tells who is about to pull.
func (s *server) getManifest(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	ctx := r.Context()
	if fresh, reads := fresh(r.Header), r.Method == http.MethodHead && takesAny(r.Header); fresh || reads {
		req := origin.RequestOf(ctx)
		req.Refresh, req.Reads = fresh, reads
		ctx = origin.WithRequest(ctx, req)
	}
	var m origin.Manifest
	if r.Method == http.MethodHead {
		m.Descriptor, err = s.registry.Resolve(ctx, repo, c.Ref)
	} else {
		m, err = s.registry.Manifest(ctx, repo, c.Ref)
	}
	if err != nil {
		return err
	}
	h := w.Header()
	setSource(r.Context(), h, m.Source)
	h.Set("Docker-Content-Digest", m.Digest.String())
	h.Set("Etag", etag(m.Digest))
	if !noneMatch(r.Header, m.Digest) {
		return notModified(w)
	}
	h.Set("Content-Type", m.MediaType)
	setContent(h)
	if r.Method == http.MethodHead {
		h.Set("Content-Length", strconv.FormatInt(m.Size, 10))
		return nil
	}
	h.Set("Content-Length", strconv.Itoa(len(m.Bytes)))
	return s.write(w, r, m.Bytes)
}

func (s *server) putManifest(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	if a, ok := s.registry.(origin.Admitter); ok {
		if err := a.Admit(r.Context(), repo); err != nil {
			return err
		}
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return origin.Errorf(origin.ErrManifestInvalid, "the Content-Type must be the manifest's media type")
	}
	b, err := s.readManifest(r)
	if err != nil {
		return err
	}
	d, tags := c.Ref.Digest(), c.Tags
	if d == "" {
		d, tags = digest.FromBytes(b), append([]origin.Ref{c.Ref}, tags...)
	} else if d.Algorithm().FromBytes(b) != d {
		return origin.Errorf(origin.ErrDigestInvalid, "the manifest's digest is not %s", d)
	}
	m := origin.Manifest{Bytes: b}
	m.Descriptor.Descriptor = v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
	stored, err := s.registry.Push(r.Context(), repo, m, origin.PushOptions{Tags: tags})
	if err != nil {
		return err
	}
	h := w.Header()
	if content, err := origin.ReadManifest(mediaType, b); err == nil && content.Subject != nil {
		h.Set("OCI-Subject", content.Subject.Digest.String())
	}
	for _, tag := range c.Tags {
		h.Add("OCI-Tag", tag.Tag())
	}
	h.Set("Docker-Content-Digest", stored.Digest.String())
	s.setLocation(h, c.target(c.Repo.String(), "manifests", stored.Digest.String()))
	w.WriteHeader(http.StatusCreated)
	return nil
}

// readManifest reads a body of at most maxManifest bytes, and refuses a longer one
// before it is read where its length is announced.
func (s *server) readManifest(r *http.Request) ([]byte, error) {
	tooLarge := origin.Errorf(origin.ErrSizeInvalid, "a manifest has at most %d bytes", s.maxManifest).WithStatus(http.StatusRequestEntityTooLarge)
	if r.ContentLength > s.maxManifest {
		return nil, tooLarge
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, s.maxManifest+1))
	if err != nil {
		return nil, &cut{err}
	}
	if int64(len(b)) > s.maxManifest {
		return nil, tooLarge
	}
	return b, nil
}

func (s *server) deleteManifest(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	if err := s.registry.DeleteManifest(r.Context(), repo, c.Ref); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// write gives the client a whole body.
func (s *server) write(w http.ResponseWriter, r *http.Request, b []byte) error {
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := s.pace(w, r).Write(b); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		return &cut{err}
	}
	return nil
}
