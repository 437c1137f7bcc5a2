package fill

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// buffers are what workers and the verifier read into: at most one per worker.
type buffers struct{ pool sync.Pool }

const bufferSize = 256 << 10

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, bufferSize)
	return &p
}

func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

const (
	// stuck is how often in a row an upstream may fail to give Withheld bytes more
	// before it is given up.
	stuck = 12
	// firstPause is the pause after the second failure in a row; each one after it
	// is twice as long, up to lastPause: whoever comes back is found out soon, and in
	// all they are as long as a registry that is started again takes, 8.75 s.
	firstPause = 250 * time.Millisecond
	lastPause  = time.Second
	// timeout is for how many failures one counts for which was waited long enough.
	timeout = 4
)

// patience counts failures in a row, and waits before the next try.
type patience struct{ fruitless int }

// again waits until the upstream may be asked once more. It reports false when it
// is to be given up, or ctx has ended. landed is what the last try gave.
func (p *patience) again(ctx context.Context, landed int64, err error) bool {
	if landed >= Withheld {
		p.fruitless = 0
	}
	p.fruitless++
	if e, ok := errors.AsType[*origin.UpstreamError](err); ok && e.Timeout {
		p.fruitless += timeout - 1
	}
	if p.fruitless >= stuck {
		return false
	}
	if p.fruitless == 1 {
		return ctx.Err() == nil
	}
	pause := time.NewTimer(min(lastPause, firstPause<<(p.fruitless-2)))
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dispatch starts workers for what is missing, as many as may run. f.mu is held.
func (f *Fill) dispatch(ctx context.Context) {
	for !f.over() {
		c, ok := f.plan.next()
		if !ok {
			return
		}
		f.work.Go(func() { f.worker(ctx, c) })
	}
}

// worker fetches its claim, and then what should come next, until nothing is
// missing.
func (f *Fill) worker(ctx context.Context, c *claim) {
	had := false // it has got something
	for tries := (patience{}); ; {
		landed, err := f.fetch(ctx, c)
		had = had || landed > 0
		switch {
		case err == nil:
			if c = f.done(c); c == nil {
				return
			}
			tries = patience{}
		case errors.Is(err, errOver):
			return
		case f.hopeless(err):
			f.fail(err)
			return
		case landed == 0 && (!had || tries.fruitless > 1) && f.superfluous(c):
			return
		case !tries.again(ctx, landed, err):
			f.fail(err)
			return
		}
	}
}

// done gives a claim back, and the next one, nil if there is none. With the last one the
// fill gives its turn back: that is for what an upstream gives, not for hashing it.
func (f *Fill) done(c *claim) *claim {
	f.mu.Lock()
	whole := false
	defer func() {
		f.mu.Unlock()
		if whole {
			f.release()
		}
	}()
	f.plan.release(c)
	whole = f.complete()
	f.notify()
	if f.over() {
		return nil
	}
	next, _ := f.plan.next()
	return next
}

// hopeless reports whether it makes no sense to ask again; before the first answer
// it does not, since the source has tried whom it could ask. After it a source that says
// ErrStored is asked again, for those who read already.
func (f *Fill) hopeless(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.opened || errors.Is(err, ErrCorrupt)
}

// superfluous lets a worker go that got nothing while others get something: the
// upstream may not want to give as many streams at a time. It will have fewer from
// then on. Where nobody gets anything, that is an outage, and all stay; so whoever
// got something before waits first until an outage has reached the others too.
func (f *Fill) superfluous(c *claim) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.plan.open(c) {
		return false
	}
	f.plan.release(c)
	f.plan.streams = len(f.plan.claims)
	f.notify()
	return true
}

