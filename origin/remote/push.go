package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// Push implements origin.Writer: one PUT for each tag, or one by digest where there is
// none. A manifest that is not named by sha256 is put by its digest, with the tags as
// parameters (OCI Distribution, main branch), which the endpoint must say that it
// understood. Of several tags some may be set when one is refused.
//
// A Sparse push is one like any other here: the endpoint decides.
func (o *Origin) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, opts origin.PushOptions) (origin.Descriptor, error) {
	if _, err := origin.ParseDigest(m.Digest.String()); err != nil {
		return origin.Descriptor{}, err
	}
	if m.Digest.Algorithm().FromBytes(m.Bytes) != m.Digest {
		return origin.Descriptor{}, origin.Errorf(origin.ErrDigestInvalid, "the manifest's digest is not %s", m.Digest)
	}
	known, err := o.put(ctx, repo, m, opts.Tags)
	if err != nil {
		return origin.Descriptor{}, err
	}
	content, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err == nil && content.Subject != nil && !known {
		if err := o.refer(ctx, repo, m, content); err != nil {
			return origin.Descriptor{}, err
		}
	}
	return o.described(m), nil
}

// put puts a manifest. known is false where the endpoint did not say that it took note
// of a subject.
func (o *Origin) put(ctx context.Context, repo origin.Repo, m origin.Manifest, tags []origin.Ref) (known bool, err error) {
	switch {
	case m.Digest.Algorithm() != digest.Canonical:
		return o.putWith(ctx, repo, m, tags)
	case len(tags) == 0:
		tags = []origin.Ref{origin.ByDigest(m.Digest)}
	}
	for _, ref := range tags {
		a, err := o.putAt(ctx, repo, m, o.at(repo, "manifests", ref.String()))
		if err != nil {
			return false, err
		}
		known = a.Header.Get("OCI-Subject") != ""
	}
	return known, nil
}

// putWith puts a manifest by its digest, with its tags beside.
func (o *Origin) putWith(ctx context.Context, repo origin.Repo, m origin.Manifest, tags []origin.Ref) (known bool, err error) {
	u := o.at(repo, "manifests", m.Digest.String())
	var names []string
	for _, t := range tags {
		names = append(names, t.Tag())
	}
	u.RawQuery = url.Values{"tag": names}.Encode()
	a, err := o.putAt(ctx, repo, m, u)
	if err != nil {
		return false, err
	}
	said := map[string]bool{}
	for _, t := range a.Header.Values("OCI-Tag") {
		said[t] = true
	}
	for _, name := range names {
		if !said[name] {
			return false, origin.Errorf(origin.ErrUnsupported, "the registry lets no tag name a manifest that is called by %s", m.Digest.Algorithm())
		}
	}
	return a.Header.Get("OCI-Subject") != "", nil
}

func (o *Origin) putAt(ctx context.Context, repo origin.Repo, m origin.Manifest, u *url.URL) (*answer, error) {
	a, err := o.write(ctx, o.pushing(repo), egress.Request{
		Method: http.MethodPut, URL: u,
		Header:  http.Header{"Content-Type": {m.MediaType}},
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.Bytes)), nil },
		Length:  int64(len(m.Bytes)),
	}, http.StatusCreated)
	if err == nil {
		_, err = a.digest(m.Digest)
		a.Discard()
	}
	if err != nil {
		// A 404 is about what it names: a repository begins with a push.
		return nil, o.refused(ctx, origin.ErrManifestBlobUnknown, fmt.Errorf("push of %s: %w", m.Digest, err))
	}
	return a, nil
}
