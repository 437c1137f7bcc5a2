package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

const (
	// warmStall is how long weir may give no byte: it may wait for its upstream itself.
	warmStall = 60 * time.Second
	// largestManifest is the largest manifest that is read.
	largestManifest = 16 << 20
)

var errStalled = fmt.Errorf("no byte for %s", warmStall)

// get asks for something of an image's repository. The answer's status is 200, and its
// body is cut when it stalls.
func (w *warmer) get(ctx context.Context, x image, kind, ref string, header http.Header) (*http.Response, error) {
	u := w.server.JoinPath("v2", x.repo.String(), kind, ref)
	if x.host != "" && x.host != w.server.Host {
		u.RawQuery = url.Values{"ns": {x.host}}.Encode()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header = header
	req.Header.Set("User-Agent", "weir/"+version)
	res, err := w.client.Do(req)
	if err != nil {
		cancel(nil)
		if bad, ok := errors.AsType[*url.Error](err); ok {
			err = bad.Err
		}
		return nil, fmt.Errorf("no answer from %s: %w", w.server, err)
	}
	watched := &stallable{body: res.Body, cancel: cancel, ctx: ctx}
	watched.timer = time.AfterFunc(warmStall, func() { cancel(errStalled) })
	res.Body = watched
	if res.StatusCode != http.StatusOK {
		defer func() { _ = res.Body.Close() }()
		said, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // the status says enough
		return nil, errors.New(refusal(res.Status, said))
	}
	return res, nil
}

// stallable is a body that is cut when no byte came for warmStall. It belongs to one
// request, whose context it has.
type stallable struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (s *stallable) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err == nil {
		s.timer.Reset(warmStall)
	} else if cause := context.Cause(s.ctx); err != io.EOF && cause != nil {
		err = cause
	}
	return n, err
}

func (s *stallable) Close() error {
	s.timer.Stop()
	err := s.body.Close()
	s.cancel(nil)
	return err
}

// manifest gets a manifest, which has the digest that it is asked for by, or that the
// answer says. note is what weir remarks on it.
func (w *warmer) manifest(ctx context.Context, x image, ref origin.Ref) (m origin.Manifest, note string, err error) {
	header := http.Header{"Accept": {strings.Join(origin.ManifestTypes(), ", ")}}
	if w.refresh && ref.Tag() != "" {
		header.Set("Cache-Control", "no-cache")
	}
	res, err := w.get(ctx, x, "manifests", ref.String(), header)
	if err != nil {
		return m, "", fmt.Errorf("manifest %s: %w", ref, err)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, largestManifest+1))
	_ = res.Body.Close() // it was read
	switch {
	case err != nil:
		return m, "", fmt.Errorf("manifest %s: %w", ref, err)
	case len(b) > largestManifest:
		return m, "", fmt.Errorf("manifest %s: more than %d bytes", ref, largestManifest)
	}
	want := ref.Digest()
	if said := res.Header.Get("Docker-Content-Digest"); want == "" && said != "" {
		if want, err = origin.ParseDigest(said); err != nil {
			return m, "", fmt.Errorf("manifest %s: %w", ref, err)
		}
	}
	if want == "" {
		want = digest.FromBytes(b)
	}
	if want.Algorithm().FromBytes(b) != want {
		return m, "", fmt.Errorf("manifest %s: what came is not %s", ref, want)
	}
	m.Bytes = b
	m.Digest, m.Size = want, int64(len(b))
	m.MediaType, _, err = mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		return m, "", fmt.Errorf("manifest %s: %w", ref, err)
	}
	return m, remark(res.Header.Get("Warning")), nil
}

// remark is the text of a Warning header: 299 - "text". It is for a terminal: what is
// not to be seen is left out.
func remark(warning string) string {
	_, quoted, _ := strings.Cut(warning, `"`)
	var text strings.Builder
	escaped := false
	for _, c := range quoted {
		switch {
		case escaped, c != '"' && c != '\\':
			escaped = false
			if unicode.IsPrint(c) {
				text.WriteRune(c)
			}
		case c == '"':
			return text.String()
		default:
			escaped = true
		}
	}
	return text.String()
}

// fetch reads a blob, and tells add of its bytes. cached says that weir had it.
func (w *warmer) fetch(ctx context.Context, x image, d v1.Descriptor, add func(int)) (cached bool, err error) {
	res, err := w.get(ctx, x, "blobs", d.Digest.String(), http.Header{})
	if err != nil {
		return false, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	defer func() { _ = res.Body.Close() }() // all that counts has been read
	cached = res.Header.Get("Weir-Cache") == string(origin.Hit)
	verifier, size := d.Digest.Verifier(), int64(0)
	buf := make([]byte, 256<<10)
	for {
		n, err := res.Body.Read(buf)
		_, _ = verifier.Write(buf[:n]) // a hash takes everything
		size += int64(n)
		add(n)
		switch {
		case size > d.Size:
			return cached, fmt.Errorf("blob %s: more than %d bytes", d.Digest, d.Size)
		case err == io.EOF && (size != d.Size || !verifier.Verified()):
			return cached, fmt.Errorf("blob %s: what came is another one, of %d bytes", d.Digest, size)
		case err == io.EOF:
			return cached, nil
		case err != nil:
			return cached, fmt.Errorf("blob %s: cut after %d bytes: %w", d.Digest, size, err)
		}
	}
}
