package lifetime

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Named gives the manifests that clients have pushed to a repository, and what they say.
// It reads the store.
type Named interface {
	Manifests(ctx context.Context, repo origin.Repo) iter.Seq2[origin.Described, error]
}

// QuotaOptions say how much a repository may name.
type QuotaOptions struct {
	// Quota gives a repository's in bytes; 0: it has none.
	Quota func(repo origin.Repo) int64
	// Full gives the full name of a repository that is pushed to.
	Full func(ctx context.Context, repo origin.Repo) (origin.Repo, error)
	// Grace is how long a blob counts that was pushed and that no manifest names yet.
	Grace time.Duration
	// Shared says that other processes use the store too: what was counted is counted
	// again after some seconds.
	Shared bool
}

// Quota refuses what would have a repository name more bytes of distinct blobs than it may.
// A refusal is always by what the store has now.
type Quota struct {
	origin.Registry
	named Named
	opts  QuotaOptions
	*counts
}

// counts are what repositories use.
type counts struct {
	mu    sync.Mutex
	repos map[origin.Repo]*usage
}

var _ origin.Registry = (*Quota)(nil)

// NewQuota puts quotas before a registry. All that is not pushed passes.
func NewQuota(r origin.Registry, n Named, o QuotaOptions) *Quota {
	return &Quota{Registry: r, named: n, opts: o, counts: &counts{repos: map[origin.Repo]*usage{}}}
}

// With puts other quotas before a registry that has what q's has. What is being pushed
// through either counts in both; what is named is counted anew, for where q had no quota it
// has not followed.
func (q *Quota) With(r origin.Registry, o QuotaOptions) *Quota {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range q.repos {
		u.mu.Lock()
		u.named = nil
		u.mu.Unlock()
	}
	return &Quota{Registry: r, named: q.named, opts: o, counts: q.counts}
}

// usage is what a repository names.
type usage struct {
	mu      sync.Mutex
	named   map[digest.Digest]int64   // nil: not counted
	counted time.Time                 // when
	pending map[digest.Digest]pending // pushed, and not named yet
}

type pending struct {
	size int64
	at   time.Time
}

// lasting is how long it is believed what was counted where others push too.
const lasting = 10 * time.Second

