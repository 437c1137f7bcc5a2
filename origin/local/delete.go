package local

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// mayDelete is what every deletion begins with, however it is spelled.
func (r *Registry) mayDelete() error {
	if !r.opts.Delete {
		return origin.Errorf(origin.ErrUnsupported, "deletion is switched off")
	}
	return nil
}

// DeleteManifest implements origin.Deleter. A tag goes alone; a digest takes its
// tags with it, first.
func (r *Registry) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	if err := r.mayDelete(); err != nil {
		return err
	}
	if tag := ref.Tag(); tag != "" {
		return r.deleteTag(ctx, tagKey{repo, tag})
	}
	return r.deleteManifest(ctx, content{repo, ref.Digest()})
}

func (r *Registry) deleteTag(ctx context.Context, k tagKey) error {
	l := r.tagLocks.of(k.repo, k.tag)
	l.Lock()
	defer l.Unlock()
	if r.immutable(k.tag) {
		t, err := r.fillTag(ctx, k)
		if err == nil {
			err = immutableError(k.repo, k.tag, t.Digest)
		}
		return err
	}
	err := r.records.Delete(ctx, keyTag(k.repo, k.tag), store.Always())
	if errors.Is(err, store.ErrNotFound) {
		r.dropTag(k)
		return origin.Errorf(origin.ErrManifestUnknown, "tag %s is unknown in %s", k.tag, k.repo)
	}
	if err != nil {
		r.forgetTag(k)
		return fmt.Errorf("delete tag %s of %s: %w", k.tag, k.repo, err)
	}
	r.dropTag(k)
	return nil
}

// dropTag takes a tag that is gone out of memory. The caller holds its lock.
func (r *Registry) dropTag(k tagKey) {
	r.tags.remove(k)
	r.names.remove(prefixTags(k.repo), k.tag)
}

// deleteManifest deletes tags, then the notes of them, then the referrer, then
// the manifest: whatever it is interrupted after, no tag names what is not there,
// and a repetition finds the rest.
func (r *Registry) deleteManifest(ctx context.Context, k content) error {
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	m, err := r.fillManifest(ctx, k)
	if err != nil {
		return err
	}
	notes, err := r.notes(ctx, k)
	if err != nil {
		return err
	}
	tags := slices.Concat(notes, m.Tags)
	if err := r.mayLose(ctx, k, tags); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := r.untag(ctx, tagKey{k.repo, tag}, k.digest); err != nil {
			return err
		}
	}
	for _, tag := range notes {
		if err := r.gone(ctx, keyName(k.repo, k.digest, tag)); err != nil {
			return err
		}
	}
	if m.Subject != "" {
		prefix := prefixReferrers(k.repo, m.Subject)
		if err := r.gone(ctx, keyReferrer(k.repo, m.Subject, k.digest)); err != nil {
			r.referrers.forget(prefix)
			return err
		}
		r.referrers.remove(prefix, k.digest.String())
	}
	r.manifests.remove(k)
	return r.gone(ctx, keyManifest(k.repo, k.digest))
}

// notes gives the tags that came to name a manifest after its first push.
func (r *Registry) notes(ctx context.Context, k content) ([]string, error) {
	prefix := prefixNames(k.repo, k.digest)
	var tags []string
	for e, err := range r.records.List(ctx, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list tags of %s in %s: %w", k.digest, k.repo, err)
		}
		tags = append(tags, lastOfKey(e.Key, prefix))
	}
	return tags, nil
}

// mayLose tells by its error whether none of the tags that name the manifest is
// immutable. The manifest's lock is held: nobody pushes such a tag meanwhile.
func (r *Registry) mayLose(ctx context.Context, k content, tags []string) error {
	for _, tag := range tags {
		if !r.immutable(tag) {
			continue
		}
		t, err := r.tag(ctx, k.repo, tag)
		switch {
		case origin.Unknown(err):
		case err != nil:
			return err
		case t.Digest == k.digest:
			return immutableError(k.repo, tag, k.digest)
		}
	}
	return nil
}

// untag deletes the tag if it names the manifest.
func (r *Registry) untag(ctx context.Context, k tagKey, d digest.Digest) error {
	l := r.tagLocks.of(k.repo, k.tag)
	l.Lock()
	defer l.Unlock()
	for {
		rec, err := r.records.Get(ctx, keyTag(k.repo, k.tag))
		if errors.Is(err, store.ErrNotFound) {
			r.dropTag(k)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tag %s of %s: %w", k.tag, k.repo, err)
		}
		t, err := decodeTag(k.tag, rec.Data)
		if err != nil {
			return err
		}
		if t.Digest != d {
			return nil
		}
		// Only that version: another process may let the tag name something else.
		err = r.records.Delete(ctx, keyTag(k.repo, k.tag), store.Version(rec.Version))
		switch {
		case errors.Is(err, store.ErrConflict):
		case err != nil && !errors.Is(err, store.ErrNotFound):
			r.forgetTag(k)
			return fmt.Errorf("delete tag %s of %s: %w", k.tag, k.repo, err)
		default:
			r.dropTag(k)
			return nil
		}
	}
}

// gone deletes a record that may be gone already.
func (r *Registry) gone(ctx context.Context, key string) error {
	err := r.records.Delete(ctx, key, store.Always())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete record: %w", err)
	}
	return nil
}

// DeleteBlob implements origin.Deleter: the link goes, and the bytes stay for
// those that link them too. Manifests that name the blob stay as well.
func (r *Registry) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	if err := r.mayDelete(); err != nil {
		return err
	}
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return err
	}
	k := content{repo, d}
	l := r.linkLocks.of(repo, d.String())
	l.Lock()
	defer l.Unlock()
	// First, so that memory says no more than the store whatever comes of it.
	r.links.remove(k)
	err := r.records.Delete(ctx, keyBlob(repo, d), store.Always())
	if errors.Is(err, store.ErrNotFound) {
		return blobError(d, err)
	}
	if err != nil {
		return fmt.Errorf("unlink blob %s in %s: %w", d, repo, err)
	}
	r.linkers.remove(k)
	return nil
}
