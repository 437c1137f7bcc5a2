package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Unlink implements origin.Sweeper. Whoever renewed the link meanwhile has written
// another version of it.
func (r *Registry) Unlink(ctx context.Context, repo origin.Repo, d digest.Digest, was origin.Link) error {
	k := content{repo, d}
	l := r.linkLocks.of(repo, d.String())
	l.Lock()
	defer l.Unlock()
	// First, so that memory says no more than the store whatever comes of it.
	r.links.remove(k)
	err := r.records.Delete(ctx, keyBlob(repo, d), store.Version(was.Version))
	switch {
	case errors.Is(err, store.ErrConflict):
		return origin.ErrInUse
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("unlink blob %s in %s: %w", d, repo, err)
	}
	r.linkers.remove(k)
	return nil
}

// Retire implements origin.Sweeper. Whoever began to rely on the manifest meanwhile has
// renewed its record. It goes from the list of referrers first, and comes back there if it
// is kept in the end.
func (r *Registry) Retire(ctx context.Context, repo origin.Repo, d digest.Digest, before time.Time) error {
	k := content{repo, d}
	l := r.manifestLocks.of(repo, d.String())
	l.Lock()
	defer l.Unlock()
	m, err := r.fillManifest(ctx, k)
	if origin.Unknown(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !m.lease.store.Before(before) {
		return origin.ErrInUse
	}
	if m.Subject != "" {
		_, err := r.records.Get(ctx, keyManifest(repo, m.Subject))
		if err == nil {
			return origin.ErrInUse // it was pushed again
		}
		if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read subject of %s in %s: %w", d, repo, err)
		}
	}
	return r.retire(ctx, k, m)
}

// retire deletes a manifest that no tag names, if its record is still as it was read. The
// caller holds its lock. Errors: ErrInUse.
func (r *Registry) retire(ctx context.Context, k content, m manifest) error {
	notes, err := r.notes(ctx, k)
	if err != nil {
		return err
	}
	for _, tag := range slices.Concat(notes.tags(), m.Tags) {
		t, err := r.readTag(ctx, tagKey{k.repo, tag})
		if err == nil && t.Digest == k.digest {
			return origin.ErrInUse
		}
		if err != nil && !origin.Unknown(err) {
			return err
		}
	}
	err = r.expunge(ctx, k, m, notes)
	if errors.Is(err, errOvertaken) {
		return errors.Join(origin.ErrInUse, r.relist(ctx, k))
	}
	return err
}

// referrerEntry gives the condition under which the entry of a manifest among the referrers
// of its subject is still what it is now: whoever pushes the manifest again writes another.
func (r *Registry) referrerEntry(ctx context.Context, k content, subject digest.Digest) (store.Condition, error) {
	if subject == "" || r.options().Sole {
		return store.Always(), nil
	}
	rec, err := r.records.Get(ctx, keyReferrer(k.repo, subject, k.digest))
	if errors.Is(err, store.ErrNotFound) {
		return store.Absent(), nil
	}
	if err != nil && !errors.Is(err, errDamaged) {
		return store.Condition{}, fmt.Errorf("read referrer %s of %s in %s: %w", k.digest, subject, k.repo, err)
	}
	return store.Version(rec.Version), nil
}

// dropReferrer takes a manifest that is gone out of the referrers of its subject, if it has
// one, and nobody has pushed it since. The caller holds the manifest's lock.
func (r *Registry) dropReferrer(ctx context.Context, k content, subject digest.Digest, if_ store.Condition) error {
	if subject == "" {
		return nil
	}
	prefix := prefixReferrers(k.repo, subject)
	err := r.records.Delete(ctx, keyReferrer(k.repo, subject, k.digest), if_)
	switch {
	case errors.Is(err, store.ErrConflict):
		r.referrers.forget(prefix)
		return nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		r.referrers.forget(prefix)
		return fmt.Errorf("delete referrer %s of %s in %s: %w", k.digest, subject, k.repo, err)
	}
	r.referrers.remove(prefix, k.digest.String())
	return nil
}

// bereave takes note that a manifest is about to be deleted, or was just now, which others
// have as their subject: they go after the grace.
func (r *Registry) bereave(ctx context.Context, k content) error {
	if r.options().Grace == 0 {
		return nil
	}
	for _, err := range r.records.List(ctx, prefixReferrers(k.repo, k.digest), "") {
		if err == nil {
			_, err = r.records.Put(ctx, keyDeleted(k.repo, k.digest), []byte("{}"), store.Always())
		}
		if err != nil {
			return fmt.Errorf("note that subject %s of %s is deleted: %w", k.digest, k.repo, err)
		}
		break
	}
	return nil
}

// Forget implements origin.Sweeper.
func (r *Registry) Forget(ctx context.Context, repo origin.Repo, subject digest.Digest, before time.Time) error {
	key := keyDeleted(repo, subject)
	rec, err := r.records.Get(ctx, key)
	if err == nil && !rec.Modified.Before(before) {
		return origin.ErrInUse
	}
	if err == nil {
		err = r.records.Delete(ctx, key, store.Version(rec.Version))
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case errors.Is(err, store.ErrConflict):
		return origin.ErrInUse
	case err != nil:
		return fmt.Errorf("forget that subject %s of %s is deleted: %w", subject, repo, err)
	}
	return nil
}

// touchManifest renews the lease of a manifest that may be retired, where that is due.
// Errors: ErrManifestUnknown.
func (r *Registry) touchManifest(ctx context.Context, k content, m manifest) error {
	if m.Subject == "" || !r.due(ctx, m.lease) {
		return nil
	}
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	_, err := r.renewManifest(ctx, k)
	return err
}

// renewManifest is touchManifest for who holds the manifest's lock, and gives the
// manifest.
func (r *Registry) renewManifest(ctx context.Context, k content) (manifest, error) {
	for {
		m, err := r.fillManifest(ctx, k)
		if err != nil {
			return m, err
		}
		if m.Subject == "" || !r.due(ctx, m.lease) {
			return m, nil
		}
		data, err := encodeManifest(m.manifestHeader, m.bytes)
		if err != nil {
			return m, err
		}
		m.lease = leased()
		m.version, err = r.records.Put(ctx, keyManifest(k.repo, k.digest), data, store.Version(m.version))
		switch {
		case err == nil:
			r.manifests.put(k, m, m.cost())
			return m, nil
		case errors.Is(err, store.ErrConflict): // another process was here
		default:
			r.manifests.remove(k)
			return m, fmt.Errorf("renew manifest %s of %s: %w", k.digest, k.repo, err)
		}
	}
}
