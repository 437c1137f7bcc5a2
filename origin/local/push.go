package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
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
	if err := r.create(ctx, repo); err != nil {
		return origin.Descriptor{}, err
	}
	if err := r.write(ctx, repo, desc, m.Bytes, c, tags, mark(o.Sparse)); err != nil {
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
	m, err := r.manifest(ctx, k)
	if err != nil || m.Mirrored == pushed {
		return m.descriptor, err
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
	if _, err := r.fillManifest(ctx, k); err != nil {
		return v1.Descriptor{}, err // deleted meanwhile, and not to be written anew
	}
	_, err = r.writeManifest(ctx, k, m.descriptor, m.bytes, c, m.Tags, pushed)
	return m.descriptor, err
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

// write writes the records of a push: manifest, referrer, tags. The manifest's
// lock is held to the end, so that a deletion of the manifest comes before all of
// it or after all of it, and never between a manifest and its tags.
func (r *Registry) write(ctx context.Context, repo origin.Repo, desc v1.Descriptor, b []byte, c origin.Content, tags []string, m mark) error {
	k := content{repo, desc.Digest}
	l := r.manifestLocks.of(repo, desc.Digest.String())
	l.Lock()
	defer l.Unlock()
	h, err := r.writeManifest(ctx, k, desc, b, c, tags, m)
	if err != nil {
		return err
	}
	if c.Subject != nil {
		if err := r.writeReferrer(ctx, k, desc, c); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if err := r.writeTag(ctx, tagKey{repo, tag}, desc, slices.Contains(h.Tags, tag)); err != nil {
			return err
		}
	}
	return nil
}

// writeManifest writes a manifest's record unless it is there, and gives the
// header of the one that is there then. One that a client pushes is not mirrored any
// more. The caller holds the manifest's lock.
func (r *Registry) writeManifest(ctx context.Context, k content, desc v1.Descriptor, b []byte, c origin.Content, tags []string, m mark) (manifestHeader, error) {
	old, ok := r.manifests.get(k)
	if !ok {
		var err error
		old, err = r.fillManifest(ctx, k)
		if err != nil && !origin.Unknown(err) && !errors.Is(err, errDamaged) {
			return manifestHeader{}, err
		}
		ok = err == nil
	}
	// A mirrored manifest may come under another type than before. The last one
	// counts; a tag says what it was pushed with until it is pushed again.
	if ok && old.MediaType == desc.MediaType && (old.Mirrored == m || old.Mirrored == pushed) {
		return old.manifestHeader, nil
	}
	h := manifestHeader{MediaType: desc.MediaType, PushedAt: time.Now().UTC(), Mirrored: m, Tags: tags}
	if ok {
		h.Tags, h.Mirrored = old.Tags, m && old.Mirrored
	}
	if c.Subject != nil {
		h.Subject = c.Subject.Digest
	}
	data, err := encodeManifest(h, b)
	if err != nil {
		return h, err
	}
	if _, err := r.records.Put(ctx, keyManifest(k.repo, k.digest), data, store.Always()); err != nil {
		r.manifests.remove(k)
		return h, fmt.Errorf("write manifest %s of %s: %w", k.digest, k.repo, err)
	}
	kept := newManifest(h, k.digest, data[len(data)-len(b):])
	r.manifests.put(k, kept, kept.cost())
	return h, nil
}

// writeReferrer lists the manifest among the referrers of its subject. The caller
// holds the manifest's lock.
func (r *Registry) writeReferrer(ctx context.Context, k content, desc v1.Descriptor, c origin.Content) error {
	subject := c.Subject.Digest
	desc.ArtifactType = c.ArtifactType
	desc.Annotations = c.Annotations
	data, err := json.Marshal(desc)
	if err != nil {
		return fmt.Errorf("encode referrer: %w", err)
	}
	name := prefixReferrers(k.repo, subject)
	_, err = r.records.Put(ctx, keyReferrer(k.repo, subject, k.digest), data, store.Absent())
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil // an earlier push of the same bytes
	case err != nil:
		r.referrers.forget(name)
		return fmt.Errorf("write referrer %s of %s in %s: %w", k.digest, subject, k.repo, err)
	}
	r.referrers.set(name, newReferrer(desc, len(data)))
	return nil
}

// writeTag lets a tag name the manifest. known says that a deletion of the
// manifest finds the tag without being told. The caller holds the manifest's lock.
//
// The tag's lock spans its record, its place in memory and its index, so that two
// pushes of one tag leave all three as the later one wants them.
func (r *Registry) writeTag(ctx context.Context, k tagKey, desc v1.Descriptor, known bool) error {
	l := r.tagLocks.of(k.repo, k.tag)
	l.Lock()
	defer l.Unlock()
	old, ok := r.tags.get(k)
	if !ok {
		var err error
		old, err = r.fillTag(ctx, k)
		if err != nil && !origin.Unknown(err) && !errors.Is(err, errDamaged) {
			return err
		}
		ok = err == nil
	}
	if ok && old.names(desc) {
		return nil
	}
	if !known {
		// Before the tag itself: a tag that a deletion cannot find would outlive its
		// manifest, while a note of a tag that names something else does no harm.
		_, err := r.records.Put(ctx, keyName(k.repo, desc.Digest, k.tag), []byte("{}"), store.Absent())
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("note tag %s of %s: %w", k.tag, k.repo, err)
		}
	}
	if_ := store.Always()
	if r.immutable(k.tag) {
		// The store decides who was first, whatever memory and other processes think.
		if_ = store.Absent()
	}
	t := tagRecord{Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size, PushedAt: time.Now().UTC()}
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode tag: %w", err)
	}
	_, err = r.records.Put(ctx, keyTag(k.repo, k.tag), data, if_)
	switch {
	case errors.Is(err, store.ErrConflict):
		first, err := r.fillTag(ctx, k)
		if err == nil && first.Digest != desc.Digest {
			err = immutableError(k.repo, k.tag, first.Digest)
		}
		return err
	case err != nil:
		r.forgetTag(k)
		return fmt.Errorf("write tag %s of %s: %w", k.tag, k.repo, err)
	}
	r.keepTag(k, t)
	r.names.set(prefixTags(k.repo), item[struct{}]{key: k.tag})
	return nil
}

// forgetTag drops what memory has of a tag after a write that may or may not have
// happened. The caller holds the tag's lock.
func (r *Registry) forgetTag(k tagKey) {
	r.tags.remove(k)
	r.names.forget(prefixTags(k.repo))
}
