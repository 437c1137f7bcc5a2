package evict

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// content is a blob in a repository.
type content struct {
	repo uint32
	key  key
}

// reservation is of how many bytes, and how many of them are fetched.
type reservation struct{ size, fetched int64 }

// removal is a blob that is to be removed: from everywhere, or from one of some repositories.
type removal struct {
	digest digest.Digest
	size   int64
	repos  []uint32 // that are to lose it, as far as it is known
	some   bool     // others are to have it
	from   origin.Repo
}

// Reserve makes room for a blob of size bytes that is about to be fetched for a repository
// (-1: not known, which needs none), until Release. What leaves for it is removed behind
// the caller's back. Errors: ErrNoRoom, ErrFull and ErrUnlisted; then nothing leaves.
func (c *Cache) Reserve(repo origin.Repo, d digest.Digest, size int64) error {
	if c == nil || size <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, r := c.repository(repo)
	short := c.short(size)
	over, within := max(c.beyond(size), short), r.over(size)
	switch {
	case c.opts.MaxSize > 0 && size > c.opts.MaxSize:
		return ErrNoRoom
	case r.quota > 0 && size > r.quota:
		return r.full()
	case c.started && !c.loaded && (over > 0 || c.opts.MaxSize > 0 || r.quota > 0):
		return ErrUnlisted
	}
	if over > 0 || within > 0 {
		if within > 0 && within > r.pool.bytes-c.inUse(r.pool) {
			return r.full()
		}
		if c.loaded && short-c.coming > c.table.bytes {
			return ErrFull
		}
		if !c.loaded || over > 0 && over > c.table.bytes-c.inUse(nil) {
			return ErrNoRoom
		}
		switch {
		case c.may():
			c.chooseFrom(n, within)
			c.choose(c.over(size)) // the less the more has just left
		case !c.led(),
			over > 0 && c.table.bytes+c.coming+size > c.most(c.opts.MaxSize),
			within > 0 && r.pool.bytes+r.coming+size > c.most(r.quota):
			return ErrNoRoom
		}
	}
	k := content{n, keyOf(d)}
	is := c.reserved[k]
	is.size += size
	c.reserved[k] = is
	r.coming += size
	c.coming += size
	return nil
}

// Fetched takes note that a blob of size bytes, for which that was reserved, is fetched, and
// is being stored: it takes room now, and nobody waits for it any more.
func (c *Cache) Fetched(repo origin.Repo, d digest.Digest, size int64) {
	if c == nil || size <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, r := c.repository(repo)
	k := content{n, keyOf(d)}
	is := c.reserved[k]
	size = min(size, is.size-is.fetched)
	if size == 0 {
		return
	}
	is.fetched += size
	c.reserved[k] = is
	r.storing += size
	c.storing += size
}

// Wait waits until what was chosen to leave has left, as far as it exceeds the budget or the
// repository's quota together with what is stored or fetched, or ctx ends. Fills that come
// faster than blobs can be removed are held up by it.
func (c *Cache) Wait(ctx context.Context, repo origin.Repo) {
	if c == nil {
		return
	}
	for {
		c.mu.Lock()
		if r := c.repos.list[c.repos.numbers[repo]]; !c.behind(r) {
			c.mu.Unlock()
			return
		}
		if c.removed == nil {
			c.removed = make(chan struct{})
		}
		removed := c.removed
		c.mu.Unlock()
		select {
		case <-removed:
		case <-ctx.Done():
			return
		}
	}
}

// Listed waits until it is known what there is, or that is not to be known soon, or ctx ends.
func (c *Cache) Listed(ctx context.Context) {
	if c == nil {
		return
	}
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if !started {
		return
	}
	select {
	case <-c.known:
	case <-ctx.Done():
	}
}

