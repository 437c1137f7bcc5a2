package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Immutable implements origin.Retirer.
func (r *Registry) Immutable(repo origin.Repo, tag string) bool { return r.immutable(repo, tag) }

// Tagged implements origin.Retirer.
func (r *Registry) Tagged(ctx context.Context, repo origin.Repo, tag string) (origin.Tagged, error) {
	t, at, err := r.readTagAt(ctx, tagKey{repo, tag})
	return origin.Tagged{Digest: t.Digest, PushedAt: t.PushedAt, Modified: at}, err
}

// Described implements origin.Retirer.
func (r *Registry) Described(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Described, error) {
	m, c, err := r.contentOf(ctx, content{repo, d})
	if err != nil {
		return origin.Described{}, err
	}
	is := origin.Described{
		Names:        m.names(c),
		MediaType:    m.MediaType,
		ArtifactType: c.ArtifactType,
		Annotations:  c.Annotations,
		Tags:         m.Tags,
		Suspect:      m.Suspect,
	}
	seen := map[digest.Digest]bool{}
	for _, b := range c.Blobs {
		if !seen[b.Digest] {
			is.Size = origin.AddSizes(is.Size, b.Size)
		}
		seen[b.Digest] = true
	}
	return is, nil
}

// Manifests gives what each manifest says that clients have pushed to a repository. Of one
// that is damaged it gives that error, and goes on. Errors: ErrDamaged.
func (r *Registry) Manifests(ctx context.Context, repo origin.Repo) iter.Seq2[origin.Pushed, error] {
	return func(yield func(origin.Pushed, error) bool) {
		prefix := below(repo, "_m")
		for e, err := range r.records.List(ctx, prefix, "") {
			if err != nil {
				yield(origin.Pushed{}, err)
				return
			}
			d, ok := digestOfPath(lastOfKey(e.Key, prefix))
			if !ok {
				err = fmt.Errorf("record %s: %w", e.Key, errDamaged)
			}
			var m manifest
			var c origin.Content
			if err == nil {
				m, c, err = r.contentOf(ctx, content{repo, d})
			}
			if origin.Unknown(err) || err == nil && m.Mirrored == mirrored {
				continue
			}
			if !yield(origin.Pushed{Content: c, Sparse: m.Sparse}, err) {
				return
			}
		}
	}
}

// contentOf reads a manifest's record, and its bytes. Errors: ErrManifestUnknown.
func (r *Registry) contentOf(ctx context.Context, k content) (manifest, origin.Content, error) {
	m, err := r.loadManifest(ctx, k)
	if err != nil {
		return m, origin.Content{}, err
	}
	c, err := origin.ReadManifest(m.MediaType, m.bytes)
	if err != nil {
		return m, c, fmt.Errorf("read manifest %s of %s: %w", k.digest, k.repo, err)
	}
	return m, c, nil
}

// Untag implements origin.Retirer.
func (r *Registry) Untag(ctx context.Context, repo origin.Repo, tag string, was origin.Tagged) error {
	k := tagKey{repo, tag}
	l := r.tagLocks.of(repo, tag)
	l.Lock()
	defer l.Unlock()
	if r.immutable(repo, tag) {
		return immutableError(repo, tag, was.Digest)
	}
	rec, err := r.records.Get(ctx, keyTag(repo, tag))
	if errors.Is(err, store.ErrNotFound) {
		r.dropTag(k)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read tag %s of %s: %w", tag, repo, err)
	}
	t, err := decodeTag(tag, rec.Data)
	if err != nil {
		return err
	}
	if t.Digest != was.Digest || !t.PushedAt.Equal(was.PushedAt) {
		return origin.ErrInUse
	}
	return r.journaled(ctx, untagging(k, t), func() error { return r.retireTag(ctx, k, rec.Version) })
}

// retireTag deletes a tag in that version only: another process may push it. The caller
// holds its lock.
func (r *Registry) retireTag(ctx context.Context, k tagKey, version string) error {
	err := r.records.Delete(ctx, keyTag(k.repo, k.tag), store.Version(version))
	switch {
	case errors.Is(err, store.ErrConflict):
		r.tags.remove(k)
		return origin.ErrInUse
	case err != nil && !errors.Is(err, store.ErrNotFound):
		r.forgetTag(k)
		return fmt.Errorf("delete tag %s of %s: %w", k.tag, k.repo, err)
	}
	r.dropTag(k)
	return nil
}

// Suspect implements origin.Retirer.
func (r *Registry) Suspect(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	return r.suspect(ctx, content{repo, d}, true)
}

// Clear implements origin.Retirer.
func (r *Registry) Clear(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	err := r.suspect(ctx, content{repo, d}, false)
	if origin.Unknown(err) {
		return nil
	}
	return err
}

func (r *Registry) suspect(ctx context.Context, k content, is bool) error {
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	_, err := r.suspectHeld(ctx, k, is)
	return err
}

// suspectHeld makes a manifest suspect, or clears it, and gives what it is then. The
// caller holds its lock. Errors: ErrManifestUnknown.
func (r *Registry) suspectHeld(ctx context.Context, k content, is bool) (manifest, error) {
	for {
		m, err := r.fillManifest(ctx, k)
		if err != nil || m.Suspect == is {
			return m, err
		}
		m.Suspect = is
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
			return m, fmt.Errorf("mark manifest %s of %s: %w", k.digest, k.repo, err)
		}
	}
}

// Discard implements origin.Retirer.
func (r *Registry) Discard(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	k := content{repo, d}
	l := r.manifestLocks.of(repo, d.String())
	l.Lock()
	defer l.Unlock()
	m, err := r.fillManifest(ctx, k)
	switch {
	case origin.Unknown(err):
		return nil
	case err != nil:
		return err
	case !m.Suspect || r.reliedOn(k):
		return origin.ErrInUse
	}
	return r.retire(ctx, k, m)
}

// rely takes note that somebody may be about to name a manifest.
func (r *Registry) rely(k content) {
	grace := r.options().Grace
	if grace == 0 {
		return
	}
	if at, ok := r.relied.get(k); ok && time.Since(at) < grace/renewals {
		return
	}
	r.relied.put(k, time.Now(), entryCost+int64(len(k.repo.String())+len(k.digest)))
}

// reliedOn reports whether somebody may still be about to.
func (r *Registry) reliedOn(k content) bool {
	at, ok := r.relied.get(k)
	return ok && time.Since(at) < r.options().Grace
}

// stand makes sure that what a manifest names which was just written is there, and stays:
// see [origin.Retirer].
func (r *Registry) stand(ctx context.Context, repo origin.Repo, c origin.Content) error {
	for _, child := range c.Manifests {
		k := content{repo, child.Digest}
		if !r.options().Sole {
			r.manifests.remove(k) // memory does not know what other processes do
		}
		m, err := r.manifest(ctx, k)
		if err == nil && m.Suspect {
			err = r.suspect(ctx, k, false)
		}
		if origin.Unknown(err) {
			if _, err = r.linked(ctx, k); origin.Unknown(err) {
				return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "manifest %s is being deleted: try again", k.digest), err)
			}
		}
		if err != nil {
			return err
		}
		r.relied.remove(k) // it is named now
	}
	return nil
}