// usage gives that of a repository that has a quota; nil: it has none.
func (q *Quota) usage(ctx context.Context, repo origin.Repo) (u *usage, full origin.Repo, quota int64, err error) {
	if full, err = q.opts.Full(ctx, repo); err != nil {
		return nil, full, 0, err
	}
	if quota = q.opts.Quota(full); quota == 0 {
		return nil, full, 0, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if u = q.repos[full]; u == nil {
		u = &usage{pending: map[digest.Digest]pending{}}
		q.repos[full] = u
	}
	return u, full, quota, nil
}

// reserve counts blobs to a repository, and gives what takes that back. What others
// reserve meanwhile counts, too. Errors: ErrDenied.
func (q *Quota) reserve(ctx context.Context, repo origin.Repo, blobs map[digest.Digest]int64) (back func(), err error) {
	u, full, quota, err := q.usage(ctx, repo)
	if err != nil || u == nil {
		return func() {}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	fresh := false
	if u.named == nil || q.opts.Shared && time.Since(u.counted) > lasting {
		fresh = true
		if err := q.count(ctx, full, u); err != nil {
			return nil, err
		}
	}
	used, more := u.sum(q.opts.Grace, blobs)
	if used+more > quota && more > 0 && !fresh {
		if err := q.count(ctx, full, u); err != nil {
			return nil, err
		}
		used, more = u.sum(q.opts.Grace, blobs)
	}
	if used+more > quota && more > 0 {
		return nil, origin.Errorf(origin.ErrDenied, "the quota of %s is %d bytes (%s): %d are in use (%s), and this takes %d more", full, quota, size(quota), used, size(used), more)
	}
	var added []digest.Digest
	for d, n := range blobs {
		if _, ok := u.pending[d]; !ok {
			added = append(added, d)
		}
		u.pending[d] = pending{n, time.Now()}
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, d := range added {
			delete(u.pending, d)
		}
	}, nil
}

// sum gives the bytes that are in use, and those that blobs add; u.mu is held.
func (u *usage) sum(grace time.Duration, blobs map[digest.Digest]int64) (used, more int64) {
	for _, n := range u.named {
		used += n
	}
	for d, p := range u.pending {
		_, named := u.named[d]
		switch {
		case named, time.Since(p.at) > grace:
			delete(u.pending, d)
		default:
			used += p.size
		}
	}
	for d, n := range blobs {
		_, named := u.named[d]
		if _, is := u.pending[d]; !is && !named {
			more += n
		}
	}
	return used, more
}

// count reads what a repository names; u.mu is held.
func (q *Quota) count(ctx context.Context, repo origin.Repo, u *usage) error {
	named := map[digest.Digest]int64{}
	for m, err := range q.named.Manifests(ctx, repo) {
		if err != nil {
			return fmt.Errorf("count what %s names: %w", repo, err)
		}
		for i, d := range m.Blobs {
			named[d] = m.Sizes[i]
		}
	}
	u.named, u.counted = named, time.Now()
	return nil
}

// Push implements origin.Writer. What a manifest names counts from then on.
func (q *Quota) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	c, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return q.Registry.Push(ctx, repo, m, o) // it is refused there, for a better reason
	}
	blobs := map[digest.Digest]int64{}
	for _, b := range c.Blobs {
		if len(b.URLs) == 0 {
			blobs[b.Digest] = b.Size
		}
	}
	back, err := q.reserve(ctx, repo, blobs)
	if err != nil {
		return origin.Descriptor{}, err
	}
	d, err := q.Registry.Push(ctx, repo, m, o)
	if err != nil {
		back()
		return d, err
	}
	u, _, _, err := q.usage(ctx, repo)
	if err != nil || u == nil {
		return d, nil // it was pushed, and is counted when the next one comes
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for digest, n := range blobs {
		if u.named != nil {
			u.named[digest] = n
		}
	}
	return d, nil
}

// Mount implements origin.Writer.
func (q *Quota) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	desc, err := q.Registry.Mount(ctx, from, to, d)
	if err != nil {
		return desc, err
	}
	// How large it is is not known before. A link that is refused lapses as all do.
	if _, err := q.reserve(ctx, to, map[digest.Digest]int64{d: desc.Size}); err != nil {
		return origin.Descriptor{}, err
	}
	return desc, nil
}

// Upload implements origin.Writer.
func (q *Quota) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	u, _, quota, err := q.usage(ctx, repo)
	if err != nil {
		return nil, err
	}
	in, err := q.Registry.Upload(ctx, repo, id, alg)
	if err != nil || u == nil {
		return in, err
	}
	return &quotaIngest{in, ctx, q, repo, quota}, nil
}

// quotaIngest is an upload to a repository that has a quota.
type quotaIngest struct {
	store.Ingest
	ctx   context.Context // of the request whose bytes they are
	q     *Quota
	repo  origin.Repo
	quota int64
}

// Write implements io.Writer. An upload that can never fit is dropped before all of it has
// come.
func (in *quotaIngest) Write(p []byte) (int, error) {
	if n := in.Size() + int64(len(p)); n > in.quota {
		_ = in.Cancel()                                                         // it expires, if not
		_, err := in.q.reserve(in.ctx, in.repo, map[digest.Digest]int64{"": n}) // more than all of it is never had
		return 0, err
	}
	return in.Ingest.Write(p)
}

// Commit implements store.Ingest. What is refused leaves nothing.
func (in *quotaIngest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	back, err := in.q.reserve(ctx, in.repo, map[digest.Digest]int64{d: in.Size()})
	if err != nil {
		_ = in.Cancel() // it expires, if not
		return store.Info{}, err
	}
	info, err := in.Ingest.Commit(ctx, d)
	if err != nil {
		back()
	}
	return info, err
}
