package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

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
	if most := r.options().MaxManifestSize; int64(len(m.Bytes)) > most {
		return origin.Descriptor{}, origin.Errorf(origin.ErrManifestInvalid, "manifest is larger than %d bytes", most).
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
	begun := time.Now()
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
	if err := r.write(ctx, repo, desc, m.Bytes, c, tags, mark(o.Sparse)); err != nil {
		return origin.Descriptor{}, err
	}
	if !o.Sparse {
		if len(tags) == 0 {
			r.rely(content{repo, d})
		}
		if err := r.stand(ctx, repo, c); err != nil {
			return origin.Descriptor{}, err
		}
	}
	// What was claimed may have been given up if all this took very long.
	if grace := r.options().Grace; !o.Sparse && grace > 0 && time.Since(begun) > grace/2 {
		if err := r.complete(ctx, repo, c); err != nil {
			return origin.Descriptor{}, origin.Wrap(origin.Errorf(origin.ErrUnavailable, "the push took too long: try again"), err)
		}
	}
	r.grants.named(repo, c.Blobs)
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

// complete claims for its pusher what a manifest needs, and tells by its error whether
// the repository has all of that: ErrManifestBlobUnknown with the digests of what is missing as its
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
		case origin.Unknown(err), errors.Is(err, errDamaged):
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
		if err := need(b, r.claimBlob); err != nil {
			return err
		}
	}
	for _, m := range c.Manifests {
		has := r.claimManifest
		if !slices.Contains(origin.ManifestTypes(), m.MediaType) {
			has = r.claimEither
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

func (r *Registry) claimBlob(ctx context.Context, k content) (v1.Descriptor, error) {
	d, err := r.claim(ctx, k)
	return d.Descriptor, err
}

// claimManifest claims what it names, too, as far as that is here: what a mirrored
// index or image lacks is not its pusher's.
func (r *Registry) claimManifest(ctx context.Context, k content) (v1.Descriptor, error) {
	m, ok := r.manifests.sure(k)
	if !ok {
		var err error
		if m, err = r.readManifest(ctx, k); err != nil {
			return m.descriptor, err
		}
	}
	if m.Mirrored == pushed {
		return m.descriptor, r.touchManifest(ctx, k, m)
	}
	c, err := origin.ReadManifest(m.descriptor.MediaType, m.bytes)
	if err != nil {
		return m.descriptor, fmt.Errorf("read manifest %s of %s: %w", k.digest, k.repo, err)
	}
	for _, b := range c.Blobs {
		if _, err := r.claim(ctx, content{k.repo, b.Digest}); err != nil && !origin.Unknown(err) {
			return m.descriptor, err
		}
	}
	for _, child := range c.Manifests {
		if _, err := r.claimEither(ctx, content{k.repo, child.Digest}); err != nil && !origin.Unknown(err) {
			return m.descriptor, err
		}
	}
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	for {
		if m, err = r.fillManifest(ctx, k); err != nil {
			return v1.Descriptor{}, err // deleted meanwhile, and not to be written anew
		}
		var w batch
		if _, _, err = r.addManifest(ctx, &w, k, m.descriptor, m.bytes, c, nil, pushed); err == nil {
			err = r.commit(ctx, w)
		}
		if !errors.Is(err, errOvertaken) {
			return m.descriptor, err
		}
	}
}

// claimEither is for what an index names that is no manifest that we know: it was
// pushed as a blob, if not as a manifest.
func (r *Registry) claimEither(ctx context.Context, k content) (v1.Descriptor, error) {
	d, err := r.claimManifest(ctx, k)
	if origin.Unknown(err) {
		return r.claimBlob(ctx, k)
	}
	return d, err
}

// mayMove tells by its error whether each of the tags may name that manifest.
func (r *Registry) mayMove(ctx context.Context, repo origin.Repo, tags []string, desc v1.Descriptor) error {
	for _, tag := range tags {
		if !r.immutable(repo, tag) {
			continue
		}
		t, err := r.tag(ctx, repo, tag)
		switch {
		case origin.Unknown(err):
		case errors.Is(err, errDamaged):
			return origin.Wrap(origin.Errorf(origin.ErrDenied, "tag %s of %s is immutable, and what it names is damaged: weir scrub may know it", tag, repo), err)
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
