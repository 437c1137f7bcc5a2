package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
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

// start gives c to a new worker. f.mu is held.
func (f *Fill) start(ctx context.Context, c *claim) {
	f.claims = append(f.claims, c)
	f.work.Go(func() { f.worker(ctx, c) })
}

// worker fetches its claim, and then whatever is missing most, until nothing is.
func (f *Fill) worker(ctx context.Context, c *claim) {
	for fruitless := 0; ; {
		n, err := f.fetch(ctx, c)
		if n >= Withheld {
			fruitless = 0
		}
		if err != nil {
			fruitless++
			f.mu.Lock()
			hopeless := !f.opened || fruitless == stuck
			f.mu.Unlock()
			// Before the first answer the source has tried whom it could ask. After
			// it, what is missing is asked for again where the stream was cut.
			if hopeless || ctx.Err() != nil || errors.Is(err, ErrCorrupt) || errors.Is(err, errSpool) {
				f.fail(err)
				return
			}
			continue
		}
		f.mu.Lock()
		next := f.reclaim(c)
		f.mu.Unlock()
		if !next {
			return
		}
	}
}

// errSpool marks a spool that cannot be written or read.
var errSpool = errors.New("fill: spool")

// fetch asks for what is left of a claim and lands it in the spool. It gives the
// number of bytes landed; without an error, the claim is done.
func (f *Fill) fetch(ctx context.Context, c *claim) (landed int64, err error) {
	f.mu.Lock()
	pos, n := c.pos, int64(-1)
	if c.end >= 0 && c.end < f.size {
		n = c.end - c.pos
	}
	f.mu.Unlock()

	stream, err := f.src(ctx, pos, n)
	if err != nil {
		return 0, err
	}
	defer func() { _ = stream.Close() }() // what counts was read; the rest is not wanted
	if err := f.answered(stream); err != nil {
		return 0, err
	}
	f.mu.Lock()
	counted := f.size < 0 || f.size > small
	f.mu.Unlock()
	if !counted {
		f.release()
	}

	buf := f.group.buffers.get()
	defer f.group.buffers.put(buf)
	for {
		f.mu.Lock()
		end := c.end // may have come closer: a reader wanted what lies behind it
		f.mu.Unlock()
		room := int64(bufferSize)
		if end >= 0 {
			if room = min(room, end-pos); room <= 0 {
				return landed, nil
			}
		}
		n, err := stream.Read((*buf)[:room])
		if n > 0 {
			if _, err := f.spool.WriteAt((*buf)[:n], pos); err != nil {
				return landed, fmt.Errorf("%w: %w", errSpool, err)
			}
			pos += int64(n)
			landed += int64(n)
			f.land(c, int64(n))
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

// land takes note of n bytes in the spool at the claim's position.
func (f *Fill) land(c *claim, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.landed = f.landed.add(span{c.pos, c.pos + n})
	f.received += n
	c.pos += n
	f.notify()
}

// reclaim makes c the stretch that should come next: one that a reader waits for,
// else the first that is missing. It reports whether there is one; if not, c is
// given up. f.mu is held.
func (f *Fill) reclaim(c *claim) bool {
	f.claims = slices.DeleteFunc(f.claims, func(x *claim) bool { return x == c })
	if f.err != nil {
		return false
	}
	for len(f.wants) > 0 {
		off := f.wants[0]
		f.wants = f.wants[1:]
		if next, ok := f.claim(off); ok {
			*c = *next
			f.claims = append(f.claims, c)
			return true
		}
	}
	if off, ok := f.missing(); ok {
		next, _ := f.claim(off)
		*c = *next
		f.claims = append(f.claims, c)
		return true
	}
	return false
}

// missing gives the first byte that has neither landed nor is claimed. f.mu is held.
func (f *Fill) missing() (off int64, ok bool) {
	for off < f.size {
		if end := f.landed.end(off); end > off {
			off = end
			continue
		}
		c := f.claimed(off)
		if c == nil {
			return off, true
		}
		off = c.end
	}
	return 0, false
}

// claimed gives the claim that off lies in. f.mu is held.
func (f *Fill) claimed(off int64) *claim {
	for _, c := range f.claims {
		if c.pos <= off && (off < c.end || c.end < 0) {
			return c
		}
	}
	return nil
}

// claim makes a claim that begins at off and ends where the next stretch begins
// that has landed or is claimed. Where off lies in another claim, that one ends
// there from now on. It makes none where the byte is there, or near. f.mu is held,
// and the size is known.
func (f *Fill) claim(off int64) (*claim, bool) {
	if off >= f.size || f.landed.end(off) > off {
		return nil, false
	}
	if other := f.claimed(off); other != nil {
		if off-other.pos <= near {
			return nil, false
		}
		c := &claim{pos: off, end: other.end}
		other.end = off
		return c, true
	}
	end := f.landed.next(off, f.size)
	for _, c := range f.claims {
		if c.pos > off {
			end = min(end, c.pos)
		}
	}
	return &claim{pos: off, end: end}, true
}

// want has the byte at off fetched soon, unless it is there or near. f.mu is held.
func (f *Fill) want(off int64) {
	if f.size < 0 || off >= f.size || f.landed.end(off) > off || slices.Contains(f.wants, off) {
		return
	}
	if c := f.claimed(off); c != nil && off-c.pos <= near {
		return
	}
	f.wants = append(f.wants, off)
	f.notify() // the verifier dispatches it
}

// dispatch starts workers for what readers want, as many as may run; what is left
// is taken up by the next worker that is done. f.mu is held.
func (f *Fill) dispatch(ctx context.Context) {
	for len(f.wants) > 0 && len(f.claims) < f.group.opts.Streams {
		off := f.wants[0]
		f.wants = f.wants[1:]
		if c, ok := f.claim(off); ok {
			f.start(ctx, c)
		}
	}
}
