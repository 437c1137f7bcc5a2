package lifetime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Named gives what clients have a repository name. It reads the store.
type Named interface {
	// Manifests gives what each manifest says that clients have pushed to a repository.
	// After ErrDamaged, which is of one of them, it goes on. Errors: ErrDamaged.
	Manifests(ctx context.Context, repo origin.Repo) iter.Seq2[origin.Pushed, error]
	// Links lists the blobs that a repository links.
	Links(ctx context.Context, repo origin.Repo) iter.Seq2[digest.Digest, error]
	// Link reads a link, as [origin.Inventory] does. Errors: ErrBlobUnknown.
	Link(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Link, error)
	// Holds describes a blob that the store has, whoever links it. Errors: ErrBlobUnknown.
	Holds(ctx context.Context, d digest.Digest) (origin.Descriptor, error)
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
	epoch atomic.Int64 // each begins with other quotas
}

var _ origin.Registry = (*Quota)(nil)

// NewQuota puts quotas before a registry. All that is not pushed passes.
func NewQuota(r origin.Registry, n Named, o QuotaOptions) *Quota {
	return &Quota{Registry: r, named: n, opts: o, counts: &counts{repos: map[origin.Repo]*usage{}}}
}

// With puts other quotas before a registry that has what q's has. What is being pushed
// through either counts in both; what is named is counted anew, for where q had no quota it
// has not followed. It waits for nobody who is counting.
func (q *Quota) With(r origin.Registry, o QuotaOptions) *Quota {
	q.epoch.Add(1)
	return &Quota{Registry: r, named: q.named, opts: o, counts: q.counts}
}

// usage is what a repository names.
type usage struct {
	mu      sync.Mutex
	named   map[digest.Digest]int64    // nil: not counted
	counted time.Time                  // when
	epoch   int64                      // and in which
	pending map[digest.Digest]*pending // pushed, or being pushed, and not named yet
}

// pending is a blob that no manifest names yet.
type pending struct {
	size   int64     // of what came
	at     time.Time // when; zero: it has not come
	claims []int64   // what pushes say that are under way
}

// bytes is how much it counts: the most that anybody says, until it shows who is right.
func (p *pending) bytes() int64 {
	most := p.size
	for _, n := range p.claims {
		most = max(most, n)
	}
	return most
}

// lasting is how long it is believed what was counted where others push too.
const lasting = 10 * time.Second

// stale reports whether what was counted is to be counted again. What nobody names lapses
// after the grace, and by then something may name it that was pushed before it.
func (q *Quota) stale(u *usage) bool {
	age := time.Since(u.counted)
	return u.named == nil || u.epoch != q.epoch.Load() || age > q.opts.Grace || q.opts.Shared && age > lasting
}

// limit is what a repository has, and may have. usage is nil where it has no quota.
type limit struct {
	usage *usage
	repo  origin.Repo // by its full name
	quota int64
}