// behind reports whether the budget or r's quota is exceeded by what is leaving. c.mu is held.
func (c *Cache) behind(r *repository) bool {
	if r.quota > 0 && r.leaving > 0 && r.pool.bytes+r.storing+r.leaving > c.most(r.quota) {
		return true
	}
	if c.leaving == 0 {
		return false
	}
	if c.opts.MaxSize > 0 && c.table.bytes+c.storing+c.leaving > c.most(c.opts.MaxSize) {
		return true
	}
	if c.opts.MinFree == nil || c.opts.Space == nil {
		return false
	}
	free, total, err := c.opts.Space()
	return err == nil && free < c.opts.MinFree(total)
}

// most is how many bytes may be stored, those included that are leaving, before fills are
// held up by a limit: with other caches, to whom what leaves is announced first, it is more.
func (c *Cache) most(limit int64) int64 {
	if c.share != nil {
		return limit + limit/8
	}
	return limit
}

// Release gives back what was reserved and not stored.
func (c *Cache) Release(repo origin.Repo, d digest.Digest, size int64) {
	if c == nil || size <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, _ := c.repository(repo)
	c.unreserve(content{n, keyOf(d)}, size)
}

func (c *Cache) unreserve(k content, size int64) {
	r, is := c.repos.list[k.repo], c.reserved[k]
	size = min(size, is.size)
	fetched := min(size, is.fetched)
	is.size -= size
	is.fetched -= fetched
	c.coming -= size
	c.storing -= fetched
	r.coming -= size
	r.storing -= fetched
	if c.reserved[k] = is; is.size == 0 {
		delete(c.reserved, k)
	}
}

// over gives by how many bytes the budget would be exceeded with n bytes more, when all
// that comes has come and all that leaves has left. c.mu is held.
//
// What comes counts as if nothing of it were on the disk yet: with running fills a
// little more stays free than must.
func (c *Cache) over(n int64) int64 { return max(c.beyond(n), c.short(n)) }

// beyond is over for the budget's size.
func (c *Cache) beyond(n int64) int64 {
	if c.opts.MaxSize <= 0 {
		return 0
	}
	return c.table.bytes + c.coming + n - c.opts.MaxSize
}

// short is over for what is to stay free of the disk.
func (c *Cache) short(n int64) int64 {
	if c.opts.MinFree == nil || c.opts.Space == nil {
		return 0
	}
	free, total, err := c.opts.Space()
	if err != nil {
		return 0 // whoever writes finds out
	}
	return c.opts.MinFree(total) - (free + c.leaving - c.coming - n)
}

// inUse gives how many bytes of a pool, or of all if that is nil, are read, and cannot leave.
// c.mu is held.
func (c *Cache) inUse(p *pool) (n int64) {
	for k := range c.readers {
		i, ok := c.table.find(k)
		if ok && (p == nil || p.has(i)) {
			n += c.table.blobs.at(i).size
		}
	}
	return n
}

// trim lets as much leave as exceeds the quotas and the budget. c.mu is held.
func (c *Cache) trim() {
	if !c.loaded || !c.may() {
		return
	}
	for n, r := range c.repos.list {
		c.chooseFrom(uint32(n), r.over(0))
	}
	c.choose(c.over(0))
}

// choose lets n bytes leave, or as many as can. c.mu is held.
func (c *Cache) choose(n int64) { c.chooseOf(&c.table.order, n, c.dismiss) }

// chooseFrom lets n bytes leave a repository that has a quota. c.mu is held.
func (c *Cache) chooseFrom(repo uint32, n int64) {
	if p := c.repos.list[repo].pool; p != nil {
		c.chooseOf(&p.order, n, func(g uint32) int64 { return c.dismissFrom(repo, g) })
	}
}

