package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// DefaultMaxManifestSize is the largest manifest in bytes where the options do
// not say. The specification asks for 4 MiB at least.
const DefaultMaxManifestSize = 4 << 20

// Options say what a registry allows. The zero value takes pushes of any blob,
// moves every tag and deletes nothing.
type Options struct {
	// Delete allows deletions. Without it every one of them, by tag or by digest,
	// of manifests or of blobs, is answered with ErrUnsupported.
	Delete bool
	// MaxManifestSize is in bytes; 0 means DefaultMaxManifestSize.
	MaxManifestSize int64
	// MaxBlobSize is in bytes; 0 means no limit.
	MaxBlobSize int64
	// UploadExpiry is how long after its last byte an unfinished upload may be
	// swept; 0 means never.
	UploadExpiry time.Duration
	// ImmutableTags match tags (whole) that never name anything but what they were
	// first pushed with, except those that ImmutableTagsExcept match.
	ImmutableTags, ImmutableTagsExcept []*regexp.Regexp
	// Pushed is told of each blob that a client pushed, mounted or named in a manifest
	// and that may have been mirrored before; nil: nobody is. It calls nothing here.
	Pushed func(d digest.Digest)
	// Logger gets what an operator wants to know; nil discards it.
	Logger *slog.Logger
}

// What is kept in memory, in bytes. A manifest is some kilobytes, a tag or a link
// some hundred bytes; an index has about 80 bytes for each tag in it and 500 for
// each referrer.
const (
	manifestBudget = 32 << 20
	tagBudget      = 16 << 20
	linkBudget     = 16 << 20
	repoBudget     = 4 << 20
	nameBudget     = 32 << 20
	referrerBudget = 32 << 20
)

// Registry is an [origin.Registry] over a store. It is also an [origin.Adopter], an
// [origin.Holder] and an [origin.Keeper]. All methods are safe for concurrent use.
//
// Where a repository does not exist, its manifests and blobs are unknown, and so
// are its tags (ErrNameUnknown).
type Registry struct {
	blobs   store.Blobs
	records store.Records
	opts    Options
	log     *slog.Logger

	// Lock order: manifestLocks, then tagLocks; blobLocks, then linkLocks. No one holds
	// two locks of a set.
	manifestLocks *locks // by digest: the manifest's record, its referrer and the tags that it is pushed with
	tagLocks      *locks // by tag
	linkLocks     *locks // by digest of the blob
	blobLocks     *locks // by digest alone: who links it holds it for reading, who evicts it for writing

	repos     *lru[origin.Repo, struct{}] // that exist; they never cease to
	manifests *lru[content, manifest]
	tags      *lru[tagKey, tagRecord]
	links     *lru[content, mark]
	linkers   *linkers

	// By the prefix of their records.
	names     *indexes[struct{}] // the tags of a repository; the repositories
	referrers *indexes[referrer] // of a subject in a repository

	signer struct {
		sync.Mutex
		key []byte // nil until the first upload
	}
}

var (
	_ origin.Registry = (*Registry)(nil)
	_ origin.Adopter  = (*Registry)(nil)
	_ origin.Holder   = (*Registry)(nil)
	_ origin.Keeper   = (*Registry)(nil)
)

// content names a manifest or a blob inside a repository.
type content struct {
	repo   origin.Repo
	digest digest.Digest
}

type tagKey struct {
	repo origin.Repo
	tag  string
}

// New gives the registry that is kept in blobs and records. Nobody else changes
// the records below "r" meanwhile, or memory would not follow. Errors: an
// invalid option.
func New(blobs store.Blobs, records store.Records, opts Options) (*Registry, error) {
	if opts.MaxManifestSize == 0 {
		opts.MaxManifestSize = DefaultMaxManifestSize
	}
	if opts.MaxManifestSize < 0 || opts.MaxBlobSize < 0 || opts.UploadExpiry < 0 {
		return nil, errors.New("local registry: negative limit")
	}
	var err error
	if opts.ImmutableTags, err = whole(opts.ImmutableTags); err != nil {
		return nil, err
	}
	if opts.ImmutableTagsExcept, err = whole(opts.ImmutableTagsExcept); err != nil {
		return nil, err
	}
	r := &Registry{
		blobs:         blobs,
		records:       records,
		opts:          opts,
		log:           opts.Logger,
		manifestLocks: newLocks(),
		tagLocks:      newLocks(),
		linkLocks:     newLocks(),
		blobLocks:     newLocks(),
		repos:         newLRU[origin.Repo, struct{}](repoBudget),
		manifests:     newLRU[content, manifest](manifestBudget),
		tags:          newLRU[tagKey, tagRecord](tagBudget),
		links:         newLRU[content, mark](linkBudget),
		linkers:       newLinkers(),
	}
	if r.opts.Pushed == nil {
		r.opts.Pushed = func(digest.Digest) {}
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.names = newIndexes(nameBudget, func(struct{}) int64 { return 0 }, r.loadNames)
	r.referrers = newIndexes(referrerBudget, referrer.cost, r.loadReferrers)
	return r, nil
}

// exists reports whether the repository does.
func (r *Registry) exists(ctx context.Context, repo origin.Repo) (bool, error) {
	if _, ok := r.repos.get(repo); ok {
		return true, nil
	}
	_, err := r.records.Get(ctx, keyRepo(repo))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for repository %s: %w", repo, err)
	}
	r.repos.put(repo, struct{}{}, entryCost+int64(len(repo.String())))
	return true, nil
}

// creation is what makes the repository unless it exists. It is never unmade, so that
// what memory says of it needs no lock.
func (r *Registry) creation(ctx context.Context, repo origin.Repo) batch {
	if _, ok := r.repos.get(repo); ok {
		return nil
	}
	keep := func() {
		r.names.set(prefixRepos, item[struct{}]{key: repo.String()})
		r.repos.put(repo, struct{}{}, entryCost+int64(len(repo.String())))
	}
	return batch{{
		what:  fmt.Sprintf("repository %s", repo),
		write: store.Write{Key: keyRepo(repo), Data: []byte("{}"), If: store.Absent()},
		taken: func() error {
			keep()
			return nil
		},
		done: func() {
			r.log.InfoContext(ctx, "repository created", "repository", repo.String())
			keep()
		},
		failed: func() { r.names.forget(prefixRepos) },
	}}
}

// immutable reports whether the tag may name one manifest only.
func (r *Registry) immutable(tag string) bool {
	matches := func(re *regexp.Regexp) bool { return re.MatchString(tag) }
	return slices.ContainsFunc(r.opts.ImmutableTags, matches) && !slices.ContainsFunc(r.opts.ImmutableTagsExcept, matches)
}

// whole gives expressions that match where those given match the whole text.
func whole(res []*regexp.Regexp) ([]*regexp.Regexp, error) {
	var anchored []*regexp.Regexp
	for _, re := range res {
		a, err := regexp.Compile(`\A(?:` + re.String() + `)\z`)
		if err != nil {
			return nil, fmt.Errorf("local registry: tag pattern: %w", err)
		}
		anchored = append(anchored, a)
	}
	return anchored, nil
}
