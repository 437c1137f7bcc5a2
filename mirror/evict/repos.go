package evict

import (
	"fmt"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// repository is one that links blobs by a mirror's word. Those that did once are
// remembered.
type repository struct {
	name  origin.Repo
	quota int64 // bytes; 0: none
	pool  *pool // what it links; nil: it has no quota
	// as of the Cache, in bytes
	coming, storing, leaving int64
}

// full says that a repository has no room within its quota.
func (r *repository) full() error {
	return fmt.Errorf("%w: the quota of %s is %d bytes", ErrNoRoom, r.name, r.quota)
}

// linked is a link of a blob: the number of a repository, and the blob's next link.
type linked struct{ repo, next uint32 }

// repositories are who links what.
type repositories struct {
	numbers map[origin.Repo]uint32
	list    []*repository // by number; the one at 0 is none
	links   slab[linked]
	pools   pools
}

func newRepositories() repositories {
	return repositories{numbers: map[origin.Repo]uint32{}, list: []*repository{{}}}
}

// links gives the repositories of a chain of links.
func links(of *slab[linked], first uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for n := first; n != 0; {
			l := *of.at(n)
			if n = l.next; !yield(l.repo) {
				return
			}
		}
	}
}

// linkers gives the repositories that link a blob.
func (c *Cache) linkers(i uint32) iter.Seq[uint32] {
	return links(&c.repos.links, c.table.blobs.at(i).links)
}

// repository gives a repository, which is known from now on. c.mu is held.
func (c *Cache) repository(repo origin.Repo) (number uint32, r *repository) {
	n, ok := c.repos.numbers[repo]
	if !ok {
		n = uint32(len(c.repos.list))
		c.repos.numbers[repo] = n
		r = &repository{name: repo, quota: c.quota(repo)}
		if r.quota > 0 {
			r.pool = newPool(&c.repos.pools)
		}
		c.repos.list = append(c.repos.list, r)
	}
	return n, c.repos.list[n]
}

func (c *Cache) quota(repo origin.Repo) int64 {
	if c.opts.Quota == nil {
		return 0
	}
	return c.opts.Quota(repo)
}

// pool is what a repository that has a quota links, once that is known; nil otherwise.
func (c *Cache) pool(repo origin.Repo) *pool {
	if !c.loaded {
		return nil
	}
	return c.repos.list[c.repos.numbers[repo]].pool
}

// link takes note that a repository links a blob, and uses it now. c.mu is held.
func (c *Cache) link(i, repo uint32) {
	b := c.table.blobs.at(i)
	if !c.links(i, repo) {
		n := c.repos.links.take()
		*c.repos.links.at(n) = linked{repo, b.links}
		b.links = n
	}
	p := c.repos.list[repo].pool
	if p == nil || !c.loaded {
		return
	}
	use := now()
	at := p.add(i, b.size, use)
	if name, ok := c.table.names[b.image]; ok {
		p.move(at, p.named(name, use))
	}
	p.touch(i, use)
}

// links reports whether a repository links a blob.
func (c *Cache) links(i, repo uint32) bool {
	for l := range c.linkers(i) {
		if l == repo {
			return true
		}
	}
	return false
}

// only reports whether no more than one repository links a blob.
func (c *Cache) only(i uint32) bool {
	first := c.table.blobs.at(i).links
	return first == 0 || c.repos.links.at(first).next == 0
}

// unlink takes note that a repository does not link a blob any more. c.mu is held.
func (c *Cache) unlink(i, repo uint32) {
	b := c.table.blobs.at(i)
	for at := &b.links; *at != 0; {
		n := *at
		l := c.repos.links.at(n)
		if l.repo != repo {
			at = &l.next
			continue
		}
		*at = l.next
		c.repos.links.drop(n)
		if p := c.repos.list[repo].pool; p != nil {
			p.remove(i)
		}
		return
	}
}

// relink has those repositories link a blob, and no others. c.mu is held.
func (c *Cache) relink(i uint32, repos []uint32) {
	for _, l := range slices.Collect(c.linkers(i)) {
		if !slices.Contains(repos, l) {
			c.unlink(i, l)
		}
	}
	for _, repo := range repos {
		if !c.links(i, repo) {
			c.link(i, repo)
		}
	}
}

