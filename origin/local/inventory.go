package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// errCut says that a listing lacks what is there. Nobody may conclude from it that
// anything is not.
var errCut = errors.New("the listing is incomplete")

// Items implements origin.Inventory. It is one listing of all records, so that a
// repository that nobody lists has its content listed all the same. That it came to
// its end is told by the record of the clock, which comes last; that it lacks no
// repository, by the list of those.
func (r *Registry) Items(ctx context.Context) iter.Seq2[origin.Item, error] {
	return func(yield func(origin.Item, error) bool) {
		began, err := r.Now(ctx)
		if err != nil {
			yield(origin.Item{}, err)
			return
		}
		seen, last := map[origin.Repo]bool{}, ""
		for e, err := range r.records.List(ctx, prefixAll, "") {
			if err != nil {
				yield(origin.Item{}, fmt.Errorf("list records: %w", err))
				return
			}
			last = e.Key
			it, in, err := itemOf(e)
			switch {
			case err != nil:
			case !in && it.Repo.IsZero():
				continue
			case !in:
				if _, ok := seen[it.Repo]; !ok {
					seen[it.Repo] = false
				}
				continue
			default:
				seen[it.Repo] = true
			}
			if !yield(it, err) || err != nil {
				return
			}
		}
		if last != keyClock {
			err = fmt.Errorf("list records: it ends with %q: %w", last, errCut)
		} else {
			err = r.lacks(ctx, seen, began)
		}
		if err != nil {
			yield(origin.Item{}, err)
		}
	}
}

// lacks tells by its error whether a repository of which nothing was listed has
// something that was written before that.
func (r *Registry) lacks(ctx context.Context, seen map[origin.Repo]bool, began time.Time) error {
	for repo, ok := range seen {
		if ok {
			continue
		}
		for _, kind := range []string{"_b", "_m", "_t"} {
			for e, err := range r.records.List(ctx, below(repo, kind), "") {
				if err != nil {
					return fmt.Errorf("list records of %s: %w", repo, err)
				}
				if e.Modified.Before(began) {
					return fmt.Errorf("list records: nothing of %s: %w", repo, errCut)
				}
				break
			}
		}
	}
	return nil
}

// itemOf gives what a record is to a repository. in is false where it is not in one: then
// the item has the name of a repository that exists, or nothing.
func itemOf(e store.Entry) (it origin.Item, in bool, err error) {
	key := lastOfKey(e.Key, prefixAll)
	name, rest, ok := strings.Cut(key, "/_")
	switch {
	case strings.HasPrefix(e.Key, prefixRepos+"/"):
		name, ok = repoOfKey(e.Key), true
	case strings.HasPrefix(key, "_"), e.Key == keyClock:
		return it, false, nil
	default:
		in = true
	}
	it.Modified = e.Modified
	if it.Repo, err = origin.ParseRepo(name); err != nil || !ok {
		return it, false, fmt.Errorf("record %s: %w", e.Key, errDamaged)
	}
	if in && !parseItem(&it, rest) {
		err = fmt.Errorf("record %s: %w", e.Key, errDamaged)
	}
	return it, in, err
}

// kinds are what records of a repository begin with, behind "_".
var kinds = map[string]origin.Kind{
	"b": origin.KindLink, "d": origin.KindDeleted, "m": origin.KindManifest,
	"n": origin.KindNote, "r": origin.KindReferrer, "t": origin.KindTag,
}

// parseItem reads what follows the repository and "_" in the key of a record.
func parseItem(it *origin.Item, key string) (ok bool) {
	kind, rest, _ := strings.Cut(key, "/")
	if it.Kind, ok = kinds[kind]; !ok {
		return false
	}
	switch it.Kind {
	case origin.KindTag:
		it.Tag = rest
		return rest != ""
	case origin.KindNote:
		i := strings.LastIndexByte(rest, '/')
		if i < 0 {
			return false
		}
		rest, it.Tag = rest[:i], rest[i+1:]
	case origin.KindReferrer:
		parts := strings.SplitN(rest, "/", 3) // algorithm, digits, and the same of the referrer
		if len(parts) < 3 {
			return false
		}
		if it.Subject, ok = digestOfPath(parts[0] + "/" + parts[1]); !ok {
			return false
		}
		rest = parts[2]
	}
	it.Digest, ok = digestOfPath(rest)
	return ok
}

// Links lists the blobs that a repository links, in no order.
func (r *Registry) Links(ctx context.Context, repo origin.Repo) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		prefix := below(repo, "_b")
		for e, err := range r.records.List(ctx, prefix, "") {
			if err != nil {
				yield("", fmt.Errorf("list links of %s: %w", repo, err))
				return
			}
			if d, ok := digestOfPath(lastOfKey(e.Key, prefix)); ok && !yield(d, nil) {
				return
			}
		}
	}
}

// Link implements origin.Inventory.
func (r *Registry) Link(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Link, error) {
	rec, err := r.records.Get(ctx, keyBlob(repo, d))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return origin.Link{}, blobError(d, err)
	case err != nil && !errors.Is(err, errDamaged):
		return origin.Link{}, fmt.Errorf("read link of %s in %s: %w", d, repo, err)
	}
	m, bad := decodeLink(rec.Data)
	if err := errors.Join(err, bad); err != nil {
		return origin.Link{}, fmt.Errorf("read link of %s in %s: %w", d, repo, err)
	}
	return origin.Link{Mirrored: bool(m), Modified: rec.Modified, Version: rec.Version}, nil
}

// Names implements origin.Inventory.
func (r *Registry) Names(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Names, error) {
	m, c, err := r.contentOf(ctx, content{repo, d})
	if err != nil {
		return origin.Names{}, err
	}
	return m.names(c), nil
}

// names is what a manifest names whose content is c.
func (m manifest) names(c origin.Content) origin.Names {
	n := origin.Names{Mirrored: bool(m.Mirrored), Modified: m.lease.store, Subject: m.Subject}
	for _, b := range c.Blobs {
		n.Blobs = append(n.Blobs, b.Digest)
	}
	for _, child := range c.Manifests {
		n.Manifests = append(n.Manifests, child.Digest)
	}
	return n
}

// Named implements origin.Inventory.
func (r *Registry) Named(ctx context.Context, repo origin.Repo, tag string) (digest.Digest, error) {
	t, err := r.readTag(ctx, tagKey{repo, tag})
	return t.Digest, err
}

// Bytes implements origin.Inventory.
func (r *Registry) Bytes(ctx context.Context) iter.Seq2[store.Info, error] { return r.blobs.All(ctx) }
