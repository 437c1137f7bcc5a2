package evict

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

var (
	// ErrNoRoom says that there is no room within the budget, or a repository's quota,
	// whatever would leave.
	ErrNoRoom = errors.New("evict: no room within the cache's budget")
	// ErrUnlisted says that it is not known yet whether there is: see Listed.
	ErrUnlisted = errors.New("evict: what is in the cache is not listed yet")
)

// ErrFull is an ErrNoRoom for which an empty cache would not be enough: others fill the disk.
var ErrFull = fmt.Errorf("%w: others have filled the disk", ErrNoRoom)

// Store is what blobs are evicted from: that of origin.Keeper which is needed.
type Store interface {
	Evictable(ctx context.Context) iter.Seq2[origin.Evictable, error]
	MayEvict(ctx context.Context, d digest.Digest) (origin.Evictable, error)
	Evict(ctx context.Context, d digest.Digest) error
	EvictFrom(ctx context.Context, repo origin.Repo, d digest.Digest) error
	Spare(ctx context.Context, d digest.Digest) error
}

// Limits are a Cache's budget, which may change. The zero value has no limit.
type Limits struct {
	// MaxSize is how many bytes of blobs are kept; 0: no limit.
	MaxSize int64
	// MinFree says of a file system of total bytes how many stay free.
	// nil: none need.
	MinFree func(total int64) int64
	// Quota says of a repository how many bytes of mirrored blobs it links at most; 0: any
	// number. nil: no repository has one. It calls nothing here.
	Quota func(repo origin.Repo) int64
}

// Options are a Cache's budget and its circumstances.
type Options struct {
	Limits
	// Space gives the bytes that the file system of the blobs has free, and its size.
	// nil: it is not known.
	Space func() (free, total int64, err error)
	// Shared is what other caches over the same origin have in common with this one; nil:
	// there are none.
	Shared Shared
	Meter  Meter        // nil: none
	Log    *slog.Logger // nil: none
}

// Meter is told what a Cache does.
type Meter interface {
	// CacheBytes is how many bytes of blobs are kept now.
	CacheBytes(n int64)
	// CacheEvicted counts bytes of blobs that were evicted.
	CacheEvicted(n int64)
}

const (
	// lookEvery is how often the file system is looked at, for what others write to it.
	lookEvery = time.Second
	// saveEvery is how often use is written down.
	saveEvery = time.Hour
	// againAfter is when the origin is listed again, after it could not be.
	againAfter = time.Minute
	// patience is for how long after Start it is waited for what there is: mostly it is known
	// at once. What waits is on the disk, beyond the budget.
	patience = 10 * time.Second
	// awaited is of how many blobs it is remembered which image they will belong to.
	awaited = 1 << 15
	// earliest is of how many blobs the use is remembered before it is known what there is:
	// it need not be there, whoever asks for it, and the origin may not say for days.
	earliest = 1 << 16
	// removers is how many blobs are removed at a time; and many how many where each
	// waits for what other replicas have to say, a second long.
	removers, many = 4, 256
)

