package evict

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Use is written down in records "evict/use/<first byte of the key>", each a line per
// blob: its digest, when it was used last in unix milliseconds, and a number that it shares
// with the blobs of the same image, or 0: the beginning of the image's digest, so that it is
// the same whoever writes it. They are all that is remembered, and nothing
// is believed of them but that: what they say of a blob that is not there is ignored.
const shards = 256

func shardOf(k key) byte { return k[0] }

func recordOf(shard int) string { return fmt.Sprintf("evict/use/%02x", shard) }

// use is a line.
type use struct {
	digest digest.Digest
	at     int64
	image  uint32
}

func (u use) append(text []byte) []byte {
	return fmt.Appendf(text, "%s %d %d\n", u.digest, u.at, u.image)
}

// parseUses reads a record. A line that makes no sense is left out.
func parseUses(text []byte, found func(use)) {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		d, err := origin.ParseDigest(string(f[0]))
		at, err2 := strconv.ParseUint(string(f[1]), 10, 63)
		image, err3 := strconv.ParseUint(string(f[2]), 10, 32)
		if errors.Join(err, err2, err3) == nil {
			found(use{d, int64(at), uint32(image)})
		}
	}
}

// save writes use down where it changed.
func (c *Cache) save(ctx context.Context) error {
	c.mu.Lock()
	if !c.loaded {
		c.mu.Unlock()
		return nil // what is written down says more
	}
	dirty, pages := c.dirty, len(c.table.blobs.pages)
	c.dirty = [shards]bool{}
	c.mu.Unlock()
	var blobs [shards][]uint32 // by number: as lines, all of them would be more than all else
	for p := range pages {
		c.mu.Lock() // for a page at a time: others go on between
		for i := range c.table.blobs.pages[p] {
			b := &c.table.blobs.pages[p][i]
			if b.image == 0 || !dirty[shardOf(b.key)] {
				continue
			}
			s := shardOf(b.key)
			blobs[s] = append(blobs[s], uint32(p*page+i))
		}
		c.mu.Unlock()
	}
	var errs []error
	for s := range dirty {
		if !dirty[s] {
			continue
		}
		if err := c.writeDown(ctx, s, c.uses(s, blobs[s])); err != nil {
			errs = append(errs, fmt.Errorf("write down use: %w", err))
			c.mu.Lock()
			c.dirty[s] = true
			c.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// uses gives what is known of the use of blobs, as far as they are there still.
func (c *Cache) uses(shard int, blobs []uint32) (list []use) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range blobs {
		b := c.table.blobs.at(i)
		if b.image == 0 || int(shardOf(b.key)) != shard {
			continue // another may have its number now
		}
		u := use{digest: c.table.digest(b.key), at: c.table.images.at(b.image).use}
		if b.prev != 0 || b.next != 0 {
			u.image = c.table.images.at(b.image).tag
		}
		list = append(list, u)
	}
	return list
}

// writeDown writes a record. What others have written down of a later use stays so.
func (c *Cache) writeDown(ctx context.Context, shard int, uses []use) error {
	for {
		rec, err := c.records.Get(ctx, recordOf(shard))
		as := store.Version(rec.Version)
		switch {
		case errors.Is(err, store.ErrNotFound):
			as = store.Absent()
		case errors.Is(err, store.ErrDamaged):
			as = store.Always()
		case err != nil:
			return err
		}
		before := map[digest.Digest]int64{}
		parseUses(rec.Data, func(u use) { before[u.digest] = u.at })
		var text []byte
		for _, u := range uses {
			u.at = max(u.at, before[u.digest])
			text = u.append(text)
		}
		if _, err = c.records.Put(ctx, recordOf(shard), text, as); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// learn learns what there is, and tries again until it has; and again when it was not told
// what others did.
func (c *Cache) learn(ctx context.Context) {
	again := time.Duration(0)
	for first := true; pause(ctx, again); first = false {
		select {
		case <-c.unsure:
		default:
		}
		began := time.Now()
		c.mu.Lock()
		missed := c.missed
		c.changed = map[key]struct{}{}
		c.mu.Unlock()
		err := c.load(ctx)
		c.mu.Lock()
		c.changed = nil
		if err == nil {
			c.listed = missed
			c.trim()
		}
		c.mu.Unlock()
		if err != nil {
			if ctx.Err() == nil {
				c.opts.Log.Error("cache not listed: nothing is evicted, nor stored where there is a budget", "error", err)
			}
			again = againAfter
			continue
		}
		level := slog.LevelInfo
		if !first {
			level = slog.LevelDebug
		}
		c.opts.Log.Log(ctx, level, "cache listed", "bytes", c.Bytes(), "took", time.Since(began).Round(time.Millisecond).String())
		select {
		case <-c.unsure:
		case <-ctx.Done():
		}
		again = settling
	}
}

// pause waits that long, and reports whether ctx goes on.
func pause(ctx context.Context, long time.Duration) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// known is a blob that is there, and what is known of its use.
type known struct {
	key   key
	size  int64
	use   int64
	image uint32
	links uint32 // the first of them
}

// listing is what there is. Its links are its own.
type listing struct {
	there []known
	long  map[key]digest.Digest // those that are not sha256
	links slab[linked]
}

// repos gives who links a blob.
func (l *listing) repos(b known) []uint32 { return slices.Collect(links(&l.links, b.links)) }

func (c *Cache) load(ctx context.Context) error {
	l := &listing{long: map[key]digest.Digest{}}
	for info, err := range c.store.Evictable(ctx) {
		if err != nil {
			return err
		}
		// Nothing written down: it is as old as it is.
		b := known{key: keyOf(info.Digest), size: info.Size, use: max(0, info.Modified.UnixMilli())}
		if info.Digest.Algorithm() != digest.SHA256 {
			l.long[b.key] = info.Digest
		}
		c.mu.Lock()
		for _, repo := range info.Repos {
			number, _ := c.repository(repo)
			n := l.links.take()
			*l.links.at(n) = linked{number, b.links}
			b.links = n
		}
		c.mu.Unlock()
		l.there = append(l.there, b)
	}
	there := l.there
	slices.SortFunc(there, func(a, b known) int { return bytes.Compare(a.key[:], b.key[:]) })
	for s := range shards {
		rec, err := c.records.Get(ctx, recordOf(s))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil && !errors.Is(err, store.ErrDamaged) { // what is left of that is as good
			return fmt.Errorf("read use: %w", err)
		}
		parseUses(rec.Data, func(u use) {
			k := keyOf(u.digest)
			i, ok := slices.BinarySearchFunc(there, k, func(b known, k key) int { return bytes.Compare(b.key[:], k[:]) })
			if ok {
				there[i].use, there[i].image = max(there[i].use, u.at), u.image
			}
		})
	}
	if c.again(l) {
		return nil
	}
	// Of those that were used in the same moment the blobs of an image come together.
	slices.SortFunc(there, func(a, b known) int {
		return cmp.Or(-cmp.Compare(a.use, b.use), cmp.Compare(a.image, b.image))
	})
	c.take(l)
	return nil
}

// batch is how many blobs are put into the table while others wait.
const batch = 1024

// take puts what there is, most recently used first, behind what was used since.
func (c *Cache) take(l *listing) {
	images := map[uint32]uint32{} // here, by the number written down
	for part := range slices.Chunk(l.there, batch) {
		c.mu.Lock()
		for _, b := range part {
			c.takeOne(l, b, images)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// What was used meanwhile, in the order of that.
	used := slices.SortedFunc(maps.Keys(c.early), func(a, b key) int { return cmp.Compare(c.early[a].n, c.early[b].n) })
	for _, k := range used {
		if _, ok := c.table.find(k); ok {
			c.settle(k)
		}
	}
	pools := map[*pool]bool{}
	for _, r := range c.repos.list {
		if r.pool != nil {
			pools[r.pool] = true
		}
	}
	c.fill(pools)
	c.loaded, c.early = true, nil
	c.waited()
	c.tell()
}

// again makes of what is known already what there is, by key, and reports whether there was
// something known. What came or went since the listing began is as it is told.
func (c *Cache) again(l *listing) bool {
	c.mu.Lock()
	loaded, pages := c.loaded, len(c.table.blobs.pages)
	c.mu.Unlock()
	if !loaded {
		return false
	}
	for p := range pages {
		c.mu.Lock()
		var gone []key
		for i := range c.table.blobs.pages[p] {
			b := &c.table.blobs.pages[p][i]
			if _, changed := c.changed[b.key]; b.image == 0 || changed {
				continue
			}
			_, ok := slices.BinarySearchFunc(l.there, b.key, func(b known, k key) int { return bytes.Compare(b.key[:], k[:]) })
			if !ok {
				gone = append(gone, b.key)
			}
		}
		for _, k := range gone {
			c.remove(k)
		}
		c.mu.Unlock()
	}
	for part := range slices.Chunk(l.there, batch) {
		c.mu.Lock()
		for _, b := range part {
			if _, changed := c.changed[b.key]; changed {
				continue
			}
			if d, ok := l.long[b.key]; ok {
				c.table.long[b.key] = d
			}
			_, ok := c.table.find(b.key)
			i := c.table.addKey(b.key, b.size, now(), false)
			if !ok {
				c.settle(b.key) // whoever stored it did so lately, or we would have been told
			}
			c.relink(i, l.repos(b))
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell()
	return true
}

func (c *Cache) takeOne(l *listing, b known, images map[uint32]uint32) {
	_, changed := c.changed[b.key]
	i, ok := c.table.find(b.key)
	switch {
	case !ok && changed:
		return // gone
	case !ok:
		if d, ok := l.long[b.key]; ok {
			c.table.long[b.key] = d
		}
		i = c.table.addKey(b.key, b.size, b.use, true)
	}
	for repo := range links(&l.links, b.links) {
		c.link(i, repo)
	}
	if ok || b.image == 0 {
		return // stored since, or alone
	}
	if g, ok := images[b.image]; ok && c.table.images.at(g).first != 0 && c.table.names[g] == (key{}) {
		c.table.move(i, g)
	} else {
		g := c.table.blobs.at(i).image
		images[b.image], c.table.images.at(g).tag = g, b.image
	}
}
