package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// blobType is the media type of every blob: what it holds is the business of the
// manifests that name it.
const blobType = "application/octet-stream"

// manifest is a manifest's record as it is kept in memory. Its bytes are never
// written to again.
type manifest struct {
	manifestHeader
	descriptor v1.Descriptor
	bytes      []byte
}

func (m manifest) cost() int64 {
	n := 2*entryCost + len(m.bytes)
	for _, t := range m.Tags {
		n += len(t)
	}
	return int64(n)
}

// Resolve implements origin.Reader. A tag is answered from its own record.
func (r *Registry) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if tag := ref.Tag(); tag != "" {
		t, err := r.tag(ctx, repo, tag)
		if err != nil {
			return origin.Descriptor{}, err
		}
		return origin.Descriptor{Descriptor: v1.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: t.Size}}, nil
	}
	m, err := r.manifest(ctx, content{repo, ref.Digest()})
	return origin.Descriptor{Descriptor: m.descriptor}, err
}

// Manifest implements origin.Reader. The bytes are shared: the caller does not
// change them.
func (r *Registry) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	d := ref.Digest()
	for {
		if tag := ref.Tag(); tag != "" {
			t, err := r.tag(ctx, repo, tag)
			if err != nil {
				return origin.Manifest{}, err
			}
			if t.Digest == d {
				// The tag still names what is not there: nothing moved meanwhile.
				return origin.Manifest{}, fmt.Errorf("tag %s of %s names %s: %w", tag, repo, d, origin.ErrManifestUnknown)
			}
			d = t.Digest
		}
		m, err := r.manifest(ctx, content{repo, d})
		if err == nil {
			return origin.Manifest{Descriptor: origin.Descriptor{Descriptor: m.descriptor}, Bytes: m.bytes}, nil
		}
		if ref.Tag() == "" || !errors.Is(err, origin.ErrManifestUnknown) {
			return origin.Manifest{}, err
		}
		// Between the tag and its manifest, the tag may have moved on and the
		// manifest been deleted: the tag is asked again, and not from memory.
		r.tags.remove(tagKey{repo, ref.Tag()})
	}
}

// tag gives what the tag names. Errors: ErrManifestUnknown.
func (r *Registry) tag(ctx context.Context, repo origin.Repo, tag string) (tagRecord, error) {
	k := tagKey{repo, tag}
	if t, ok := r.tags.get(k); ok {
		return t, nil
	}
	l := r.tagLocks.of(repo, tag)
	l.RLock()
	defer l.RUnlock()
	return r.fillTag(ctx, k)
}

// fillTag reads a tag's record into memory. The caller holds the tag's lock, at
// least for reading: no writer comes between the reading and the keeping, and
// readers beside it read the same.
func (r *Registry) fillTag(ctx context.Context, k tagKey) (tagRecord, error) {
	rec, err := r.records.Get(ctx, keyTag(k.repo, k.tag))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return tagRecord{}, origin.Errorf(origin.ErrManifestUnknown, "tag %s is unknown in %s", k.tag, k.repo)
	case err != nil:
		return tagRecord{}, fmt.Errorf("read tag %s of %s: %w", k.tag, k.repo, err)
	}
	t, err := decodeTag(k.tag, rec.Data)
	if err != nil {
		return tagRecord{}, fmt.Errorf("read tag of %s: %w", k.repo, err)
	}
	r.keepTag(k, t)
	return t, nil
}

// keepTag keeps in memory what a tag names; the caller holds its lock.
func (r *Registry) keepTag(k tagKey, t tagRecord) {
	r.tags.put(k, t, entryCost+int64(len(k.repo.String())+len(k.tag)+len(t.Digest)+len(t.MediaType)))
}

// manifest gives the manifest of a digest. Errors: ErrManifestUnknown.
func (r *Registry) manifest(ctx context.Context, k content) (manifest, error) {
	if m, ok := r.manifests.get(k); ok {
		return m, nil
	}
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.RLock()
	defer l.RUnlock()
	return r.fillManifest(ctx, k)
}

