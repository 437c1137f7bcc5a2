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
	return desc, r.link(ctx, content{to, d}, m)
}

// Adopt implements origin.Adopter. Who adopts is a mirror.
func (r *Registry) Adopt(ctx context.Context, repo origin.Repo, file *os.File, d digest.Digest) (origin.Descriptor, error) {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return origin.Descriptor{}, err
	}
	a, ok := r.blobs.(store.Adopter)
	if !ok {
		return origin.Descriptor{}, fmt.Errorf("adopt blob %s: %w", d, store.ErrForeign)
	}
	defer r.holdBlob(d)()
	info, err := a.Adopt(ctx, file, d)
	if err != nil {
		return origin.Descriptor{}, fmt.Errorf("adopt blob %s: %w", d, err)
	}
	return describe(info), r.link(ctx, content{repo, d}, mirrored)
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
// mark, unless a client pushes what was mirrored only. The caller holds the blob.
func (r *Registry) link(ctx context.Context, k content, m mark) error {
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	if is, ok := r.links.get(k); ok && (is == m || is == pushed) {
		return nil
	}
	r.linkers.add(k)
	w := r.creation(ctx, k.repo)
	w.add(intent{
		what:   fmt.Sprintf("link of blob %s in %s", k.digest, k.repo),
		write:  store.Write{Key: keyBlob(k.repo, k.digest), Data: encodeLink(m), If: store.Absent()},
		taken:  func() error { return r.relink(ctx, k, m) },
		done:   func() { r.isLinked(k, m) },
		failed: func() { r.links.remove(k) },
	})
	return r.commit(ctx, w)
}

// isLinked takes note of a link that was recorded. The caller holds its lock.
func (r *Registry) isLinked(k content, m mark) {
	r.keepLink(k, m)
	if m == pushed {
		r.opts.Pushed(k.digest)
	}
}

// relink makes of a link that is there a pushed one if m says so. The caller holds its
// lock.
func (r *Registry) relink(ctx context.Context, k content, m mark) error {
	for {
		is, err := r.remark(ctx, k, m)
		if errors.Is(err, store.ErrNotFound) {
			is = m
			_, err = r.records.Put(ctx, keyBlob(k.repo, k.digest), encodeLink(m), store.Absent())
		}
		switch {
		case err == nil:
			r.isLinked(k, is)
			return nil
		case !errors.Is(err, store.ErrConflict): // else another process was here
			r.links.remove(k)
			return fmt.Errorf("link blob %s in %s: %w", k.digest, k.repo, err)
		}
	}
}

// remark gives the mark of a link that is there, after it has made it pushed if m says
// so. Errors: store.ErrNotFound, store.ErrConflict.
func (r *Registry) remark(ctx context.Context, k content, m mark) (mark, error) {
	rec, err := r.records.Get(ctx, keyBlob(k.repo, k.digest))
	if err != nil {
		return m, err
	}
	is, err := decodeLink(rec.Data)
	if err == nil && (is == m || is == pushed) {
		return is, nil
	}
	if err != nil {
		m = pushed // who made it is not known, so it stays
	}
	_, err = r.records.Put(ctx, keyBlob(k.repo, k.digest), encodeLink(m), store.Version(rec.Version))
	return m, err
}

// claim describes a blob that a manifest names which a client pushes: from now on its
// repository has it from that client. Errors: ErrBlobUnknown.
func (r *Registry) claim(ctx context.Context, k content) (origin.Descriptor, error) {
	if m, ok := r.links.get(k); ok && m == pushed {
		return r.stat(ctx, k.digest)
	}
	if _, err := origin.ParseDigest(k.digest.String()); err != nil {
		return origin.Descriptor{}, err
	}
	defer r.holdBlob(k.digest)()
	m, err := r.linked(ctx, k)
	if err != nil {
		return origin.Descriptor{}, err
	}
	d, err := r.stat(ctx, k.digest)
	if err == nil && m == mirrored {
		err = r.link(ctx, k, pushed)
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
