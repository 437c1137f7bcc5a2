package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const (
	// maxKept is the largest referrer, in bytes, that stays in memory; a larger one,
	// with annotations that a pusher may blow up to the size of a manifest, is read
	// again for each page.
	maxKept = 4 << 10
	// maxPage is how many bytes of referrers a page has at most (but one referrer
	// at least).
	maxPage = 4 << 20
)

// Tags implements origin.Reader.
func (r *Registry) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	var l origin.List[string]
	ok, err := r.exists(ctx, repo)
	switch {
	case err != nil:
		return l, err
	case !ok:
		return l, origin.Errorf(origin.ErrNameUnknown, "repository %s is unknown", repo)
	}
	l.Items, l.More, err = r.page(ctx, prefixTags(repo), p)
	return l, err
}

// Repos implements origin.Catalog.
func (r *Registry) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	var l origin.List[origin.Repo]
	names, more, err := r.page(ctx, prefixRepos, p)
	if err != nil {
		return l, err
	}
	l.More = more
	for _, name := range names {
		repo, err := origin.ParseRepo(name)
		if err != nil {
			return l, fmt.Errorf("list repositories: %w: %w", errDamaged, err)
		}
		l.Items = append(l.Items, repo)
	}
	return l, nil
}

// page gives a page of the names below the prefix.
func (r *Registry) page(ctx context.Context, prefix string, p origin.Page) (names []string, more bool, err error) {
	if p.N <= 0 {
		return nil, false, nil
	}
	err = r.names.page(ctx, prefix, p.After, func(it item[struct{}]) bool {
		more = len(names) == p.N
		if !more {
			names = append(names, it.key)
		}
		return !more
	})
	return names, more, err
}

// loadNames lists the tags or repositories below the prefix.
func (r *Registry) loadNames(ctx context.Context, prefix string) iter.Seq2[item[struct{}], error] {
	return func(yield func(item[struct{}], error) bool) {
		for e, err := range r.records.List(ctx, prefix, "") {
			if err != nil {
				yield(item[struct{}]{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			key := lastOfKey(e.Key, prefix)
			if prefix == prefixRepos {
				key = repoOfKey(e.Key)
			}
			if !yield(item[struct{}]{key: key}, nil) {
				return
			}
		}
	}
}

// referrer is what memory has of one: the key of its item is its digest.
type referrer struct {
	artifactType string
	size         int64          // of its record, in bytes
	descriptor   *v1.Descriptor // nil where it is larger than maxKept
}

func newReferrer(d v1.Descriptor, size int) item[referrer] {
	ref := referrer{artifactType: d.ArtifactType, size: int64(size)}
	if size <= maxKept {
		ref.descriptor = &d
	}
	return item[referrer]{key: d.Digest.String(), value: ref}
}

func (ref referrer) cost() int64 {
	n := entryCost + int64(len(ref.artifactType))
	if ref.descriptor != nil {
		n += 2 * ref.size
	}
	return n
}

// Referrers implements origin.Reader. A page ends early where its descriptors are
// very large.
func (r *Registry) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	var l origin.List[origin.Descriptor]
	if _, err := origin.ParseDigest(d.String()); err != nil || p.N <= 0 {
		return l, err
	}
	var picked []item[referrer]
	var size int64
	prefix := prefixReferrers(repo, d)
	err := r.referrers.page(ctx, prefix, p.After, func(it item[referrer]) bool {
		if artifactType != "" && it.value.artifactType != artifactType {
			return true
		}
		size += it.value.size
		l.More = len(picked) == p.N || len(picked) > 0 && size > maxPage
		if !l.More {
			picked = append(picked, it)
		}
		return !l.More
	})
	if err != nil {
		return origin.List[origin.Descriptor]{}, err
	}
	for _, it := range picked {
		desc := it.value.descriptor
		if desc == nil {
			read, _, err := r.readReferrer(ctx, prefix+digestPath(digest.Digest(it.key)))
			if errors.Is(err, store.ErrNotFound) {
				continue // deleted since
			}
			if err != nil {
				return origin.List[origin.Descriptor]{}, err
			}
			desc = &read
		}
		l.Items = append(l.Items, origin.Descriptor{Descriptor: *desc})
	}
	return l, nil
}

// loadReferrers lists the referrers below the prefix.
func (r *Registry) loadReferrers(ctx context.Context, prefix string) iter.Seq2[item[referrer], error] {
	return func(yield func(item[referrer], error) bool) {
		for e, err := range r.records.List(ctx, prefix, "") {
			if err != nil {
				yield(item[referrer]{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			desc, size, err := r.readReferrer(ctx, e.Key)
			if errors.Is(err, store.ErrNotFound) {
				continue // deleted while we listed
			}
			if !yield(newReferrer(desc, size), err) || err != nil {
				return
			}
		}
	}
}

// readReferrer reads a referrer's record, and gives its size too.
func (r *Registry) readReferrer(ctx context.Context, key string) (d v1.Descriptor, size int, err error) {
	rec, err := r.records.Get(ctx, key)
	if err != nil {
		return d, 0, fmt.Errorf("read referrer: %w", err)
	}
	if err := json.Unmarshal(rec.Data, &d); err != nil {
		return d, 0, fmt.Errorf("record %s: %w", key, errDamaged)
	}
	return d, len(rec.Data), nil
}
