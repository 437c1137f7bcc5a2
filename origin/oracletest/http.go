package oracletest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// HTTP is the registry that is served below a base address. Its errors are those that
// were answered, with their status; an answer of 400 and above without an error body
// of the specification has the code "". Where there is no answer, or only a part of
// one, they are ErrUnanswered.
type HTTP struct {
	Base   string // "http://127.0.0.1:5000"
	Client *http.Client
}

var _ origin.Registry = (*HTTP)(nil)

// ask sends a request. The caller closes the body of the answer, whose status is below
// 400.
func (h *HTTP) ask(ctx context.Context, method, path string, body io.Reader, header ...string) (*http.Response, error) {
	if strings.HasPrefix(path, "/") {
		path = h.Base + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	e := &origin.Error{Message: string(b), Status: resp.StatusCode}
	var wire struct {
		Errors []struct {
			Code    origin.Code
			Message string
		}
	}
	if json.Unmarshal(b, &wire) == nil && len(wire.Errors) == 1 {
		e.Code, e.Message = wire.Errors[0].Code, wire.Errors[0].Message
	}
	return nil, e
}

// done sends a request whose answer's body does not matter.
func (h *HTTP) done(ctx context.Context, method, path string, body io.Reader, header ...string) (*http.Response, error) {
	resp, err := h.ask(ctx, method, path, body, header...)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	return resp, nil
}

// unknown gives an answer to HEAD, which has no body, the code that its status means.
func unknown(err error, code origin.Code) error {
	if e, ok := errors.AsType[*origin.Error](err); ok && e.Status == http.StatusNotFound && e.Code == "" {
		e.Code = code
	}
	return err
}

func path(repo origin.Repo, parts ...string) string {
	return "/v2/" + repo.String() + "/" + strings.Join(parts, "/")
}

func described(h http.Header, size int64) origin.Descriptor {
	return origin.Descriptor{Descriptor: v1.Descriptor{
		MediaType: h.Get("Content-Type"), Digest: digest.Digest(h.Get("Docker-Content-Digest")), Size: size,
	}}
}

// Resolve implements origin.Reader.
func (h *HTTP) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	resp, err := h.done(ctx, http.MethodHead, path(repo, "manifests", ref.String()), nil)
	if err != nil {
		return origin.Descriptor{}, unknown(err, origin.CodeManifestUnknown)
	}
	return described(resp.Header, resp.ContentLength), nil
}

// Manifest implements origin.Reader.
func (h *HTTP) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	resp, err := h.ask(ctx, http.MethodGet, path(repo, "manifests", ref.String()), nil)
	if err != nil {
		return origin.Manifest{}, err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return origin.Manifest{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	return origin.Manifest{Descriptor: described(resp.Header, int64(len(b))), Bytes: b}, nil
}

// Stat implements origin.Reader.
func (h *HTTP) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	resp, err := h.done(ctx, http.MethodHead, path(repo, "blobs", d.String()), nil)
	if err != nil {
		return origin.Descriptor{}, unknown(err, origin.CodeBlobUnknown)
	}
	return described(resp.Header, resp.ContentLength), nil
}

// Blob implements origin.Reader.
func (h *HTTP) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	if !r.Whole() {
		return origin.Blob{}, origin.ErrUnsupported
	}
	resp, err := h.ask(ctx, http.MethodGet, path(repo, "blobs", d.String()), nil)
	if err != nil {
		return origin.Blob{}, err
	}
	return origin.Blob{Descriptor: described(resp.Header, resp.ContentLength), Length: resp.ContentLength, Body: resp.Body}, nil
}

// list asks for a page of a listing, and decodes it into v.
func (h *HTTP) list(ctx context.Context, at string, p origin.Page, v any) (more bool, err error) {
	q := url.Values{"n": {strconv.Itoa(p.N)}}
	if p.After != "" {
		q.Set("last", p.After)
	}
	resp, err := h.ask(ctx, http.MethodGet, at+"?"+q.Encode(), nil)
	if err != nil {
		return false, err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	return resp.Header.Get("Link") != "", json.Unmarshal(b, v)
}

// Tags implements origin.Reader.
func (h *HTTP) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	var doc struct{ Tags []string }
	more, err := h.list(ctx, path(repo, "tags", "list"), p, &doc)
	return origin.List[string]{Items: doc.Tags, More: more}, err
}

// Referrers implements origin.Reader, for all artifact types.
func (h *HTTP) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	if artifactType != "" {
		return origin.List[origin.Descriptor]{}, origin.ErrUnsupported
	}
	var doc v1.Index
	more, err := h.list(ctx, path(repo, "referrers", d.String()), p, &doc)
	l := origin.List[origin.Descriptor]{More: more}
	for _, m := range doc.Manifests {
		l.Items = append(l.Items, origin.Descriptor{Descriptor: m})
	}
	return l, err
}