func (q *Quota) limit(ctx context.Context, repo origin.Repo) (limit, error) {
	full, err := q.opts.Full(ctx, repo)
	if err != nil {
		return limit{}, err
	}
	quota := q.opts.Quota(full)
	if quota == 0 {
		return limit{}, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.repos[full]
	if u == nil {
		u = &usage{pending: map[digest.Digest]*pending{}}
		q.repos[full] = u
	}
	return limit{u, full, quota}, nil
}

// reserve counts blobs to a repository while they are being pushed, whose sizes are what
// the pusher says. Errors: ErrDenied.
func (q *Quota) reserve(ctx context.Context, l limit, blobs map[digest.Digest]int64) (*claim, error) {
	u := l.usage
	if u == nil {
		return &claim{}, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	fresh := q.stale(u)
	if fresh {
		if err := q.count(ctx, l.repo, u); err != nil {
			return nil, err
		}
	}
	used, more := u.sum(q.opts.Grace, blobs)
	if origin.AddSizes(used, more) > l.quota && more > 0 && !fresh {
		if err := q.count(ctx, l.repo, u); err != nil {
			return nil, err
		}
		used, more = u.sum(q.opts.Grace, blobs)
	}
	if origin.AddSizes(used, more) > l.quota && more > 0 {
		return nil, origin.Errorf(origin.ErrDenied, "the quota of %s is %d bytes (%s): %d are in use (%s), and this takes %d more", l.repo, l.quota, size(l.quota), used, size(used), more)
	}
	for d, n := range blobs {
		p := u.pending[d]
		if p == nil {
			p = &pending{}
			u.pending[d] = p
		}
		p.claims = append(p.claims, n)
	}
	return &claim{u, blobs}, nil
}

// claim is what a push says that it brings, until that push has come to its end. One of a
// repository without a quota has no usage, nor has one that has ended.
type claim struct {
	usage *usage
	blobs map[digest.Digest]int64
}

// drop ends the claim of a push that failed: what others say of the same blobs, and what
// came of them before, counts as it did. It is a no-op if the claim has ended: defer it.
func (c *claim) drop() { c.end(func(digest.Digest, int64, *pending) {}) }

// came ends the claim of a push that showed it to be true.
func (c *claim) came() {
	c.end(func(_ digest.Digest, n int64, p *pending) { p.size, p.at = n, time.Now() })
}

// named ends that of a manifest, which is there now.
func (c *claim) named() {
	u := c.usage
	c.end(func(d digest.Digest, n int64, p *pending) {
		u.named[d] = n
		p.size, p.at = 0, time.Time{}
	})
}

func (c *claim) end(with func(d digest.Digest, n int64, p *pending)) {
	u := c.usage
	if u == nil {
		return
	}
	c.usage = nil
	u.mu.Lock()
	defer u.mu.Unlock()
	for d, n := range c.blobs {
		p := u.pending[d]
		i := slices.Index(p.claims, n)
		p.claims = slices.Delete(p.claims, i, i+1)
		with(d, n, p)
		if len(p.claims) == 0 && p.at.IsZero() {
			delete(u.pending, d)
		}
	}
}

// sum gives the bytes that are in use, and those that blobs add; u.mu is held.
func (u *usage) sum(grace time.Duration, blobs map[digest.Digest]int64) (used, more int64) {
	for _, n := range u.named {
		used = origin.AddSizes(used, n)
	}
	for d, p := range u.pending {
		_, named := u.named[d]
		if named || time.Since(p.at) > grace {
			p.size, p.at = 0, time.Time{}
		}
		switch {
		case len(p.claims) == 0 && p.at.IsZero():
			delete(u.pending, d)
		case !named:
			used = origin.AddSizes(used, p.bytes())
		}
	}
	for d, n := range blobs {
		if _, named := u.named[d]; named {
			continue
		}
		if p := u.pending[d]; p != nil {
			n -= p.bytes()
		}
		more = origin.AddSizes(more, max(n, 0))
	}
	return used, more
}

// count reads what a repository names; u.mu is held.
func (q *Quota) count(ctx context.Context, repo origin.Repo, u *usage) error {
	epoch, named, loose := q.epoch.Load(), map[digest.Digest]int64{}, newLoose()
	for c, err := range q.named.Manifests(ctx, repo) {
		if errors.Is(err, origin.ErrDamaged) {
			continue // what it names is not known until it is pushed again, which must not wait for that
		}
		if err == nil {
			err = q.gather(ctx, repo, c, named, loose)
		}
		if err != nil {
			return fmt.Errorf("count what %s names: %w", repo, err)
		}
	}
	if err := q.find(ctx, repo, loose, named); err != nil {
		return fmt.Errorf("count what %s names: %w", repo, err)
	}
	u.named, u.counted, u.epoch = named, time.Now(), epoch
	return nil
}

// oneByOne is how many loose blobs are looked for one by one: half a second in a bucket. Of more
// their repository's links are listed, by a thousand.
const oneByOne = 100

// loose are blobs that may be in a repository, or not: layers with URLs, and those of what came
// through a mirror, about which a manifest may say what it likes; and what an index names that
// is no manifest that we know, which may have been pushed as a blob, or as a manifest. Who makes
// them up does so at no cost, so no more of them are kept, or looked for, than are linked.
type loose struct {
	blobs map[digest.Digest]struct{}
	links *table[struct{}] // nil: not listed
}

func newLoose() *loose { return &loose{blobs: map[digest.Digest]struct{}{}} }

func (l *loose) add(d digest.Digest) {
	if l.links == nil || l.links.find(keyOf(d)) != nil {
		l.blobs[d] = struct{}{}
	}
}

// gather gathers the blobs that a manifest could not be pushed without, and was held to the
// sizes of; and loose ones.
func (q *Quota) gather(ctx context.Context, repo origin.Repo, c origin.Pushed, sizes map[digest.Digest]int64, l *loose) error {
	for _, b := range c.Blobs {
		if c.Sparse || len(b.URLs) > 0 {
			l.add(b.Digest)
			continue
		}
		sizes[b.Digest] = b.Size
	}
	for _, m := range c.Manifests {
		if !slices.Contains(origin.ManifestTypes(), m.MediaType) {
			l.add(m.Digest)
		}
	}
	if l.links != nil || len(l.blobs) <= oneByOne {
		return nil
	}
	links := &table[struct{}]{}
	for d, err := range q.named.Links(ctx, repo) {
		if err != nil {
			return err
		}
		links.add(keyOf(d), struct{}{})
	}
	links.seal(func(struct{}, struct{}) bool { return false })
	l.links = links
	maps.DeleteFunc(l.blobs, func(d digest.Digest, _ struct{}) bool { return links.find(keyOf(d)) == nil })
	return nil
}

// find adds the sizes of those loose blobs that a repository has.
func (q *Quota) find(ctx context.Context, repo origin.Repo, l *loose, sizes map[digest.Digest]int64) error {
	for d := range l.blobs {
		if _, ok := sizes[d]; ok {
			continue
		}
		link, err := q.named.Link(ctx, repo, d)
		if origin.Unknown(err) || err == nil && link.Mirrored {
			continue
		}
		var is origin.Descriptor
		if err == nil || errors.Is(err, origin.ErrDamaged) { // then it is a link all the same
			is, err = q.named.Holds(ctx, d)
		}
		switch {
		case err == nil:
			sizes[d] = is.Size
		case !origin.Unknown(err) && !errors.Is(err, origin.ErrDamaged):
			return err
		}
	}
	return nil
}

// Push implements origin.Writer. What a manifest names counts from then on.
func (q *Quota) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	c, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return q.Registry.Push(ctx, repo, m, o) // it is refused there, for a better reason
	}
	l, err := q.limit(ctx, repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if l.usage == nil {
		return q.Registry.Push(ctx, repo, m, o)
	}
	blobs, loose := map[digest.Digest]int64{}, newLoose()
	err = q.gather(ctx, l.repo, origin.Pushed{Content: c}, blobs, loose)
	if err == nil {
		err = q.find(ctx, l.repo, loose, blobs)
	}
	if err != nil {
		return origin.Descriptor{}, fmt.Errorf("measure what a manifest of %s names: %w", l.repo, err)
	}
	claim, err := q.reserve(ctx, l, blobs)
	if err != nil {
		return origin.Descriptor{}, err
	}
	defer claim.drop()
	d, err := q.Registry.Push(ctx, repo, m, o)
	if err == nil {
		claim.named()
	}
	return d, err
}

// Mount implements origin.Writer.
func (q *Quota) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	desc, err := q.Registry.Mount(ctx, from, to, d)
	if err != nil {
		return desc, err
	}
	l, err := q.limit(ctx, to)
	if err != nil {
		return origin.Descriptor{}, err
	}
	// How large it is is not known before. A link that is refused lapses as all do.
	claim, err := q.reserve(ctx, l, map[digest.Digest]int64{d: desc.Size})
	if err != nil {
		return origin.Descriptor{}, err
	}
	claim.came()
	return desc, nil
}

