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
	if !r.options().Delete {
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
	if r.immutable(k.repo, k.tag) {
		t, err := r.fillTag(ctx, k)
		if err == nil {
			err = immutableError(k.repo, k.tag, t.Digest)
		}
		return err
	}
	if r.options().Journal == nil {
		return r.removeTag(ctx, k)
	}
	t, err := r.fillTag(ctx, k)
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	return r.journaled(ctx, untagging(k, t), func() error { return r.removeTag(ctx, k) })
}

// removeTag deletes a tag, whatever it names. The caller holds its lock.
func (r *Registry) removeTag(ctx context.Context, k tagKey) error {
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

// deleteManifest deletes tags, then the referrer, then the manifest, then the notes of its
// tags: whatever it is interrupted after, no tag names what is not there, and a repetition
// finds the rest.
func (r *Registry) deleteManifest(ctx context.Context, k content) error {
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	m, err := r.fillManifest(ctx, k)
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	if m.Mirrored != pushed {
		return r.deleteHeld(ctx, k)
	}
	return r.journaled(ctx, origin.Change{Repo: k.repo, Descriptor: m.descriptor}, func() error { return r.deleteHeld(ctx, k) })
}

// deleteHeld is deleteManifest for who holds the manifest's lock.
func (r *Registry) deleteHeld(ctx context.Context, k content) error {
	for round := range rounds {
		if err := r.pause(ctx, k, round); err != nil {
			return err
		}
		err := r.deleteOnce(ctx, k, round > 0)
		if !errors.Is(err, errOvertaken) {
			return err
		}
	}
	err := origin.Errorf(origin.ErrUnavailable, "manifest %s is pushed again and again: try again", k.digest)
	return origin.Wrap(err, errors.Join(errOvertaken, r.relist(ctx, k)))
}

// deleteOnce is one round of deleteManifest. again says that it is not the first one.
// Errors: errOvertaken.
func (r *Registry) deleteOnce(ctx context.Context, k content, again bool) error {
	m, err := r.doom(ctx, k)
	if again && origin.Unknown(err) {
		return nil // by another process
	}
	if err != nil {
		return err
	}
	notes, err := r.notes(ctx, k)
	if err != nil {
		return err
	}
	tags := slices.Concat(notes.tags(), m.Tags)
	if err := r.mayLose(ctx, k, tags); err != nil {
		return r.spareDoomed(ctx, k, err, again)
	}
	var denied error
	for _, tag := range tags {
		switch err := r.untag(ctx, tagKey{k.repo, tag}, k.digest); {
		case errors.Is(err, origin.ErrDenied):
			denied = err
		case err != nil:
			return err
		}
	}
	if denied != nil {
		return r.spareDoomed(ctx, k, denied, true)
	}
	return r.expunge(ctx, k, m, notes)
}

// mayLose tells by its error whether none of the tags that name the manifest is
// immutable. The manifest's lock is held: nobody pushes such a tag meanwhile.
func (r *Registry) mayLose(ctx context.Context, k content, tags []string) error {
	for _, tag := range tags {
		if !r.immutable(k.repo, tag) {
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

// untag deletes the tag if it names the manifest. Errors: ErrDenied where it is immutable,
// and so has come since mayLose looked.
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
		var t tagRecord
		if err == nil {
			t, err = decodeTag(k.tag, rec.Data)
		}
		switch {
		case errors.Is(err, errDamaged):
			return nil // what it named is not known, and may be something else
		case err != nil:
			return fmt.Errorf("read tag %s of %s: %w", k.tag, k.repo, err)
		case t.Digest != d:
			return nil
		case r.immutable(k.repo, k.tag):
			return immutableError(k.repo, k.tag, d)
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