// chooseOf dismisses n bytes of an order, or as many as can be: images that were used least
// recently, as a whole. From one that somebody reads of only what nobody reads leaves, and
// only if all others are not enough. c.mu is held.
func (c *Cache) chooseOf(o *order, n int64, dismiss func(g uint32) int64) {
	if n <= 0 {
		return
	}
	for _, inUse := range []bool{false, true} {
		for g := o.oldest; g != 0 && n > 0; {
			newer := o.images.at(g).newer
			if c.read(o, g) == inUse {
				n -= dismiss(g)
			}
			g = newer
		}
	}
	signal(c.wake)
}

// signal wakes whoever waits for it, or is about to.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default: // it is awake
	}
}

// read reports whether somebody reads of an image.
func (c *Cache) read(o *order, g uint32) bool {
	if len(c.readers) == 0 {
		return false
	}
	for i := range o.of(g) {
		if c.readers[c.table.blobs.at(o.blob(i)).key] > 0 {
			return true
		}
	}
	return false
}

// dismiss queues what nobody reads of an image for removal, and gives its size.
func (c *Cache) dismiss(g uint32) (size int64) {
	for i := range c.table.of(g) {
		b := *c.table.blobs.at(i)
		if c.readers[b.key] > 0 {
			continue
		}
		c.expel(b.key)
		size += b.size
	}
	return size
}

// removeEach removes what is queued, until ctx ends.
func (c *Cache) removeEach(ctx context.Context) {
	var removing errgroup.Group
	removing.SetLimit(removers)
	if c.share != nil {
		removing.SetLimit(many)
	}
	defer func() { _ = removing.Wait() }() // none of them fails
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, r := range queue {
			removing.Go(func() error {
				c.takeOut(ctx, r)
				return nil
			})
		}
	}
}

// takeOut removes one blob. One that somebody came to read meanwhile stays, and is young
// again; as is one that could not be removed, so that others are tried first.
func (c *Cache) takeOut(ctx context.Context, r removal) {
	k := keyOf(r.digest)
	c.mu.Lock()
	read := c.readers[k] > 0 || ctx.Err() != nil
	if !read && !r.some {
		c.goes(k)
	}
	c.mu.Unlock()
	err := origin.ErrBusy
	switch {
	case read:
	case r.some:
		err = c.store.EvictFrom(ctx, r.from, r.digest)
	default:
		err = c.store.Evict(ctx, r.digest)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, repo := range r.repos {
		c.repos.list[repo].leaving -= r.size
	}
	if c.removed != nil {
		close(c.removed)
		c.removed = nil
	}
	if r.some {
		c.leftSome(k, r, err)
	} else {
		c.leaving -= r.size
		c.stays(k)
		c.left(k, r, err)
	}
	if err != nil && !origin.Unknown(err) && ctx.Err() == nil &&
		!errors.Is(err, origin.ErrPushed) && !errors.Is(err, origin.ErrBusy) && !errors.Is(err, origin.ErrOnly) {
		c.opts.Log.Error("blob not evicted", "digest", r.digest.String(), "error", err)
	}
	c.tell()
}

// left takes note of what became of a blob that was to leave. c.mu is held.
func (c *Cache) left(k key, r removal, err error) {
	switch {
	case err == nil:
		c.opts.Meter.CacheEvicted(r.size)
		if _, again := c.table.find(k); again {
			c.ask(r.digest)
		}
	case origin.Unknown(err), errors.Is(err, origin.ErrPushed):
	default:
		i := c.add(r.digest, r.size)
		for _, repo := range r.repos {
			c.link(i, repo)
		}
	}
}

// leftSome is left for a blob that was to leave one repository of several. c.mu is held.
func (c *Cache) leftSome(k key, r removal, err error) {
	i, ok := c.table.find(k)
	switch {
	case !ok, err == nil, origin.Unknown(err):
	case errors.Is(err, origin.ErrPushed):
		c.drop(r.digest)
	case errors.Is(err, origin.ErrOnly):
		c.expel(k) // the others have lost it without being heard of
		signal(c.wake)
	default:
		c.note(k)
		for _, repo := range r.repos {
			c.link(i, repo)
		}
	}
}