// Upload implements origin.Writer.
func (q *Quota) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	l, err := q.limit(ctx, repo)
	if err != nil {
		return nil, err
	}
	in, err := q.Registry.Upload(ctx, repo, id, alg)
	if err != nil || l.usage == nil {
		return in, err
	}
	return &quotaIngest{in, ctx, q, l}, nil
}

// quotaIngest is an upload to a repository that has a quota.
type quotaIngest struct {
	store.Ingest
	ctx   context.Context // of the request whose bytes they are
	q     *Quota
	limit limit
}

// Write implements io.Writer. An upload that can never fit is dropped before all of it has
// come.
func (in *quotaIngest) Write(p []byte) (int, error) {
	if n := in.Size() + int64(len(p)); n > in.limit.quota {
		_ = in.Cancel()                                                          // it expires, if not
		_, err := in.q.reserve(in.ctx, in.limit, map[digest.Digest]int64{"": n}) // more than all of it is never had
		return 0, err
	}
	return in.Ingest.Write(p)
}

// Commit implements store.Ingest. What is refused leaves nothing.
func (in *quotaIngest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	claim, err := in.q.reserve(ctx, in.limit, map[digest.Digest]int64{d: in.Size()})
	if err != nil {
		_ = in.Cancel() // it expires, if not
		return store.Info{}, err
	}
	defer claim.drop()
	info, err := in.Ingest.Commit(ctx, d)
	if err == nil {
		claim.came()
	}
	return info, err
}
