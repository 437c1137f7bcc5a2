package local

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Mount implements origin.Writer. With the zero Repo as from, any blob that the
// store has may be mounted: who may know of it is for the caller to decide.
func (r *Registry) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	return r.mount(ctx, from, to, d, pushed)
}

func (r *Registry) mount(ctx context.Context, from, to origin.Repo, d digest.Digest, m mark) (origin.Descriptor, error) {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return origin.Descriptor{}, err
	}
	defer r.holdBlob(d)()
	if !from.IsZero() {
		if _, err := r.linked(ctx, content{from, d}); err != nil {
			return origin.Descriptor{}, err
		}
	}
	desc, err := r.stat(ctx, d)
	if err != nil {
		return origin.Descriptor{}, err
	}
	k := content{to, d}
	if err := r.link(ctx, k, m); err != nil {
		return origin.Descriptor{}, absent(d, err)
	}
	if m == pushed {
		r.grants.add(k, r.options().Grace)
	}
	return desc, nil
}

// Adopt implements origin.Adopter. Who adopts is a mirror.
//
// The link comes first: interrupted, it is one without bytes, which is none and good again
// with the bytes, where bytes without a link would be in nobody's budget.
func (r *Registry) Adopt(ctx context.Context, repo origin.Repo, file *os.File, d digest.Digest) (origin.Descriptor, error) {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return origin.Descriptor{}, err
	}
	a, ok := r.blobs.(store.Adopter)
	if !ok {
		return origin.Descriptor{}, fmt.Errorf("adopt blob %s: %w", d, store.ErrForeign)
	}
	defer r.holdBlob(d)()
	k := content{repo, d}
	_, before := r.linked(ctx, k)
	if err := r.writeLink(ctx, k, mirrored); err != nil {
		return origin.Descriptor{}, err
	}
	info, err := a.Adopt(ctx, file, d)
	if err != nil {
		err = fmt.Errorf("adopt blob %s: %w", d, err)
		if origin.Unknown(before) {
			// Not where a client has pushed the blob meanwhile.
			undone := r.concedeLink(ctx, k)
			if !errors.Is(undone, origin.ErrPushed) && !errors.Is(undone, origin.ErrInUse) {
				err = errors.Join(err, undone)
			}
		}
		return origin.Descriptor{}, err
	}
	return describe(info), again(r.secure(ctx, d))
}

// holdBlob keeps a blob from being evicted until what it gives is called: from before
// its bytes are found, or made, until after its link is made. So there is no link that
// was made to bytes which went meanwhile.
func (r *Registry) holdBlob(d digest.Digest) (release func()) {
	l := r.blobLocks.of(origin.Repo{}, d.String())
	l.RLock()
	return l.RUnlock
}

// link links a blob that the store has into a repository, which exists from then
// on: who began a push here is answered from here. A link that is there keeps its
// mark, unless a client pushes what was mirrored only, and its lease is renewed. The
// caller holds the blob. Errors: errGoing.
func (r *Registry) link(ctx context.Context, k content, m mark) error {
	if err := r.writeLink(ctx, k, m); err != nil {
		return err
	}
	return r.secure(ctx, k.digest)
}

func (r *Registry) writeLink(ctx context.Context, k content, m mark) error {
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	if is, ok := r.links.sure(k); ok && (is.mark == m || is.mark == pushed) && !r.due(ctx, is.lease) {
		return nil
	}
	r.linkers.add(k)
	if r.follower != nil {
		// Those who evict know of it before it is there, whatever becomes of this process.
		r.follower.others.Publish(ctx, keyBlob(k.repo, k.digest))
	}
	w, now := r.creation(ctx, k.repo), leased()
	w.add(intent{
		what:   fmt.Sprintf("link of blob %s in %s", k.digest, k.repo),
		write:  store.Write{Key: keyBlob(k.repo, k.digest), Data: encodeLink(m), If: store.Absent()},
		taken:  func() error { return r.relink(ctx, k, m) },
		done:   func() { r.isLinked(k, link{m, now}) },
		failed: func() { r.links.remove(k) },
	})
	return r.commit(ctx, w)
}

// isLinked takes note of a link that was recorded. The caller holds its lock.
func (r *Registry) isLinked(k content, l link) {
	r.keepLink(k, l)
	if l.mark == pushed {
		r.options().Pushed(k.digest)
	}
}

// relink makes of a link that is there a pushed one if m says so, and renews its lease.
// The caller holds its lock.
func (r *Registry) relink(ctx context.Context, k content, m mark) error {
	for {
		_, _, err := r.renew(ctx, k, m)
		if errors.Is(err, store.ErrNotFound) {
			now := leased()
			_, err = r.records.Put(ctx, keyBlob(k.repo, k.digest), encodeLink(m), store.Absent())
			if err == nil {
				r.isLinked(k, link{m, now})
			}
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, store.ErrConflict): // else another process was here
			r.links.remove(k)
			return fmt.Errorf("link blob %s in %s: %w", k.digest, k.repo, err)
		}
	}
}

// claim describes a blob that a manifest names which a client pushes: from now on its
// repository has it from that client. Errors: ErrBlobUnknown.
func (r *Registry) claim(ctx context.Context, k content) (origin.Descriptor, error) {
	if l, ok := r.links.sure(k); ok && l.mark == pushed && !r.due(ctx, l.lease) {
		return r.stat(ctx, k.digest)
	}
	if _, err := origin.ParseDigest(k.digest.String()); err != nil {
		return origin.Descriptor{}, err
	}
	defer r.holdBlob(k.digest)()
	m, err := r.touchHeld(ctx, k)
	if err != nil {
		return origin.Descriptor{}, again(err)
	}
	d, err := r.stat(ctx, k.digest)
	if err == nil && m == mirrored {
		err = again(r.link(ctx, k, pushed))
	}
	return d, err
}

// fromMirror is the registry as a mirror writes to it.
type fromMirror struct{ *Registry }

// Mirrored implements origin.Keeper.
func (r *Registry) Mirrored() origin.Writer { return fromMirror{r} }

// Mount implements origin.Writer.
func (f fromMirror) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	return f.mount(ctx, from, to, d, mirrored)
}

// Upload implements origin.Writer.
func (f fromMirror) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	return f.upload(ctx, repo, id, alg, mirrored)
}
