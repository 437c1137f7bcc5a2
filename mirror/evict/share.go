package evict

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// Shared is what caches over one origin have in common. Nothing depends on it but how well
// the budget is kept: one that leads beside another evicts more than it must, and where
// none can, nothing is evicted.
type Shared interface {
	// Lead makes this process the one that evicts, until release is called, which is nil
	// where it is not: held says that another one is. lost is closed once another one may be.
	Lead(ctx context.Context) (release func(), lost <-chan struct{}, held bool)
	// Mention tells the others something that nobody relies on.
	Mention(ctx context.Context, keys ...string)
	// Subscribe has changed called with what others mention, and with other keys; missed
	// where something was not told; neither blocks. current reports whether all has been
	// told but for the last moment.
	Subscribe(changed func(keys []string), missed func()) (current func() bool)
}

const (
	// settling is how long what others do is awaited before it is listed what there is: a
	// write that was under way when it was announced is done by then.
	settling = 3 * time.Second
	// mentioned is what use begins with that is mentioned: the repository, and behind it an
	// image with its blobs, or one blob.
	mentioned = "use/"
	// mentions and mentionBytes are how much of it there is in each second; of what is more
	// the recency is lost to the others.
	mentions, mentionBytes = 500, 128 << 10
	// doom is for how long a blob that was condemned may be about to be removed.
	doom = time.Minute
	// questions is of how many blobs it may wait to be found out what became of them.
	// Beyond it everything is listed.
	questions = 1 << 14
	// lookers is of how many it is found out at a time, and lookLimit how long it may take.
	lookers, lookLimit = 8, 30 * time.Second
)

// sharing is what a Cache knows of others. It is guarded by the Cache's mutex.
type sharing struct {
	current func() bool
	release func()          // not nil: this one leads
	lost    <-chan struct{} // closed once it may not any more
	held    bool            // another one leads
	doomed  map[key]time.Time
	used    map[mention]string // to be mentioned
	bytes   int                // of that
}

// mention names a use that is to be mentioned.
type mention struct {
	repo origin.Repo
	key  key
}

// begin begins to hear of others.
func (c *Cache) begin() {
	c.mu.Lock()
	c.share = &sharing{doomed: map[key]time.Time{}, used: map[mention]string{}, current: func() bool { return false }}
	c.mu.Unlock()
	current := c.opts.Shared.Subscribe(c.mentioned, func() {}) // what was missed the origin says
	c.mu.Lock()
	c.share.current = current
	c.mu.Unlock()
}

// leads reports whether this one leads. c.mu is held.
func (s *sharing) leads() bool {
	if s.release == nil {
		return false
	}
	select {
	case <-s.lost:
		return false
	default:
		return true
	}
}

// may reports whether this cache evicts. c.mu is held.
func (c *Cache) may() bool {
	return c.share == nil || c.share.leads() && c.missed == c.listed && c.share.current()
}

// led reports whether another one evicts. c.mu is held.
func (c *Cache) led() bool {
	return c.share != nil && c.share.held && c.missed == c.listed && c.share.current()
}

// campaign has this cache lead if no other one does, and mentions what was used here.
func (c *Cache) campaign(ctx context.Context) {
	if c.share == nil {
		return
	}
	c.mu.Lock()
	leads, release := c.share.leads(), c.share.release
	if !leads {
		c.share.release = nil
	}
	for k, since := range c.share.doomed {
		if time.Since(since) > doom {
			delete(c.share.doomed, k)
		}
	}
	c.mu.Unlock()
	c.sayUses(ctx)
	if leads {
		return
	}
	if release != nil {
		release()
	}
	release, lost, held := c.opts.Shared.Lead(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.share.release, c.share.lost, c.share.held = release, lost, held
}

// leave has others lead.
func (c *Cache) leave(ctx context.Context) {
	if c.share == nil {
		return
	}
	c.sayUses(ctx)
	c.mu.Lock()
	release := c.share.release
	c.share.release, c.share.held = nil, false
	c.mu.Unlock()
	if release != nil {
		release()
	}
}

// mention takes note of a use that others are to hear of. c.mu is held.
func (c *Cache) mention(repo origin.Repo, d digest.Digest, blobs ...digest.Digest) {
	if c.share == nil || len(c.share.used) >= mentions || c.share.bytes >= mentionBytes {
		return
	}
	k := mention{repo, keyOf(d)}
	if _, ok := c.share.used[k]; ok {
		return
	}
	var text strings.Builder
	text.WriteString(mentioned + repo.String() + " " + d.String())
	for _, b := range blobs {
		text.WriteString(" " + b.String())
	}
	c.share.used[k] = text.String()
	c.share.bytes += text.Len()
}

// sayUses mentions what was used since it did so last.
func (c *Cache) sayUses(ctx context.Context) {
	c.mu.Lock()
	var all []string
	for _, text := range c.share.used {
		all = append(all, text)
	}
	clear(c.share.used)
	c.share.bytes = 0
	c.mu.Unlock()
	if len(all) > 0 {
		c.opts.Shared.Mention(ctx, all...)
	}
}

// mentioned takes note of what others have used.
func (c *Cache) mentioned(keys []string) {
	for _, text := range keys {
		text, ok := strings.CutPrefix(text, mentioned)
		if !ok {
			continue
		}
		var repo origin.Repo // nobody said it where it is none
		if name, _, ok := strings.Cut(text, " "); ok {
			repo, _ = origin.ParseRepo(name)
		}
		var list []digest.Digest
		for name := range strings.FieldsSeq(text) {
			if d, err := origin.ParseDigest(name); err == nil {
				list = append(list, d)
			}
		}
		c.mu.Lock()
		switch len(list) {
		case 0:
		case 1:
			c.used(repo, keyOf(list[0]))
		default:
			c.image(repo, list[0], list[1:])
		}
		c.mu.Unlock()
	}
}

// Missed takes note that other processes may have done anything: it is listed what there is.
func (c *Cache) Missed() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.miss()
}

