package evict

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
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
// with the blobs of the same image, or 0. They are all that is remembered, and nothing
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
	var text [shards][]byte
	for p := range pages {
		c.mu.Lock() // for a page at a time: others go on between
		for i := range c.table.blobs.pages[p] {
			b := &c.table.blobs.pages[p][i]
			if b.image == 0 || !dirty[shardOf(b.key)] {
				continue
			}
			u := use{digest: c.table.digest(b.key), at: c.table.images.at(b.image).use}
			if b.prev != 0 || b.next != 0 {
				u.image = b.image
			}
			s := shardOf(b.key)
			text[s] = u.append(text[s])
		}
		c.mu.Unlock()
	}
	var errs []error
	for s := range dirty {
		if !dirty[s] {
			continue
		}
		if _, err := c.records.Put(ctx, recordOf(s), text[s], store.Always()); err != nil {
			errs = append(errs, fmt.Errorf("write down use: %w", err))
			c.mu.Lock()
			c.dirty[s] = true
			c.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// learn learns what there is, and tries again until it has.
func (c *Cache) learn(ctx context.Context) {
	for {
		began := time.Now()
		err := c.load(ctx)
		if err == nil {
			c.opts.Log.Info("cache listed", "bytes", c.Bytes(), "took", time.Since(began).Round(time.Millisecond).String())
			return
		}
		if ctx.Err() == nil {
			c.opts.Log.Error("cache not listed: nothing is evicted", "error", err)
		}
		again := time.NewTimer(againAfter)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}

// known is a blob that is there, and what is known of its use.
type known struct {
	key   key
	size  int64
	use   int64
	image uint32
}

func (c *Cache) load(ctx context.Context) error {
	var there []known
	long := map[key]digest.Digest{} // those that are not sha256
	for info, err := range c.store.Evictable(ctx) {
		if err != nil {
			return err
		}
		// Nothing written down: it is as old as it is.
		b := known{key: keyOf(info.Digest), size: info.Size, use: max(0, info.Modified.UnixMilli())}
		if info.Digest.Algorithm() != digest.SHA256 {
			long[b.key] = info.Digest
		}
		there = append(there, b)
	}
	slices.SortFunc(there, func(a, b known) int { return bytes.Compare(a.key[:], b.key[:]) })
	for s := range shards {
		rec, err := c.records.Get(ctx, recordOf(s))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
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
	// Of those that were used in the same moment the blobs of an image come together.
	slices.SortFunc(there, func(a, b known) int {
		return cmp.Or(-cmp.Compare(a.use, b.use), cmp.Compare(a.image, b.image))
	})
	c.take(there, long)
	return nil
}

// batch is how many blobs are put into the table while others wait.
const batch = 1024

// take puts what there is, most recently used first, behind what was used since.
func (c *Cache) take(there []known, long map[key]digest.Digest) {
	images := map[uint32]uint32{} // here, by the number written down
	for part := range slices.Chunk(there, batch) {
		c.mu.Lock()
		for _, b := range part {
			c.takeOne(b, long[b.key], images)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// What was used meanwhile, in the order of that.
	used := slices.SortedFunc(maps.Keys(c.early), func(a, b key) int { return cmp.Compare(c.early[a].n, c.early[b].n) })
	for _, k := range used {
		if _, ok := c.table.byKey[k]; ok {
			c.settle(k)
		}
	}
	c.loaded, c.early = true, nil
	c.tell()
	c.trim()
}

func (c *Cache) takeOne(b known, long digest.Digest, images map[uint32]uint32) {
	if _, ok := c.table.byKey[b.key]; ok {
		return // stored since
	}
	if long != "" {
		c.table.long[b.key] = long
	}
	i := c.table.addKey(b.key, b.size, b.use, true)
	if b.image == 0 {
		return
	}
	if g, ok := images[b.image]; ok && c.table.images.at(g).first != 0 && c.table.names[g] == (key{}) {
		c.table.move(i, g)
	} else {
		images[b.image] = c.table.blobs.at(i).image
	}
}
