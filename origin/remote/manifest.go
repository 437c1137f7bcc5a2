package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// maxManifest is the largest manifest that is read: what the specification wants
// registries to take, and clients to expect (OCI Distribution 1.1, "Pushing
// manifests").
const maxManifest = 4 << 20

func (r *Registry) aboutManifest(method string, repo origin.Repo, ref origin.Ref) egress.Request {
	return egress.Request{
		Method: method, URL: r.at(repo, "manifests", ref.String()),
		Header: accepting(strings.Join(origin.ManifestTypes(), ", ")),
	}
}

// Resolve implements origin.Reader with a HEAD, which registries do not count as
// a pull; where it does not tell enough, with a GET.
func (r *Registry) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	d, ok, err := r.head(ctx, repo, ref)
	if err != nil {
		return origin.Descriptor{}, r.failure(ctx, origin.ErrManifestUnknown, err)
	}
	if !ok {
		m, err := r.Manifest(ctx, repo, ref)
		return m.Descriptor, err
	}
	return d, nil
}

// head describes a manifest by its headers. ok is false if they do not.
func (r *Registry) head(ctx context.Context, repo origin.Repo, ref origin.Ref) (d origin.Descriptor, ok bool, err error) {
	a, err := r.ask(ctx, repo, r.aboutManifest(http.MethodHead, repo, ref))
	if err != nil {
		return origin.Descriptor{}, false, err
	}
	defer a.Discard()
	switch a.StatusCode {
	case http.StatusOK:
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return origin.Descriptor{}, false, nil
	default:
		return origin.Descriptor{}, false, a.refusal()
	}
	if err := a.intact(); err != nil {
		return origin.Descriptor{}, false, err
	}
	said, err := a.digest(ref.Digest())
	if err != nil {
		return origin.Descriptor{}, false, err
	}
	if a.ContentLength > maxManifest {
		return origin.Descriptor{}, false, wrongAnswer("a manifest of %d bytes", a.ContentLength)
	}
	d = origin.Descriptor{
		Descriptor: v1.Descriptor{MediaType: a.mediaType(), Digest: cmp.Or(ref.Digest(), said), Size: a.ContentLength},
		Source:     r.source(),
	}
	return d, d.Digest != "" && d.Size > 0 && !generic(d.MediaType), nil
}

// Manifest implements origin.Reader. The bytes have the digest asked for, or,
// asked by tag, the one that the upstream names.
func (r *Registry) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	m, err := r.manifest(ctx, repo, ref)
	return m, r.failure(ctx, origin.ErrManifestUnknown, err)
}

func (r *Registry) manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	a, err := r.ask(ctx, repo, r.aboutManifest(http.MethodGet, repo, ref))
	if err != nil {
		return origin.Manifest{}, err
	}
	defer a.Discard()
	if a.StatusCode != http.StatusOK {
		return origin.Manifest{}, a.refusal()
	}
	if err := a.intact(); err != nil {
		return origin.Manifest{}, err
	}
	if a.ContentLength > maxManifest {
		return origin.Manifest{}, wrongAnswer("a manifest of %d bytes", a.ContentLength)
	}
	b, err := readAll(a.Body, maxManifest)
	if err != nil {
		return origin.Manifest{}, fmt.Errorf("manifest %s: %w", ref, err)
	}
	d, err := verified(a, ref.Digest(), b)
	if err != nil {
		return origin.Manifest{}, fmt.Errorf("manifest %s: %w", ref, err)
	}
	mediaType := typed(a.mediaType(), b)
	if ref.Digest() == "" {
		// Nobody vouches for these bytes but the connection.
		if _, err := origin.ReadManifest(mediaType, b); err != nil || !declares(b) {
			return origin.Manifest{}, wrongAnswer("manifest %s is not one", ref)
		}
	}
	return origin.Manifest{
		Descriptor: origin.Descriptor{
			Descriptor: v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))},
			Source:     r.source(),
		},
		Bytes: b,
	}, nil
}

// verified gives the digest of a manifest's bytes: the one wanted, else the one
// that the answer names, else their sha256. Bytes that do not have the first two
// are refused.
func verified(a *answer, want digest.Digest, b []byte) (digest.Digest, error) {
	said := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	for _, d := range []digest.Digest{want, said} {
		if d == "" {
			continue
		}
		if _, err := origin.ParseDigest(d.String()); err != nil || d.Algorithm().FromBytes(b) != d {
			return "", fmt.Errorf("%w: %s", errMismatch, origin.Quote(d.String()))
		}
	}
	return cmp.Or(want, said, digest.FromBytes(b)), nil
}

// generic reports whether a media type says nothing of a manifest.
func generic(mediaType string) bool {
	switch mediaType {
	case "", "application/octet-stream", "binary/octet-stream", "application/json", "text/plain":
		return true
	}
	return false
}

// said is what every manifest says of itself, one way or the other.
type said struct {
	SchemaVersion int    `json:"schemaVersion"`
	MediaType     string `json:"mediaType"`
}

// declares reports whether a JSON object says that it is a manifest: an error
// that comes with 200 does not.
func declares(b []byte) bool {
	var s said
	return json.Unmarshal(b, &s) == nil && (s.SchemaVersion != 0 || s.MediaType != "")
}

// typed is a manifest's media type: the answer's, or where that says nothing the
// one that the manifest names, or that of what it looks like.
func typed(mediaType string, b []byte) string {
	if !generic(mediaType) {
		return mediaType
	}
	var s said
	if json.Unmarshal(b, &s) == nil && s.MediaType != "" {
		if t, _, err := mime.ParseMediaType(s.MediaType); err == nil && !generic(t) {
			return t
		}
	}
	if c, err := origin.ReadManifest("", b); err == nil && c.Index {
		return origin.MediaTypeOCIIndex
	}
	return origin.MediaTypeOCIManifest
}
