package evict

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// Reserve makes room for a blob of size bytes that is about to be fetched (-1: not
// known, which needs none), until Release. What leaves for it is removed behind the
// caller's back. Errors: ErrNoRoom; then nothing leaves.
func (c *Cache) Reserve(d digest.Digest, size int64) error {
	if c == nil || size <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if over := c.over(size); over > 0 {
		if !c.loaded || over > c.evictable() {
			return ErrNoRoom
		}
		c.choose(over)
	}
	c.reserved[keyOf(d)] += size
	c.coming += size
	return nil
}

// Wait waits until what was chosen to leave has left, as far as it exceeds the budget
// together with what is stored, or ctx ends. Fills that come faster than blobs can be
// removed are held up by it.
func (c *Cache) Wait(ctx context.Context) {
	if c == nil {
		return
	}
	for {
		c.mu.Lock()
		if !c.behind() {
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

// behind reports whether the budget is exceeded by what is leaving. c.mu is held.
func (c *Cache) behind() bool {
	if c.leaving == 0 {
		return false
	}
	if c.opts.MaxSize > 0 && c.table.bytes+c.leaving > c.opts.MaxSize {
		return true
	}
	if c.opts.MinFree == nil || c.opts.Space == nil {
		return false
	}
	free, total, err := c.opts.Space()
	return err == nil && free < c.opts.MinFree(total)
}

// Release gives back what was reserved and not stored.
func (c *Cache) Release(d digest.Digest, size int64) {
	if c == nil || size <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unreserve(keyOf(d), size)
}

func (c *Cache) unreserve(k key, size int64) {
	size = min(size, c.reserved[k])
	c.coming -= size
	if c.reserved[k] -= size; c.reserved[k] == 0 {
		delete(c.reserved, k)
	}
}

// over gives by how many bytes the budget would be exceeded with n bytes more, when all
// that comes has come and all that leaves has left. c.mu is held.
//
// What comes counts as if nothing of it were on the disk yet: with running fills a
// little more stays free than must.
func (c *Cache) over(n int64) (over int64) {
	if c.opts.MaxSize > 0 {
		over = c.table.bytes + c.coming + n - c.opts.MaxSize
	}
	if c.opts.MinFree == nil || c.opts.Space == nil {
		return over
	}
	free, total, err := c.opts.Space()
	if err != nil {
		return over // whoever writes finds out
	}
	return max(over, c.opts.MinFree(total)-(free+c.leaving-c.coming-n))
}

// evictable gives how many bytes could leave. c.mu is held.
func (c *Cache) evictable() int64 {
	n := c.table.bytes
	for k := range c.readers {
		if i, ok := c.table.byKey[k]; ok {
			n -= c.table.blobs.at(i).size
		}
	}
	return n
}

// trim lets as much leave as exceeds the budget. c.mu is held.
func (c *Cache) trim() {
	if !c.loaded {
		return
	}
	if over := c.over(0); over > 0 {
		c.choose(over)
	}
}

// choose lets n bytes leave, or as many as can: images that were used least recently,
// as a whole. From one that somebody reads of only what nobody reads leaves, and only
// if all others are not enough. c.mu is held.
func (c *Cache) choose(n int64) {
	for _, inUse := range []bool{false, true} {
		for g := c.table.oldest; g != 0 && n > 0; {
			newer := c.table.images.at(g).newer
			if c.read(g) == inUse {
				n -= c.dismiss(g)
			}
			g = newer
		}
	}
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
}

// read reports whether somebody reads of an image.
func (c *Cache) read(g uint32) bool {
	if len(c.readers) == 0 {
		return false
	}
	for i := c.table.images.at(g).first; i != 0; i = c.table.blobs.at(i).next {
		if c.readers[c.table.blobs.at(i).key] > 0 {
			return true
		}
	}
	return false
}

// dismiss queues what nobody reads of an image for removal, and gives its size.
func (c *Cache) dismiss(g uint32) (size int64) {
	for i := c.table.images.at(g).first; i != 0; {
		b := *c.table.blobs.at(i)
		i = b.next
		if c.readers[b.key] > 0 {
			continue
		}
		c.queue = append(c.queue, removal{c.table.digest(b.key), b.size})
		c.dirty[shardOf(b.key)] = true
		c.table.remove(b.key)
		c.leaving += b.size
		size += b.size
	}
	return size
}

// removeAll removes what is queued.
func (c *Cache) removeAll(ctx context.Context) {
	var removing errgroup.Group
	removing.SetLimit(removers)
	for {
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, r := range queue {
			removing.Go(func() error {
				c.remove(ctx, r)
				return nil
			})
		}
		_ = removing.Wait() // none of them fails
		if len(queue) == 0 {
			return
		}
	}
}

// remove removes one blob. One that somebody came to read meanwhile stays, and is young
// again; as is one that could not be removed, so that others are tried first.
func (c *Cache) remove(ctx context.Context, r removal) {
	k := keyOf(r.digest)
	c.mu.Lock()
	read := c.readers[k] > 0
	c.mu.Unlock()
	err := origin.ErrBusy
	if !read {
		err = c.store.Evict(ctx, r.digest)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving -= r.size
	if c.removed != nil {
		close(c.removed)
		c.removed = nil
	}
	switch {
	case err == nil:
		c.opts.Meter.CacheEvicted(r.size)
	case origin.Unknown(err), errors.Is(err, origin.ErrPushed):
	default:
		c.add(r.digest, r.size)
		if !errors.Is(err, origin.ErrBusy) && ctx.Err() == nil {
			c.opts.Log.Error("blob not evicted", "digest", r.digest.String(), "error", err)
		}
	}
	c.tell()
}
