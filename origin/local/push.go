package local

import (
	"context"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// Push implements origin.Writer. Everything that can be refused is refused before
// anything is written, but for one case: of several pushes that race for an
// immutable tag, the losers leave their manifest, untagged.
//
// A push of what is there already writes nothing.
func (r *Registry) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	if int64(len(m.Bytes)) > r.opts.MaxManifestSize {
		return origin.Descriptor{}, origin.Errorf(origin.ErrManifestInvalid, "manifest is larger than %d bytes", r.opts.MaxManifestSize).
			WithStatus(http.StatusRequestEntityTooLarge)
	}
	d, err := verify(m)
	if err != nil {
		return origin.Descriptor{}, err
	}
	tags, err := tagNames(o.Tags)
	if err != nil {
		return origin.Descriptor{}, err
	}
	var c origin.Content
	if o.Sparse {
		c, err = origin.ReadManifest(m.MediaType, m.Bytes)
	} else if c, err = origin.CheckManifest(m.MediaType, m.Bytes); err == nil {
		err = r.complete(ctx, repo, c)
	}
	if err != nil {
		return origin.Descriptor{}, err
	}
	desc := v1.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(m.Bytes))}
	if err := r.mayMove(ctx, repo, tags, desc); err != nil {
		return origin.Descriptor{}, err
	}
	if err := r.write(ctx, repo, desc, m.Bytes, c, tags); err != nil {
		return origin.Descriptor{}, err
	}
	return origin.Descriptor{Descriptor: desc}, nil
}

// verify gives the digest of the manifest's bytes: the one that it is said to
// have, or else its sha256.
func verify(m origin.Manifest) (digest.Digest, error) {
	if m.Digest == "" {
		return digest.FromBytes(m.Bytes), nil
	}
	d, err := origin.ParseDigest(m.Digest.String())
	if err != nil {
		return "", err
	}
	if got := d.Algorithm().FromBytes(m.Bytes); got != d {
		return "", origin.Errorf(origin.ErrDigestInvalid, "the manifest has digest %s, not %s", got, d)
	}
	return d, nil
}

func tagNames(refs []origin.Ref) ([]string, error) {
	var tags []string
	for _, ref := range refs {
		if ref.Tag() == "" {
			return nil, origin.Errorf(origin.ErrTagInvalid, "%s is not a tag", origin.Quote(ref.String()))
		}
		if !slices.Contains(tags, ref.Tag()) {
			tags = append(tags, ref.Tag())
		}
	}
	return tags, nil
}

// complete tells by its error whether the repository has all that a manifest
// needs: ErrManifestBlobUnknown with the digests of what is missing as its
// detail, or ErrManifestInvalid where something has another size than is claimed.
// Layers with URLs may be missing, subjects too.
//
// What is deleted while it looks may be missing afterwards, just as if it had been
// deleted after the push.
func (r *Registry) complete(ctx context.Context, repo origin.Repo, c origin.Content) error {
	var missing []digest.Digest
	need := func(want v1.Descriptor, has func(context.Context, content) (v1.Descriptor, error)) error {
		got, err := has(ctx, content{repo, want.Digest})
		switch {
		case origin.Unknown(err):
			missing = append(missing, want.Digest)
		case err != nil:
			return err
		case got.Size != want.Size:
			return origin.Errorf(origin.ErrManifestInvalid, "descriptor %s says that it has %d bytes, and it has %d", want.Digest, want.Size, got.Size)
		}
		return nil
	}
	for _, b := range c.Blobs {
		if len(b.URLs) > 0 {
			continue
		}
		if err := need(b, r.hasBlob); err != nil {
			return err
		}
	}
	for _, m := range c.Manifests {
		has := r.hasManifest
		if !slices.Contains(origin.ManifestTypes(), m.MediaType) {
			has = r.hasEither
		}
		if err := need(m, has); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return origin.ErrManifestBlobUnknown.WithDetail(missing)
	}
	return nil
}

func (r *Registry) hasBlob(ctx context.Context, k content) (v1.Descriptor, error) {
	d, err := r.Stat(ctx, k.repo, k.digest)
	return d.Descriptor, err
}

func (r *Registry) hasManifest(ctx context.Context, k content) (v1.Descriptor, error) {
	m, err := r.manifest(ctx, k)
	return m.descriptor, err
}

// hasEither is for what an index names that is no manifest that we know: it was
// pushed as a blob, if not as a manifest.
func (r *Registry) hasEither(ctx context.Context, k content) (v1.Descriptor, error) {
	d, err := r.hasManifest(ctx, k)
	if origin.Unknown(err) {
		return r.hasBlob(ctx, k)
	}
	return d, err
}

// mayMove tells by its error whether each of the tags may name that manifest.
func (r *Registry) mayMove(ctx context.Context, repo origin.Repo, tags []string, desc v1.Descriptor) error {
	for _, tag := range tags {
		if !r.immutable(tag) {
			continue
		}
		t, err := r.tag(ctx, repo, tag)
		switch {
		case origin.Unknown(err):
		case err != nil:
			return err
		case t.Digest != desc.Digest:
			return immutableError(repo, tag, t.Digest)
		}
	}
	return nil
}

func immutableError(repo origin.Repo, tag string, d digest.Digest) error {
	return origin.Errorf(origin.ErrDenied, "tag %s of %s is immutable and names %s", tag, repo, d)
}
