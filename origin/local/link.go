package local

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Mount implements origin.Writer. With the zero Repo as from, any blob that the
// store has may be mounted: who may know of it is for the caller to decide.
func (r *Registry) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return origin.Descriptor{}, err
	}
	if !from.IsZero() {
		if err := r.linked(ctx, content{from, d}); err != nil {
			return origin.Descriptor{}, err
		}
	}
	desc, err := r.stat(ctx, d)
	if err != nil {
		return origin.Descriptor{}, err
	}
	return desc, r.link(ctx, content{to, d})
}

// Adopt implements origin.Adopter.
func (r *Registry) Adopt(ctx context.Context, repo origin.Repo, file *os.File, d digest.Digest) (origin.Descriptor, error) {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return origin.Descriptor{}, err
	}
	a, ok := r.blobs.(store.Adopter)
	if !ok {
		return origin.Descriptor{}, fmt.Errorf("adopt blob %s: %w", d, store.ErrForeign)
	}
	info, err := a.Adopt(ctx, file, d)
	if err != nil {
		return origin.Descriptor{}, fmt.Errorf("adopt blob %s: %w", d, err)
	}
	return describe(info), r.link(ctx, content{repo, d})
}

// link links a blob that the store has into a repository, which exists from then
// on: who began a push here is answered from here.
func (r *Registry) link(ctx context.Context, k content) error {
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	if _, ok := r.links.get(k); ok {
		return nil
	}
	w := r.creation(ctx, k.repo)
	w.add(intent{
		what:  fmt.Sprintf("link of blob %s in %s", k.digest, k.repo),
		write: store.Write{Key: keyBlob(k.repo, k.digest), Data: []byte("{}"), If: store.Absent()},
		taken: func() error {
			r.keepLink(k)
			return nil
		},
		done: func() { r.keepLink(k) },
	})
	return r.commit(ctx, w)
}
