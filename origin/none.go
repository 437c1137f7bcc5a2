package origin

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// None is a registry that has nothing and takes nothing. Decorators embed it
// rather than what they wrap, so that a method they forget fails closed.
type None struct{}

var _ Registry = None{}

// Resolve implements Reader.
func (None) Resolve(context.Context, Repo, Ref) (Descriptor, error) {
	return Descriptor{}, ErrManifestUnknown
}

// Manifest implements Reader.
func (None) Manifest(context.Context, Repo, Ref) (Manifest, error) {
	return Manifest{}, ErrManifestUnknown
}

// Stat implements Reader.
func (None) Stat(context.Context, Repo, digest.Digest) (Descriptor, error) {
	return Descriptor{}, ErrBlobUnknown
}

// Blob implements Reader.
func (None) Blob(context.Context, Repo, digest.Digest, store.Range) (Blob, error) {
	return Blob{}, ErrBlobUnknown
}

// Tags implements Reader.
func (None) Tags(context.Context, Repo, Page) (List[string], error) {
	return List[string]{}, ErrNameUnknown
}

// Referrers implements Reader.
func (None) Referrers(context.Context, Repo, digest.Digest, string, Page) (List[Descriptor], error) {
	return List[Descriptor]{}, nil
}

// Push implements Writer.
func (None) Push(context.Context, Repo, Manifest, PushOptions) (Descriptor, error) {
	return Descriptor{}, ErrUnsupported
}

// Upload implements Writer.
func (None) Upload(context.Context, Repo, string, digest.Algorithm) (store.Ingest, error) {
	return nil, ErrUnsupported
}

// Mount implements Writer.
func (None) Mount(context.Context, Repo, Repo, digest.Digest) (Descriptor, error) {
	return Descriptor{}, ErrUnsupported
}

// DeleteManifest implements Deleter.
func (None) DeleteManifest(context.Context, Repo, Ref) error { return ErrUnsupported }

// DeleteBlob implements Deleter.
func (None) DeleteBlob(context.Context, Repo, digest.Digest) error { return ErrUnsupported }

// Repos implements Catalog.
func (None) Repos(context.Context, Page) (List[Repo], error) { return List[Repo]{}, nil }
