package local

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	lease      lease
	version    string // of the record, where it was read
}

func (m manifest) cost() int64 {
	n := 2*entryCost + len(m.bytes)
	for _, t := range m.Tags {
		n += len(t)
	}
	return int64(n)
}

// Resolve implements origin.Reader.
func (r *Registry) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if ref.Tag() != "" {
		// By its manifest: who is told that it is there does not push it.
		m, err := r.named(ctx, repo, ref)
		return origin.Descriptor{Descriptor: m.descriptor}, err
	}
	k := content{repo, ref.Digest()}
	m, err := r.manifest(ctx, k)
	if err == nil {
		err = r.touchManifest(ctx, k, m)
	}
	if err != nil && !unwritable(err) { // as for links
		return origin.Descriptor{}, err
	}
	r.rely(k)
	return origin.Descriptor{Descriptor: m.descriptor}, nil
}

// Manifest implements origin.Reader. The bytes are shared: the caller does not
// change them.
func (r *Registry) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	m, err := r.named(ctx, repo, ref)
	return origin.Manifest{Descriptor: origin.Descriptor{Descriptor: m.descriptor}, Bytes: m.bytes}, err
}

// named gives the manifest that a reference names. Errors: ErrManifestUnknown.
func (r *Registry) named(ctx context.Context, repo origin.Repo, ref origin.Ref) (manifest, error) {
	d := ref.Digest()
	for {
		if tag := ref.Tag(); tag != "" {
			t, err := r.tag(ctx, repo, tag)
			if err != nil {
				return manifest{}, err
			}
			if t.Digest == d {
				// The tag still names what is not there: nothing moved meanwhile.
				return manifest{}, fmt.Errorf("tag %s of %s names %s: %w", tag, repo, d, origin.ErrManifestUnknown)
			}
			d = t.Digest
		}
		m, err := r.manifest(ctx, content{repo, d})
		if err == nil {
			return m, nil
		}
		if ref.Tag() == "" || !origin.Unknown(err) {
			return manifest{}, err
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
	// Of two who read while another process writes one may have the old record, and keep it
	// after the other one has given the new one to somebody. So they read one after the other
	// what memory is to have; what it will not be believed, they do not keep.
	leave, err := r.tagFills.enter(ctx, repo, tag)
	if err != nil {
		return tagRecord{}, fmt.Errorf("read tag %s of %s: %w", tag, repo, err)
	}
	if t, ok := r.tags.get(k); ok {
		leave()
		return t, nil
	}
	if !r.tags.believes(k) {
		leave()
		return r.readTag(ctx, k)
	}
	defer leave()
	return r.fillTag(ctx, k)
}

// fillTag reads a tag's record into memory. The caller holds the tag's lock, or that for
// reading and who else fills it: no writer comes between the reading and the keeping.
func (r *Registry) fillTag(ctx context.Context, k tagKey) (tagRecord, error) {
	t, err := r.readTag(ctx, k)
	if err == nil {
		r.keepTag(k, t)
	}
	return t, err
}

// readTag reads a tag's record. Errors: ErrManifestUnknown.
func (r *Registry) readTag(ctx context.Context, k tagKey) (tagRecord, error) {
	t, _, err := r.readTagAt(ctx, k)
	return t, err
}

// readTagAt gives, too, when the record was written, by the store's clock.
func (r *Registry) readTagAt(ctx context.Context, k tagKey) (tagRecord, time.Time, error) {
	rec, err := r.records.Get(ctx, keyTag(k.repo, k.tag))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return tagRecord{}, rec.Modified, origin.Errorf(origin.ErrManifestUnknown, "tag %s is unknown in %s", k.tag, k.repo)
	case err != nil && !errors.Is(err, errDamaged):
		return tagRecord{}, rec.Modified, fmt.Errorf("read tag %s of %s: %w", k.tag, k.repo, err)
	}
	t, bad := decodeTag(k.tag, rec.Data)
	if err := errors.Join(err, bad); err != nil {
		return tagRecord{}, rec.Modified, quarantined(err, "tag %s of %s", k.tag, k.repo)
	}
	return t, rec.Modified, nil
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
	return r.readManifest(ctx, k)
}

// readManifest is manifest, from the store.
func (r *Registry) readManifest(ctx context.Context, k content) (manifest, error) {
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
	m, err := r.loadManifest(ctx, k)
	if err == nil {
		r.manifests.put(k, m, m.cost())
	}
	return m, err
}

// quarantined is the error of a record that is damaged. To clients it is as if it was not
// there until it is pushed again; who decides what stays is told by ErrDamaged, and nothing
// goes meanwhile that it may name.
func quarantined(err error, format string, args ...any) error {
	return origin.Wrap(origin.Errorf(origin.ErrManifestUnknown, format+" is damaged, and unknown until it is pushed again", args...), err)
}

// loadManifest reads a manifest's record, and keeps nothing in memory. Of one that is
// damaged it gives what of its header can be read. Errors: ErrManifestUnknown, ErrDamaged.
func (r *Registry) loadManifest(ctx context.Context, k content) (manifest, error) {
	rec, err := r.records.Get(ctx, keyManifest(k.repo, k.digest))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return manifest{}, origin.Errorf(origin.ErrManifestUnknown, "manifest %s is unknown in %s", k.digest, k.repo)
	case err != nil && !errors.Is(err, errDamaged):
		return manifest{}, fmt.Errorf("read manifest %s of %s: %w", k.digest, k.repo, err)
	}
	h, b, bad := decodeManifest(k.digest, rec.Data)
	m := newManifest(h, k.digest, b)
	m.lease, m.version = lease{store: rec.Modified}, rec.Version
	if err := errors.Join(err, bad); err != nil {
		return m, quarantined(err, "manifest %s of %s", k.digest, k.repo)
	}
	return m, nil
}

