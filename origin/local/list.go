package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

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

// loadNames lists the tags or repositories below the prefix, after one of them.
func (r *Registry) loadNames(ctx context.Context, prefix, after string) iter.Seq2[item[struct{}], error] {
	if prefix == prefixRepos {
		return r.loadRepos(ctx, after)
	}
	return func(yield func(item[struct{}], error) bool) {
		for e, err := range r.records.List(ctx, prefix, behind(prefix, after)) {
			if err != nil {
				yield(item[struct{}]{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			if !yield(item[struct{}]{key: lastOfKey(e.Key, prefix)}, nil) {
				return
			}
		}
	}
}

// loadRepos lists the repositories, whose records are in another order than their names.
func (r *Registry) loadRepos(ctx context.Context, after string) iter.Seq2[item[struct{}], error] {
	return func(yield func(item[struct{}], error) bool) {
		var names []string
		for e, err := range r.records.List(ctx, prefixRepos, "") {
			if err != nil {
				yield(item[struct{}]{}, fmt.Errorf("list %s: %w", prefixRepos, err))
				return
			}
			if name := repoOfKey(e.Key); name > after {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			if !yield(item[struct{}]{key: name}, nil) {
				return
			}
		}
	}
}

// behind is the key below the prefix that a listing goes on after; "" for its beginning.
func behind(prefix, after string) string {
	if after == "" {
		return ""
	}
	return prefix + "/" + after
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

// loadReferrers lists the referrers below the prefix, after the one of that digest. An entry
// whose manifest is gone is none: whoever deleted that was interrupted.
func (r *Registry) loadReferrers(ctx context.Context, prefix, after string) iter.Seq2[item[referrer], error] {
	return func(yield func(item[referrer], error) bool) {
		there, stop := r.thereAre(ctx, prefix, after)
		defer stop()
		for e, err := range r.records.List(ctx, prefix, behind(prefix, strings.Replace(after, ":", "/", 1))) {
			if err != nil {
				yield(item[referrer]{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			desc, size, err := r.readReferrer(ctx, e.Key)
			if err == nil {
				err = there(e.Key)
			}
			if errors.Is(err, store.ErrNotFound) || origin.Unknown(err) {
				continue // deleted while we listed
			}
			if !yield(newReferrer(desc, size), err) || err != nil {
				return
			}
		}
	}
}

// thereAre gives a function that tells by its error whether the manifest of an entry below the
// prefix is there: store.ErrNotFound. It is asked in the order of their keys, and lists the
// manifests beside; one that is not in that list may be newer, and is looked for.
func (r *Registry) thereAre(ctx context.Context, prefix, after string) (there func(key string) error, stop func()) {
	repo, _, _ := strings.Cut(lastOfKey(prefix, prefixAll), "/_r/")
	manifests := prefixAll + "/" + repo + "/_m"
	next, stop := iter.Pull2(r.records.List(ctx, manifests, behind(manifests, strings.Replace(after, ":", "/", 1))))
	var e store.Entry
	var err error
	more := true
	return func(key string) error {
		want := manifests + "/" + lastOfKey(key, prefix)
		for more && err == nil && e.Key < want {
			e, err, more = next()
		}
		switch {
		case err != nil:
			return fmt.Errorf("list %s: %w", manifests, err)
		case more && e.Key == want:
			return nil
		}
		_, err := r.records.Get(ctx, want)
		if errors.Is(err, errDamaged) {
			return nil
		}
		return err
	}, stop
}

// readReferrer reads a referrer's record, and gives its size too. What a damaged one said is
// read of the referrer itself, until a scrub writes it anew.
func (r *Registry) readReferrer(ctx context.Context, key string) (d v1.Descriptor, size int, err error) {
	rec, err := r.records.Get(ctx, key)
	if err == nil && json.Unmarshal(rec.Data, &d) == nil {
		return d, len(rec.Data), nil
	}
	if err != nil && !errors.Is(err, errDamaged) {
		return d, 0, fmt.Errorf("read referrer: %w", err)
	}
	it, _, err := itemOf(store.Entry{Key: key})
	if err != nil {
		return d, 0, err
	}
	m, c, err := r.contentOf(ctx, content{it.Repo, it.Digest})
	return asReferrer(m.descriptor, c), len(m.bytes), err
}
