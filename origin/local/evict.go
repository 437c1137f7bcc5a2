package local

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Evict implements origin.Keeper.
//
// Nobody links the blob meanwhile, so that the links which are read here are all that
// there are. The bytes go first: a link without bytes, which is what an interruption
// leaves, is the same as none to those who read, and is good again with the bytes. The
// other way round bytes would be left that nobody knows of.
func (r *Registry) Evict(ctx context.Context, d digest.Digest) error {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return err
	}
	l := r.blobLocks.of(origin.Repo{}, d.String())
	if !l.TryLock() {
		// Whoever links it wants it. To wait would hold up those who come after, too.
		return fmt.Errorf("evict blob %s: %w", d, origin.ErrBusy)
	}
	defer l.Unlock()
	linked, m, err := r.linksOf(ctx, d)
	if err != nil {
		return fmt.Errorf("evict blob %s: %w", d, err)
	}
	if m == pushed {
		return fmt.Errorf("evict blob %s: %w", d, origin.ErrPushed)
	}
	gone := r.blobs.Delete(ctx, d)
	if gone != nil && !errors.Is(gone, store.ErrNotFound) {
		return fmt.Errorf("evict blob %s: %w", d, gone)
	}
	for _, k := range linked {
		if err := r.unlink(ctx, k); err != nil {
			return err
		}
	}
	if gone != nil {
		return blobError(d, gone)
	}
	return nil
}

// linksOf reads the links of a blob, and gives mirrored if they all are. The caller
// holds the blob so that there come no more. Errors: ErrBusy.
func (r *Registry) linksOf(ctx context.Context, d digest.Digest) (linked []content, all mark, err error) {
	repos, known := r.linkers.of(d)
	if !known {
		return nil, pushed, origin.ErrBusy
	}
	for _, repo := range repos {
		k := content{repo, d}
		m, err := r.readLink(ctx, k)
		switch {
		case origin.Unknown(err):
		case err != nil:
			return nil, pushed, err
		case m == pushed:
			return nil, pushed, nil
		default:
			linked = append(linked, k)
		}
	}
	return linked, mirrored, nil
}

// unlink takes a blob out of one repository, if it is there.
func (r *Registry) unlink(ctx context.Context, k content) error {
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	// First, so that memory says no more than the store whatever comes of it.
	r.links.remove(k)
	if err := r.gone(ctx, keyBlob(k.repo, k.digest)); err != nil {
		return fmt.Errorf("unlink blob %s in %s: %w", k.digest, k.repo, err)
	}
	r.linkers.remove(k)
	return nil
}

// Evictable implements origin.Keeper. After it has come to its end for the first time
// Evict knows who links what.
func (r *Registry) Evictable(ctx context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if err := r.learnLinks(ctx); err != nil {
			yield(store.Info{}, err)
			return
		}
		for info, err := range r.blobs.All(ctx) {
			if err != nil {
				yield(store.Info{}, fmt.Errorf("list blobs: %w", err))
				return
			}
			linked, m, err := r.linksOf(ctx, info.Digest)
			if err == nil && (m == pushed || len(linked) == 0) {
				continue
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// learnLinks tells linkers of every link that the store has. What is linked meanwhile
// is told by those who do.
func (r *Registry) learnLinks(ctx context.Context) error {
	for e, err := range r.records.List(ctx, prefixRepos, "") {
		if err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
		repo, err := origin.ParseRepo(repoOfKey(e.Key))
		if err != nil {
			return fmt.Errorf("list repositories: %w: %w", errDamaged, err)
		}
		prefix := below(repo, "_b")
		for e, err := range r.records.List(ctx, prefix, "") {
			if err != nil {
				return fmt.Errorf("list links of %s: %w", repo, err)
			}
			if d, ok := digestOfPath(lastOfKey(e.Key, prefix)); ok {
				r.linkers.add(content{repo, d})
			}
		}
	}
	r.linkers.complete()
	return nil
}
