package foreign

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Push implements origin.Writer. A sparse one is handed over later: when what it
// names is there. Of all others weir's own strictness holds, whatever the registry
// would take.
func (r *Registry) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	if o.Sparse {
		return m.Descriptor, r.deposits.add(ctx, repo, m)
	}
	if _, err := origin.CheckManifest(m.MediaType, m.Bytes); err != nil {
		return origin.Descriptor{}, err
	}
	desc, err := r.inner.Push(ctx, repo, m, o)
	desc.Source = origin.Source{}
	if err == nil {
		r.repos.pushed(repo)
	}
	return desc, told(err)
}

// DeleteManifest implements origin.Deleter. A mirrored one that the registry cannot
// delete is as good as gone: nobody reads it there.
func (r *Registry) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	mirrored := r.mirrored(repo)
	if mirrored && ref.Digest() != "" {
		r.deposits.drop(ctx, blobKey{repo, ref.Digest()})
	}
	err := r.inner.DeleteManifest(ctx, repo, ref)
	if mirrored && errors.Is(err, origin.ErrUnsupported) {
		return origin.Wrap(origin.ErrManifestUnknown, errors.New(err.Error()))
	}
	return told(err)
}

// DeleteBlob implements origin.Deleter. A mirrored blob that the registry cannot delete
// is not read there any more.
func (r *Registry) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	if !r.mirrored(repo) {
		return told(r.inner.DeleteBlob(ctx, repo, d))
	}
	k := blobKey{repo, d}
	if _, err := r.links.find(ctx, k); err != nil {
		return err
	}
	if err := r.links.drop(ctx, k); err != nil {
		return err
	}
	if err := r.inner.DeleteBlob(ctx, repo, d); !errors.Is(err, origin.ErrUnsupported) && !origin.Unknown(err) {
		return told(err)
	}
	return nil
}