// remove takes a blob out, if it is there, and gives who linked it. c.mu is held.
func (c *Cache) remove(k key) (repos []uint32, ok bool) {
	i, ok := c.table.find(k)
	if !ok {
		return nil, false
	}
	repos = slices.Collect(c.linkers(i))
	c.relink(i, nil)
	c.table.remove(k)
	return repos, true
}

// requota has those quotas hold that there are now. c.mu is held.
func (c *Cache) requota() {
	fresh := map[*pool]bool{}
	for _, r := range c.repos.list[1:] {
		r.quota = c.quota(r.name)
		switch {
		case r.quota == 0 && r.pool != nil:
			for i := range r.pool.byBlob {
				r.pool.remove(i)
			}
			r.pool = nil
		case r.quota > 0 && r.pool == nil:
			r.pool = newPool(&c.repos.pools)
			fresh[r.pool] = true
		}
	}
	if c.loaded {
		c.fill(fresh)
	}
}

// fill puts into empty pools what their repositories link, in the order of its use anywhere.
// c.mu is held.
func (c *Cache) fill(pools map[*pool]bool) {
	if len(pools) == 0 {
		return
	}
	into := map[*pool]uint32{} // images
	for g := c.table.oldest; g != 0; g = c.table.images.at(g).newer {
		clear(into)
		use := c.table.images.at(g).use
		name, named := c.table.names[g]
		for i := range c.table.of(g) {
			for repo := range c.linkers(i) {
				p := c.repos.list[repo].pool
				if !pools[p] {
					continue
				}
				at := p.add(i, c.table.blobs.at(i).size, use)
				to, ok := into[p]
				if !ok {
					to = p.at(at).image
					if named {
						to = p.named(name, use)
					}
					into[p] = to
				}
				p.move(at, to)
			}
		}
	}
}

// Room reports whether a repository's quota has room for a blob of size bytes that others
// have here, whatever would leave.
func (c *Cache) Room(repo origin.Repo, size int64) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, r := c.repository(repo)
	over := r.over(size)
	return over <= 0 || over <= r.pool.bytes-c.inUse(r.pool)
}

// over gives by how many bytes the quota would be exceeded with n bytes more, when all
// that comes has come and all that leaves has left.
func (r *repository) over(n int64) int64 {
	if r.quota == 0 {
		return 0
	}
	return r.pool.bytes + r.coming + n - r.quota
}

// expel queues a blob for removal from everywhere. c.mu is held.
func (c *Cache) expel(k key) {
	i, _ := c.table.find(k)
	r := removal{digest: c.table.digest(k), size: c.table.blobs.at(i).size}
	c.note(k)
	r.repos, _ = c.remove(k)
	for _, repo := range r.repos {
		c.repos.list[repo].leaving += r.size
	}
	c.leaving += r.size
	c.queue = append(c.queue, r)
}

// dismissFrom queues what nobody reads of an image in a repository's pool for removal from
// there, and gives its size. What no other repository has goes altogether.
func (c *Cache) dismissFrom(repo, g uint32) (size int64) {
	r := c.repos.list[repo]
	for at := range r.pool.of(g) {
		i := r.pool.blob(at)
		b := *c.table.blobs.at(i)
		if c.readers[b.key] > 0 {
			continue
		}
		size += b.size
		if c.only(i) {
			c.expel(b.key)
			continue
		}
		c.note(b.key)
		c.unlink(i, repo)
		r.leaving += b.size
		c.queue = append(c.queue, removal{digest: c.table.digest(b.key), size: b.size, repos: []uint32{repo}, from: r.name, some: true})
	}
	return size
}

// numbersOf gives the numbers of repositories. c.mu is held.
func (c *Cache) numbersOf(repos []origin.Repo) (list []uint32) {
	for _, repo := range repos {
		n, _ := c.repository(repo)
		list = append(list, n)
	}
	return list
}

// Relinked takes note that a repository links a blob by a mirror's word since another
// process wrote so; or, where mirrored is false, does not any more.
func (c *Cache) Relinked(repo origin.Repo, d digest.Digest, mirrored bool) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.table.find(keyOf(d))
	if !ok && !mirrored {
		return
	}
	if ok && c.table.blobs.at(i).links != 0 {
		n := c.repos.numbers[repo]
		links := c.links(i, n)
		if links == mirrored {
			return
		}
		if links && !c.only(i) {
			c.note(keyOf(d))
			c.unlink(i, n)
			return
		}
	}
	c.ask(d)
}