func newManifest(h manifestHeader, d digest.Digest, b []byte) manifest {
	return manifest{
		manifestHeader: h,
		descriptor:     v1.Descriptor{MediaType: h.MediaType, Digest: d, Size: int64(len(b))},
		bytes:          b,
	}
}

// Stat implements origin.Reader. Who is told that a blob is there does not push it, and
// is promised that it stays for the grace.
func (r *Registry) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if _, err := r.touch(ctx, content{repo, d}); err != nil {
		return origin.Descriptor{}, absent(d, err)
	}
	return r.stat(ctx, d)
}

// Blob implements origin.Reader.
func (r *Registry) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	if _, err := r.linked(ctx, content{repo, d}); err != nil {
		return origin.Blob{}, err
	}
	b, err := r.open(ctx, d, rng)
	if err != nil {
		return origin.Blob{}, err
	}
	return origin.Blob{Descriptor: describe(b.Info), Offset: b.Offset, Length: b.Length, Body: b.Body}, nil
}

// BlobURL implements origin.Redirector: an address of the store, which the repository's link
// gives a right to as it does to the bytes.
func (r *Registry) BlobURL(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Redirect, bool, error) {
	p, ok := r.blobs.(store.Presigner)
	ttl := r.options().RedirectTTL
	if !ok || ttl == 0 {
		return origin.Redirect{}, false, nil
	}
	_, err := r.linked(ctx, content{repo, d})
	var url string
	if err == nil {
		url, err = p.Presign(ctx, d, ttl)
	}
	// What is not there, or cannot be asked for, Blob has the words for.
	return origin.Redirect{URL: url}, err == nil, nil
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
	if l, ok := r.links.get(k); ok {
		return l.mark, nil
	}
	return r.fillLink(ctx, k)
}

// fillLink is linked, from the store.
func (r *Registry) fillLink(ctx context.Context, k content) (mark, error) {
	if _, err := origin.ParseDigest(k.digest.String()); err != nil {
		return pushed, err
	}
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.RLock()
	defer l.RUnlock()
	got, err := r.readLink(ctx, k)
	if err != nil {
		return pushed, err
	}
	r.keepLink(k, got)
	return got.mark, nil
}

// readLink reads the record of a link. Errors: ErrBlobUnknown.
func (r *Registry) readLink(ctx context.Context, k content) (link, error) {
	rec, err := r.records.Get(ctx, keyBlob(k.repo, k.digest))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return link{}, blobError(k.digest, err)
	case err != nil && !errors.Is(err, errDamaged):
		return link{}, fmt.Errorf("read link of %s in %s: %w", k.digest, k.repo, err)
	}
	// One that is damaged is a link all the same, and one that stays.
	m, _ := decodeLink(rec.Data)
	return link{m, lease{store: rec.Modified}}, nil
}

// keepLink keeps in memory that a blob is linked; the caller holds the link's
// lock, as in fillTag.
func (r *Registry) keepLink(k content, l link) {
	r.links.put(k, l, entryCost+int64(len(k.repo.String())+len(k.digest)))
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