// Cache is the mirrored blobs of an origin. Its methods are safe for concurrent use; of
// a nil Cache, which has no budget and remembers nothing, too.
type Cache struct {
	store   Store
	records store.Records
	opts    Options // but for its Limits it does not change; these are guarded by mu

	mu       sync.Mutex
	table    *table
	loaded   bool
	early    map[key]early // use of those that are not known yet; nil once loaded
	counted  int
	readers  map[key]int
	repos    repositories
	reserved map[content]reservation
	coming   int64     // bytes that are reserved
	storing  int64     // bytes of those that are fetched, and are being stored
	leaving  int64     // bytes of those that are being removed
	queue    []removal // to be removed
	dirty    [shards]bool
	awaited  *lru.Cache[key, key] // images by their blobs that are not here

	started bool
	known   chan struct{} // closed when loaded, or not soon
	waited  func()        // closes it: nobody waits for it any more
	removed chan struct{} // closed at the next removal; nil if nobody waits for it

	share  *sharing // nil: there is no other cache
	missed int      // how often what others do was not told
	listed int      // how often it had been when what there is was listed last
	// changed is what came or went since a listing began; nil while there is none.
	changed map[key]struct{}
	asked   map[digest.Digest]struct{} // of which it is to be found out what became of them
	spared  []digest.Digest            // that are to be spared

	wake   chan struct{} // something is to be removed
	unsure chan struct{} // what there is is to be listed again
	look   chan struct{} // somebody asked, or is to be spared
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// early is a use of a blob before it is known that it is there.
type early struct {
	use int64 // unix milliseconds
	n   int   // later ones have greater ones
}

// New makes a Cache of what s has, whose use is remembered in records. It reads nothing
// until Start, and does nothing after Close. One that is not started knows of nothing that
// there is, and has room for the whole budget.
func New(s Store, records store.Records, o Options) *Cache {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noMeter{}
	}
	c := &Cache{
		store: s, records: records, opts: o, table: newTable(), repos: newRepositories(),
		early: map[key]early{}, readers: map[key]int{}, reserved: map[content]reservation{},
		asked: map[digest.Digest]struct{}{},
		wake:  make(chan struct{}, 1), unsure: make(chan struct{}, 1), look: make(chan struct{}, 1), stop: func() {},
	}
	c.known = make(chan struct{})
	c.waited = sync.OnceFunc(func() { close(c.known) })
	// New fails only for a size below one.
	c.awaited, _ = lru.New[key, key](awaited)
	return c
}

// Configure has another budget hold from now on. What exceeds a lower one leaves at once.
func (c *Cache) Configure(l Limits) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.Limits = l
	c.requota()
	c.trim()
}

// Start begins to learn what there is, to evict, and to write use down, all behind the
// caller's back. It is called once at most.
func (c *Cache) Start() {
	if c == nil {
		return
	}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(context.Background())
	time.AfterFunc(patience, c.waited)
	c.mu.Lock()
	c.started = true
	c.mu.Unlock()
	if c.opts.Shared != nil {
		c.begin()
		c.work.Go(func() { c.follow(ctx) })
	}
	c.work.Go(func() { c.learn(ctx) })
	c.work.Go(func() { c.removeEach(ctx) })
	c.work.Go(func() { c.tend(ctx) })
}

// Close removes nothing more, and writes use down, even if ctx has ended: that is short.
func (c *Cache) Close(ctx context.Context) error {
	if c == nil {
		return nil
	}
	c.stop()
	c.waited()
	c.work.Wait()
	ctx = context.WithoutCancel(ctx)
	c.leave(ctx)
	return c.save(ctx)
}

func now() int64 { return time.Now().UnixMilli() }

// Used takes note that somebody used a blob of a repository.
func (c *Cache) Used(repo origin.Repo, d digest.Digest) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used(repo, keyOf(d))
	c.mention(repo, d)
}

func (c *Cache) used(repo origin.Repo, k key) {
	c.dirty[shardOf(k)] = true
	use := now()
	if !c.table.touch(k, use) && !c.loaded {
		c.remember(k, use)
	}
	if p := c.pool(repo); p != nil {
		i, _ := c.table.find(k)
		p.touch(i, use)
	}
}

// remember remembers the use of a blob that is not known yet. c.mu is held.
func (c *Cache) remember(k key, use int64) {
	if _, ok := c.early[k]; ok || len(c.early) < earliest {
		c.early[k] = early{use, c.count()}
	}
}

// count gives a greater number each time. c.mu is held.
func (c *Cache) count() int {
	c.counted++
	return c.counted
}

// Reading takes note that somebody reads a blob of a repository, until done is called: till
// then it stays.
func (c *Cache) Reading(repo origin.Repo, d digest.Digest) (done func()) {
	if c == nil {
		return func() {}
	}
	k := keyOf(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used(repo, k)
	c.mention(repo, d)
	c.readers[k]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.readers[k]--; c.readers[k] == 0 {
			delete(c.readers, k)
		}
	})
}