func (c *Cache) miss() {
	c.missed++
	signal(c.unsure)
}

// Condemned takes note that another process is about to remove a blob. It hears of those who
// read it here by its being spared.
func (c *Cache) Condemned(d digest.Digest) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := keyOf(d)
	c.goes(k)
	if c.readers[k] > 0 {
		c.spare(d)
	}
}

// Going reports whether a blob may be about to be removed, although it was just said to be
// read: whoever can do with less than an address of it does.
func (c *Cache) Going(d digest.Digest) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.going(keyOf(d))
}

// goes takes note that a blob may be about to be removed; stays, that it is not; going
// reports it. c.mu is held.
func (c *Cache) goes(k key) {
	if c.share != nil {
		c.share.doomed[k] = time.Now()
	}
}

func (c *Cache) stays(k key) {
	if c.share != nil {
		delete(c.share.doomed, k)
	}
}

func (c *Cache) going(k key) bool {
	if c.share == nil {
		return false
	}
	_, ok := c.share.doomed[k]
	return ok
}

// spare has a blob spared that is about to be removed. c.mu is held.
func (c *Cache) spare(d digest.Digest) {
	c.spared = append(c.spared, d)
	signal(c.look)
}

// ask has it found out what became of a blob. c.mu is held.
func (c *Cache) ask(d digest.Digest) {
	if c.share == nil {
		return
	}
	if len(c.asked) >= questions {
		clear(c.asked)
		c.miss()
		return
	}
	c.asked[d] = struct{}{}
	signal(c.look)
}

// follow finds out what becomes of blobs by what others do, until ctx ends.
func (c *Cache) follow(ctx context.Context) {
	for {
		select {
		case <-c.look:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		asked, spared := c.asked, c.spared
		c.asked, c.spared = map[digest.Digest]struct{}{}, nil
		c.mu.Unlock()
		var looking errgroup.Group
		looking.SetLimit(lookers)
		each := func(d digest.Digest, do func(ctx context.Context, d digest.Digest)) {
			looking.Go(func() error {
				limited, cancel := context.WithTimeout(ctx, lookLimit)
				defer cancel()
				do(limited, d)
				return nil
			})
		}
		for _, d := range spared { // first: somebody removes them
			each(d, c.saveFrom)
		}
		for d := range asked {
			each(d, c.find)
		}
		_ = looking.Wait() // none of them fails
	}
}

// saveFrom spares a blob, if it is not too late.
func (c *Cache) saveFrom(ctx context.Context, d digest.Digest) {
	err := c.store.Spare(ctx, d)
	if err != nil && !errors.Is(err, origin.ErrInUse) && ctx.Err() == nil {
		c.opts.Log.Error("blob that is read not spared", "digest", d.String(), "error", err)
	}
}

// find finds out what became of a blob.
func (c *Cache) find(ctx context.Context, d digest.Digest) {
	is, err := c.store.MayEvict(ctx, d)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.relink(c.add(d, is.Size), c.numbersOf(is.Repos))
		c.trim()
	case origin.Unknown(err), errors.Is(err, origin.ErrPushed):
		c.drop(d)
	case ctx.Err() == nil:
		c.opts.Log.Error("blob not looked at: all are", "digest", d.String(), "error", err)
		c.miss()
	}
}