// fillManifest reads a manifest's record into memory; as fillTag.
func (r *Registry) fillManifest(ctx context.Context, k content) (manifest, error) {
	if _, err := origin.ParseDigest(k.digest.String()); err != nil {
		return manifest{}, err
	}
	rec, err := r.records.Get(ctx, keyManifest(k.repo, k.digest))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return manifest{}, origin.Errorf(origin.ErrManifestUnknown, "manifest %s is unknown in %s", k.digest, k.repo)
	case err != nil:
		return manifest{}, fmt.Errorf("read manifest %s of %s: %w", k.digest, k.repo, err)
	}
	h, b, err := decodeManifest(k.digest, rec.Data)
	if err != nil {
		return manifest{}, fmt.Errorf("read from %s: %w", k.repo, err)
	}
	m := newManifest(h, k.digest, b)
	r.manifests.put(k, m, m.cost())
	return m, nil
}

func newManifest(h manifestHeader, d digest.Digest, b []byte) manifest {
	return manifest{
		manifestHeader: h,
		descriptor:     v1.Descriptor{MediaType: h.MediaType, Digest: d, Size: int64(len(b))},
		bytes:          b,
	}
}

// Stat implements origin.Reader.
func (r *Registry) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if _, err := r.linked(ctx, content{repo, d}); err != nil {
		return origin.Descriptor{}, err
	}
	return r.stat(ctx, d)
}

// Blob implements origin.Reader.
func (r *Registry) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	if _, err := r.linked(ctx, content{repo, d}); err != nil {
		return origin.Blob{}, err
	}
	b, err := r.blobs.Open(ctx, d, rng)
	if err != nil {
		return origin.Blob{}, blobError(d, err)
	}
	return origin.Blob{Descriptor: describe(b.Info), Offset: b.Offset, Length: b.Length, Body: b.Body}, nil
}

// Holds implements origin.Holder.
func (r *Registry) Holds(ctx context.Context, d digest.Digest) (origin.Descriptor, error) {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return origin.Descriptor{}, err
	}
	return r.stat(ctx, d)
}

// stat describes a blob of the store, whoever links it.
func (r *Registry) stat(ctx context.Context, d digest.Digest) (origin.Descriptor, error) {
	info, err := r.blobs.Stat(ctx, d)
	if err != nil {
		return origin.Descriptor{}, blobError(d, err)
	}
	return describe(info), nil
}

// linked tells by its error whether the repository links the blob: ErrBlobUnknown
// if not; and gives the mark of the link. That the store still has the bytes is another
// question.
func (r *Registry) linked(ctx context.Context, k content) (mark, error) {
	if m, ok := r.links.get(k); ok {
		return m, nil
	}
	if _, err := origin.ParseDigest(k.digest.String()); err != nil {
		return pushed, err
	}
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.RLock()
	defer l.RUnlock()
	m, err := r.readLink(ctx, k)
	if err != nil {
		return pushed, err
	}
	r.keepLink(k, m)
	return m, nil
}

// readLink reads the record of a link. Errors: ErrBlobUnknown.
func (r *Registry) readLink(ctx context.Context, k content) (mark, error) {
	rec, err := r.records.Get(ctx, keyBlob(k.repo, k.digest))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return pushed, blobError(k.digest, err)
	case err != nil:
		return pushed, fmt.Errorf("read link of %s in %s: %w", k.digest, k.repo, err)
	}
	// One that is damaged is a link all the same, and one that stays.
	m, _ := decodeLink(rec.Data)
	return m, nil
}

// keepLink keeps in memory that a blob is linked; the caller holds the link's
// lock, as in fillTag.
func (r *Registry) keepLink(k content, m mark) {
	r.links.put(k, m, entryCost+int64(len(k.repo.String())+len(k.digest)))
}

// blobError gives a store's error the registry's meaning. That a blob is not
// linked and that it does not exist are told in the same words.
func blobError(d digest.Digest, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return origin.Errorf(origin.ErrBlobUnknown, "blob %s is unknown", d)
	}
	return fmt.Errorf("blob %s: %w", d, err)
}

func describe(info store.Info) origin.Descriptor {
	return origin.Descriptor{Descriptor: v1.Descriptor{MediaType: blobType, Digest: info.Digest, Size: info.Size}}
}