// Image takes note that somebody used the manifest m of a repository, which names those
// blobs. They belong to it from now on.
func (c *Cache) Image(repo origin.Repo, m digest.Digest, blobs []digest.Digest) {
	if c == nil || len(blobs) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.image(repo, m, blobs)
	c.mention(repo, m, blobs...)
}

func (c *Cache) image(repo origin.Repo, m digest.Digest, blobs []digest.Digest) {
	name, use := keyOf(m), now()
	p := c.pool(repo)
	var here, pooled []uint32
	for _, d := range blobs {
		k := keyOf(d)
		c.dirty[shardOf(k)] = true
		i, ok := c.table.find(k)
		switch {
		case ok:
			here = append(here, i)
			if p != nil && p.has(i) {
				pooled = append(pooled, p.byBlob[i])
			}
		case !c.loaded:
			c.remember(k, use)
			fallthrough
		default:
			c.awaited.Add(k, name)
		}
	}
	c.table.together(name, here, use)
	if p != nil {
		p.together(name, pooled, use)
	}
}

// Stored takes note that a blob was stored, or is linked to another repository.
func (c *Cache) Stored(repo origin.Repo, d digest.Digest, size int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := keyOf(d)
	n, _ := c.repository(repo)
	c.unreserve(content{n, k}, size)
	c.stays(k)
	c.link(c.add(d, size), n)
	c.trim()
}

// add counts a blob as just used. c.mu is held.
func (c *Cache) add(d digest.Digest, size int64) uint32 {
	k := keyOf(d)
	c.note(k)
	i := c.table.add(d, size, now(), false)
	c.settle(k)
	c.tell()
	return i
}

// settle puts a blob that is there now into the image that awaits it, and makes that the
// most recently used one. c.mu is held.
func (c *Cache) settle(k key) {
	if name, ok := c.awaited.Peek(k); ok {
		c.awaited.Remove(k)
		i, _ := c.table.find(k)
		c.table.move(i, c.table.named(name, now()))
	}
	c.table.touch(k, now())
}

// Pushed takes note that a blob is not only mirrored any more.
func (c *Cache) Pushed(d digest.Digest) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(d)
}

// drop takes note that a blob is not to be evicted, or gone. c.mu is held.
func (c *Cache) drop(d digest.Digest) {
	k := keyOf(d)
	c.note(k)
	if _, ok := c.remove(k); ok {
		c.tell()
	}
}

// note takes note that a blob came or went. c.mu is held.
func (c *Cache) note(k key) {
	c.dirty[shardOf(k)] = true
	if c.changed != nil {
		c.changed[k] = struct{}{}
	}
}

// LastUse gives when a blob, or the image that it belongs to, was used last.
func (c *Cache) LastUse(d digest.Digest) (time.Time, bool) {
	if c == nil {
		return time.Time{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := keyOf(d)
	before, ok := c.early[k]
	use := before.use
	if i, there := c.table.find(k); there {
		use, ok = c.table.images.at(c.table.blobs.at(i).image).use, true
	}
	return time.UnixMilli(use), ok
}

// Bytes is how many bytes of blobs are kept.
func (c *Cache) Bytes() int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.bytes + c.leaving
}

// tell tells the meter how much is kept. c.mu is held.
func (c *Cache) tell() { c.opts.Meter.CacheBytes(c.table.bytes + c.leaving) }

// tend looks after what others write, and writes use down, until ctx ends.
func (c *Cache) tend(ctx context.Context) {
	look, save := time.NewTicker(lookEvery), time.NewTicker(saveEvery)
	defer look.Stop()
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			c.campaign(ctx)
			c.mu.Lock()
			c.trim()
			c.mu.Unlock()
		case <-save.C:
			if err := c.save(ctx); err != nil && ctx.Err() == nil {
				c.opts.Log.Error("use of the cache not written down", "error", err)
			}
		}
	}
}

type noMeter struct{}

func (noMeter) CacheBytes(int64)   {}
func (noMeter) CacheEvicted(int64) {}

var _ Store = origin.Keeper(nil)