// Repos implements origin.Catalog.
func (h *HTTP) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	var doc struct{ Repositories []string }
	more, err := h.list(ctx, "/v2/_catalog", p, &doc)
	l := origin.List[origin.Repo]{More: more}
	for _, name := range doc.Repositories {
		repo, invalid := origin.ParseRepo(name)
		err = errors.Join(err, invalid)
		l.Items = append(l.Items, repo)
	}
	return l, err
}

// Push implements origin.Writer.
func (h *HTTP) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	q := url.Values{}
	for _, t := range o.Tags {
		q.Add("tag", t.Tag())
	}
	at := path(repo, "manifests", m.Digest.String())
	if len(q) > 0 {
		at += "?" + q.Encode()
	}
	resp, err := h.done(ctx, http.MethodPut, at, bytes.NewReader(m.Bytes), "Content-Type", m.MediaType)
	if err != nil {
		return origin.Descriptor{}, err
	}
	return described(resp.Header, m.Size), nil
}

// Mount implements origin.Writer. A session that is opened instead is cancelled.
func (h *HTTP) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	q := url.Values{"mount": {d.String()}, "from": {from.String()}}
	resp, err := h.done(ctx, http.MethodPost, path(to, "blobs", "uploads/")+"?"+q.Encode(), nil)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if resp.StatusCode == http.StatusCreated {
		return described(resp.Header, -1), nil
	}
	_, err = h.done(ctx, http.MethodDelete, resp.Header.Get("Location"), nil)
	return origin.Descriptor{}, errors.Join(origin.ErrBlobUnknown, err)
}

// DeleteManifest implements origin.Deleter.
func (h *HTTP) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	_, err := h.done(ctx, http.MethodDelete, path(repo, "manifests", ref.String()), nil)
	return err
}

// DeleteBlob implements origin.Deleter.
func (h *HTTP) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	_, err := h.done(ctx, http.MethodDelete, path(repo, "blobs", d.String()), nil)
	return err
}

// Upload implements origin.Writer. What is written is sent with Close, as a chunk, or
// with Commit.
func (h *HTTP) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	at, method := path(repo, "blobs", "uploads", id), http.MethodGet
	if id == "" {
		at, method = path(repo, "blobs", "uploads/")+"?digest-algorithm="+alg.String(), http.MethodPost
	}
	resp, err := h.done(ctx, method, at, nil)
	if err != nil {
		return nil, err
	}
	u := &httpUpload{h: h, ctx: ctx, at: resp.Header.Get("Location"), id: resp.Header.Get("Docker-Upload-UUID")}
	if last, ok := strings.CutPrefix(resp.Header.Get("Range"), "0-"); ok && last != "0" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("upload %s: %w", u.id, err)
		}
		u.sent = n + 1
	}
	return u, nil
}

// httpUpload is an upload over HTTP; ctx is that of the call that opened it.
type httpUpload struct {
	h       *HTTP
	ctx     context.Context
	at      string // "" once it is committed
	id      string
	sent    int64
	pending []byte
}

func (u *httpUpload) ID() string  { return u.id }
func (u *httpUpload) Size() int64 { return u.sent + int64(len(u.pending)) }

func (u *httpUpload) Write(p []byte) (int, error) {
	u.pending = append(u.pending, p...)
	return len(p), nil
}

func (u *httpUpload) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	sep := "?"
	if strings.Contains(u.at, "?") {
		sep = "&"
	}
	size := u.Size()
	body := u.take()
	resp, err := u.h.done(ctx, http.MethodPut, u.at+sep+"digest="+d.String(), bytes.NewReader(body), "Content-Type", "application/octet-stream")
	if err != nil {
		return store.Info{}, err
	}
	u.at = ""
	return store.Info{Digest: digest.Digest(resp.Header.Get("Docker-Content-Digest")), Size: size}, nil
}

// Close sends what is left as a chunk.
func (u *httpUpload) Close() error {
	if len(u.pending) == 0 {
		return nil
	}
	off := u.sent
	body := u.take()
	_, err := u.h.done(u.ctx, http.MethodPatch, u.at, bytes.NewReader(body),
		"Content-Type", "application/octet-stream", "Content-Range", fmt.Sprintf("%d-%d", off, off+int64(len(body))-1))
	return err
}

func (u *httpUpload) Cancel() error {
	if u.at == "" {
		return nil // it is committed
	}
	_, err := u.h.done(u.ctx, http.MethodDelete, u.at, nil)
	return err
}

func (u *httpUpload) take() []byte {
	body := u.pending
	u.sent, u.pending = u.Size(), nil
	return body
}
