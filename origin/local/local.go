package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
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
	// Grace is how long content that no manifest names stays after somebody has pushed it or
	// asked for it; 0 means that nobody collects garbage, so that no leases are kept.
	Grace time.Duration
	// Sole says that no other process writes to the store.
	Sole bool
	// ImmutableTags match tags (whole) that never name anything but what they were
	// first pushed with, except those that ImmutableTagsExcept match.
	ImmutableTags, ImmutableTagsExcept []*regexp.Regexp
	// Immutable reports of some repositories that more of their tags are such; nil: none are.
	Immutable func(repo origin.Repo, tag string) bool
	// RedirectTTL is how long an address of the store is good that a client is given for a
	// blob, where the store gives some (store.Presigner); 0: none is given.
	RedirectTTL time.Duration
	// Pushed is told of each blob that a client pushed, mounted or named in a manifest
	// and that may have been mirrored before; nil: nobody is. It calls nothing here.
	Pushed func(d digest.Digest)
	// Others tells what other processes write to the records; nil: there are none.
	Others Others
	// Journal writes down what clients push and delete; nil: nobody does.
	Journal origin.Journal
	// Watcher is told what those do to mirrored blobs; nil: nobody is.
	Watcher Watcher
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
	reliedBudget   = 4 << 20
)

// Registry is an [origin.Registry] over a store. It is also an [origin.Adopter], an
// [origin.Holder], an [origin.Keeper] and an [origin.Redirector]. All methods are safe for concurrent use.
//
// Where a repository does not exist, its manifests and blobs are unknown, and so
// are its tags (ErrNameUnknown).
type Registry struct {
	blobs   store.Blobs
	records store.Records
	opts    atomic.Pointer[Options] // what it points to does not change
	log     *slog.Logger

	// Lock order: manifestLocks, then tagLocks, then tagFills; removalLocks, then blobLocks, then
	// linkLocks. No one holds two locks of a set.
	manifestLocks *locks // by digest: the manifest's record, its referrer and the tags that it is pushed with
	tagLocks      *locks // by tag
	tagFills      *turns // by tag: who reads its record into memory
	linkLocks     *locks // by digest of the blob
	blobLocks     *locks // by digest alone: who links it holds it for reading, who evicts it for writing
	removalLocks  *locks // by digest alone: who removes it, so that removals give way to others only

	repos     *lru[origin.Repo, struct{}] // that exist; they never cease to
	manifests *lru[content, manifest]
	tags      *lru[tagKey, tagRecord]
	links     *lru[content, link]
	linkers   *linkers
	verdicts  *verdicts
	clock     clock // the store's

	condemnations *condemnations

	grants *grants
	relied *lru[content, time.Time] // manifests that were lately pushed or asked for by digest

	// By the prefix of their records.
	names     *indexes[struct{}] // the tags of a repository; the repositories
	referrers *indexes[referrer] // of a subject in a repository

	follower *follower // nil: nobody else writes

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

	_ origin.Inventory  = (*Registry)(nil)
	_ origin.Sweeper    = (*Registry)(nil)
	_ origin.Retirer    = (*Registry)(nil)
	_ origin.Scrubber   = (*Registry)(nil)
	_ origin.Redirector = (*Registry)(nil)
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

// New gives the registry that is kept in blobs and records. Nobody changes the records
// below "r" meanwhile that Options.Others does not tell of, or memory would not follow.
// Errors: an invalid option.
func New(blobs store.Blobs, records store.Records, opts Options) (*Registry, error) {
	checked, err := opts.check()
	if err != nil {
		return nil, err
	}
	r := &Registry{
		blobs:         blobs,
		records:       records,
		log:           opts.Logger,
		manifestLocks: newLocks(),
		tagLocks:      newLocks(),
		tagFills:      newTurns(),
		linkLocks:     newLocks(),
		blobLocks:     newLocks(),
		repos:         newLRU[origin.Repo, struct{}](repoBudget),
		manifests:     newLRU[content, manifest](manifestBudget),
		tags:          newLRU[tagKey, tagRecord](tagBudget),
		links:         newLRU[content, link](linkBudget),
		linkers:       newLinkers(),
		condemnations: newCondemnations(),
		verdicts:      newVerdicts(),
		grants:        newGrants(),
		relied:        newLRU[content, time.Time](reliedBudget),
	}
	if checked.Pushed == nil {
		checked.Pushed = func(digest.Digest) {}
	}
	if checked.Watcher == nil {
		checked.Watcher = noWatcher{}
	}
	r.opts.Store(checked)
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.removalLocks = r.blobLocks.twin()
	r.names = newIndexes(nameBudget, func(struct{}) int64 { return 0 }, r.loadNames)
	r.referrers = newIndexes(referrerBudget, referrer.cost, r.loadReferrers)
	if opts.Others != nil {
		r.follow(opts.Others)
	}
	return r, nil
}

// Configure has other options hold from now on, for running uploads too. Sole, Pushed,
// Others, Watcher, Journal and Logger are of the store and of the process: they stay as New was told.
// Errors: an invalid option; then all stays as it was.
func (r *Registry) Configure(opts Options) error {
	next, err := opts.check()
	if err != nil {
		return err
	}
	was := r.options()
	next.Sole, next.Pushed, next.Others, next.Watcher, next.Journal, next.Logger = was.Sole, was.Pushed, was.Others, was.Watcher, was.Journal, was.Logger
	r.opts.Store(next)
	return nil
}

// options are those that hold now. Whoever needs two of them that agree asks once.
func (r *Registry) options() *Options { return r.opts.Load() }

// check gives the options with their defaults. Errors: an invalid one.
func (o Options) check() (*Options, error) {
	if o.MaxManifestSize == 0 {
		o.MaxManifestSize = DefaultMaxManifestSize
	}
	if o.MaxManifestSize < 0 || o.MaxBlobSize < 0 || o.Grace < 0 || o.RedirectTTL < 0 {
		return nil, errors.New("local registry: negative limit")
	}
	var err error
	if o.ImmutableTags, err = whole(o.ImmutableTags); err != nil {
		return nil, err
	}
	if o.ImmutableTagsExcept, err = whole(o.ImmutableTagsExcept); err != nil {
		return nil, err
	}
	return &o, nil
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
	case err != nil && !errors.Is(err, errDamaged): // it says nothing but that it is there
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
func (r *Registry) immutable(repo origin.Repo, tag string) bool {
	matches := func(re *regexp.Regexp) bool { return re.MatchString(tag) }
	o := r.options()
	if o.Immutable != nil && o.Immutable(repo, tag) {
		return true
	}
	return slices.ContainsFunc(o.ImmutableTags, matches) && !slices.ContainsFunc(o.ImmutableTagsExcept, matches)
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