// fetch asks for what is left of a claim and lands it in the spool. It gives the
// number of bytes landed; without an error, the claim is done.
func (f *Fill) fetch(ctx context.Context, c *claim) (landed int64, err error) {
	stream, err := f.ask(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { _ = stream.Close() }() // what counts was read; the rest is not wanted
	f.opens(c, true)
	defer f.opens(c, false)
	return f.pump(c, stream)
}

// opens notes whether the upstream is giving what was claimed.
func (f *Fill) opens(c *claim, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.open = open
}

// ask asks for what is left of a claim, and gives a stream that is at its position.
func (f *Fill) ask(ctx context.Context, c *claim) (Stream, error) {
	for {
		f.mu.Lock()
		off, n := c.pos, c.end-c.pos
		if c.end < 0 || off == 0 && c.end == f.size {
			n = -1
		}
		sized := f.size >= 0
		f.mu.Unlock()

		s, err := f.src(ctx, off, n)
		if errors.Is(err, store.ErrRange) && !sized && n >= 0 {
			f.undivided(c) // an empty blob has no range
			continue
		}
		if err != nil {
			return Stream{}, err
		}
		again, err := f.took(c, off, n, s)
		if err == nil && !again {
			err = skip(s, off)
		}
		if err == nil && !again {
			return s, nil
		}
		_ = s.Close() // nothing of it is wanted
		if err != nil {
			return Stream{}, err
		}
	}
}

// undivided lets the blob come in one piece.
func (f *Fill) undivided(c *claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan.ranges = whole
	c.end = -1
	f.plan.bound(c)
}

// took takes note of the answer to a request for n bytes from off on. again is true
// if it says too little to be of use, and all should be asked for.
func (f *Fill) took(c *claim, off, n int64, s Stream) (again bool, err error) {
	if s.Offset != off && s.Offset != 0 {
		return false, fmt.Errorf("%w: upstream gave from byte %d, asked for %d", ErrCorrupt, s.Offset, off)
	}
	part := off > 0 || n >= 0
	if part && s.Size < 0 && (s.Offset > 0 || s.Length >= 0) {
		f.mu.Lock()
		s.Size = f.size // a part without a total is one of what is known
		f.mu.Unlock()
	}
	all := s.Offset == 0 && s.Length == s.Size && (off > 0 || s.Size < 0 || s.Size > n)
	if part && !all && s.Size < 0 {
		if n < 0 { // all of the rest was asked for already
			return false, fmt.Errorf("%w: upstream gave from byte %d on, and does not say of how many", ErrCorrupt, s.Offset)
		}
		f.undivided(c)
		return true, nil
	}
	if err := f.answered(s); err != nil {
		return false, err
	}
	if err := f.reserve(); err != nil {
		f.unkeep(err)
		return false, errOver
	}
	f.mu.Lock()
	switch {
	case part && all:
		f.plan.ranges = whole
		if len(f.plan.claims) == 1 {
			c.end = -1
			f.plan.bound(c)
		}
	case part && f.plan.ranges == unknown:
		f.plan.ranges = ranged
		f.notify() // more may come now
	}
	counted := f.size < 0 || f.size > small
	f.mu.Unlock()
	if !counted {
		f.release()
	}
	return false, nil
}

// skip reads over what comes before off.
func skip(s Stream, off int64) error {
	n, err := io.CopyN(io.Discard, s, off-s.Offset)
	if err == io.EOF {
		err = fmt.Errorf("%w after %d bytes, asked for those from %d on", io.ErrUnexpectedEOF, n, off)
	}
	return err
}

// pump lands a stream in the spool, to the end of the claim.
func (f *Fill) pump(c *claim, s Stream) (landed int64, err error) {
	buf := f.group.buffers.get()
	defer f.group.buffers.put(buf)
	f.mu.Lock()
	note := chunk{off: c.pos}
	f.mu.Unlock()
	defer func() { f.spool.note(f, &note) }()
	for pos := note.off; ; {
		f.mu.Lock()
		end, over := c.end, f.over()
		f.mu.Unlock()
		if over {
			return landed, errOver
		}
		room := int64(bufferSize)
		if end >= 0 {
			if room = min(room, end-pos); room <= 0 {
				return landed, nil
			}
		}
		n, err := s.Read((*buf)[:room])
		if n > 0 {
			if _, err := f.spool.WriteAt((*buf)[:n], pos); err != nil {
				f.unkeep(err)
				return landed, errOver
			}
			pos += int64(n)
			landed += int64(n)
			f.land(c, int64(n))
			note.n, note.sum = note.n+int64(n), crc32.Update(note.sum, castagnoli(), (*buf)[:n])
			if note.n >= chunkSize {
				f.spool.note(f, &note)
			}
		}
		switch {
		case err == io.EOF && end < 0:
			f.mu.Lock()
			f.sized(pos)
			f.mu.Unlock()
			return landed, nil
		case err == io.EOF && pos < end:
			return landed, io.ErrUnexpectedEOF
		case err != nil && err != io.EOF:
			return landed, err
		}
	}
}

// errOver ends a worker whose fill is over.
var errOver = errors.New("fill: over")

// land takes note of n bytes in the spool at the claim's position.
func (f *Fill) land(c *claim, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan.landed = f.plan.landed.add(span{c.pos, c.pos + n})
	c.pos += n
	f.notify()
}
