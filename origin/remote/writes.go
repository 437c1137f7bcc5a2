package remote

import (
	"context"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// Mount implements origin.Writer. An endpoint that does not mount begins an upload
// instead, which is cancelled.
func (o *Origin) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	q := url.Values{"mount": {d.String()}}
	scope := o.pushing(to)
	if !from.IsZero() {
		q.Set("from", o.name(from))
		scope = o.pushing(to, from)
	}
	u := o.at(to, "blobs", "uploads/")
	u.RawQuery = q.Encode()
	a, err := o.write(ctx, scope, egress.Request{Method: http.MethodPost, URL: u}, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return origin.Descriptor{}, o.refused(ctx, origin.ErrBlobUnknown, err)
	}
	defer a.Discard()
	if a.StatusCode == http.StatusAccepted {
		if at, err := o.out.Lead(a.At, a.Header.Get("Location")); err == nil {
			o.abandon(ctx, to, at)
		}
		return origin.Descriptor{}, origin.Errorf(origin.ErrBlobUnknown, "blob %s is not to be mounted", d)
	}
	if _, err := a.digest(d); err != nil {
		return origin.Descriptor{}, o.refused(ctx, origin.ErrBlobUnknown, err)
	}
	return o.blob(d, -1), nil
}

// abandon ends an upload there. It does not matter how: they expire.
func (o *Origin) abandon(ctx context.Context, repo origin.Repo, at *url.URL) {
	a, err := o.write(ctx, o.pushing(repo), egress.Request{Method: http.MethodDelete, URL: at}, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err == nil {
		a.Discard()
	}
}

// DeleteManifest implements origin.Deleter. Where a manifest has a subject, and the
// endpoint keeps no list of referrers, it is taken out of the tag that stands in for it.
func (o *Origin) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	subject, err := o.subject(ctx, repo, ref)
	if err != nil {
		return err
	}
	if err := o.delete(ctx, repo, o.at(repo, "manifests", ref.String()), origin.ErrManifestUnknown); err != nil {
		return err
	}
	if subject == nil {
		return nil
	}
	return o.unrefer(ctx, repo, subject.Digest, ref.Digest())
}

// DeleteBlob implements origin.Deleter.
func (o *Origin) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	return o.delete(ctx, repo, o.at(repo, "blobs", d.String()), origin.ErrBlobUnknown)
}

func (o *Origin) delete(ctx context.Context, repo origin.Repo, u *url.URL, missing *origin.Error) error {
	// Token servers of before the specification know of "*" alone, and grant less than
	// is asked for without an error.
	scope := "repository:" + o.name(repo) + ":pull,delete,*"
	a, err := o.write(ctx, scope, egress.Request{Method: http.MethodDelete, URL: u}, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return o.refused(ctx, missing, err)
	}
	a.Discard()
	return nil
}

// described is what a push of a manifest is answered with.
func (o *Origin) described(m origin.Manifest) origin.Descriptor {
	return origin.Descriptor{
		Descriptor: v1.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))},
		Source:     o.source(),
	}
}
