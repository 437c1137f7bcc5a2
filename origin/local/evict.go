package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

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
	if o := r.options(); o.Grace > 0 && !o.Sole && r.follower != nil {
		return r.concede(ctx, d)
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
	if o := r.options(); o.Grace > 0 && !o.Sole {
		if len(linked) == 0 {
			return blobError(d, store.ErrNotFound)
		}
		return r.giveUp(ctx, linked)
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

// EvictFrom implements origin.Keeper. Of two who take the last two links at once the second
// one finds but one: in this process by the blob's lock. Where another process is the second,
// no link is left, and the bytes are garbage.
func (r *Registry) EvictFrom(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return err
	}
	l := r.blobLocks.of(origin.Repo{}, d.String())
	if !l.TryLock() {
		return fmt.Errorf("evict blob %s from %s: %w", d, repo, origin.ErrBusy)
	}
	defer l.Unlock()
	k := content{repo, d}
	linked, m, err := r.linksOf(ctx, d)
	switch {
	case err != nil:
	case m == pushed:
		err = origin.ErrPushed
	case !slices.Contains(linked, k):
		err = blobError(d, store.ErrNotFound)
	case len(linked) == 1:
		err = origin.ErrOnly
	default:
		if o := r.options(); o.Grace == 0 || o.Sole {
			return r.unlink(ctx, k)
		}
		if err = r.concedeLink(ctx, k); errors.Is(err, origin.ErrInUse) {
			err = origin.ErrBusy
		}
	}
	if err != nil {
		err = fmt.Errorf("evict blob %s from %s: %w", d, repo, err)
	}
	return err
}

// giveUp is Evict in a store that other processes use too, and do not say how. Memory does
// not know what they have linked, and no lock keeps them from it: so the links go as they
// were read, and the bytes as those of all garbage do.
func (r *Registry) giveUp(ctx context.Context, linked []content) error {
	for _, k := range linked {
		err := r.concedeLink(ctx, k)
		if errors.Is(err, origin.ErrInUse) {
			err = origin.ErrBusy
		}
		if err == nil {
			err = r.Condemn(ctx, k.digest)
		}
		if err != nil {
			return fmt.Errorf("evict blob %s: %w", k.digest, err)
		}
	}
	return nil
}

// linksOf reads the links of a blob, and gives mirrored if they all are. The caller
// holds the blob so that there come no more. Errors: ErrBusy.
func (r *Registry) linksOf(ctx context.Context, d digest.Digest) (linked []content, all mark, err error) {
	if _, known := r.linkers.of(d); !known {
		return nil, pushed, origin.ErrBusy
	}
	return r.knownLinksOf(ctx, d)
}

// knownLinksOf is linksOf where some may not be known.
func (r *Registry) knownLinksOf(ctx context.Context, d digest.Digest) (linked []content, all mark, err error) {
	repos, _ := r.linkers.of(d)
	for _, repo := range repos {
		k := content{repo, d}
		l, err := r.readLink(ctx, k)
		switch {
		case origin.Unknown(err):
		case err != nil:
			return nil, pushed, err
		case l.mark == pushed:
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
func (r *Registry) Evictable(ctx context.Context) iter.Seq2[origin.Evictable, error] {
	return func(yield func(origin.Evictable, error) bool) {
		if err := r.learnLinks(ctx); err != nil {
			yield(origin.Evictable{}, err)
			return
		}
		part := make([]store.Info, 0, linkReaders)
		for info, err := range r.blobs.All(ctx) {
			if err != nil {
				yield(origin.Evictable{}, fmt.Errorf("list blobs: %w", err))
				return
			}
			if part = append(part, info); len(part) < linkReaders {
				continue
			}
			if !r.yieldEvictable(ctx, part, yield) {
				return
			}
			part = part[:0]
		}
		r.yieldEvictable(ctx, part, yield)
	}
}

// linkReaders is of how many blobs links are read at a time: a bucket takes as long for one.
const linkReaders = 32

// yieldEvictable yields those of some blobs that may be evicted, and reports whether more
// are wanted.
func (r *Registry) yieldEvictable(ctx context.Context, part []store.Info, yield func(origin.Evictable, error) bool) bool {
	var reading errgroup.Group
	found := make([]origin.Evictable, len(part))
	for i, info := range part {
		reading.Go(func() error {
			linked, m, err := r.knownLinksOf(ctx, info.Digest) // they were all learnt just now
			if m == mirrored && len(linked) > 0 {
				found[i] = evictable(info, linked)
			}
			return err
		})
	}
	if err := reading.Wait(); err != nil {
		yield(origin.Evictable{}, err)
		return false
	}
	for _, e := range found {
		if len(e.Repos) > 0 && !yield(e, nil) {
			return false
		}
	}
	return true
}

func evictable(info store.Info, linked []content) origin.Evictable {
	e := origin.Evictable{Info: info}
	for _, k := range linked {
		e.Repos = append(e.Repos, k.repo)
	}
	return e
}

// MayEvict implements origin.Keeper.
func (r *Registry) MayEvict(ctx context.Context, d digest.Digest) (origin.Evictable, error) {
	linked, m, err := r.knownLinksOf(ctx, d)
	switch {
	case err != nil:
		return origin.Evictable{}, fmt.Errorf("blob %s: %w", d, err)
	case m == pushed:
		return origin.Evictable{}, fmt.Errorf("blob %s: %w", d, origin.ErrPushed)
	case len(linked) == 0:
		return origin.Evictable{}, blobError(d, store.ErrNotFound)
	}
	info, err := r.blobs.Stat(ctx, d)
	if err != nil {
		return origin.Evictable{}, blobError(d, err)
	}
	return evictable(info, linked), nil
}

// learnLinks tells linkers of every link that the store has. What is linked meanwhile
// is told by those who do.
func (r *Registry) learnLinks(ctx context.Context) error {
	doubts := r.linkers.doubts()
	for e, err := range r.records.List(ctx, prefixRepos, "") {
		if err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
		repo, err := origin.ParseRepo(repoOfKey(e.Key))
		if err != nil {
			return fmt.Errorf("list repositories: %w: %w", errDamaged, err)
		}
		for d, err := range r.Links(ctx, repo) {
			if err != nil {
				return err
			}
			r.linkers.add(content{repo, d})
		}
	}
	r.linkers.complete(doubts)
	return nil
}
