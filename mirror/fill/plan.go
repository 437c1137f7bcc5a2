package fill

import "slices"

const (
	// undivided is the size up to which a blob is asked for in one piece.
	undivided = 2 << 20
	// smallest is the smallest range that a blob is cut into.
	smallest = 1 << 20
)

// plan says which stretches of a blob have landed, which are coming, and which
// should come next. It belongs to one Fill, whose mutex guards it.
type plan struct {
	streams int   // at most so many fetches at a time, and one that a reader waits for
	largest int64 // bytes of a range
	size    int64 // of the blob; -1: not known yet

	ranges  ranges
	landed  extents
	claims  []*claim // what workers are fetching
	proving []*claim // what is being looked through of an earlier process's spool
	wants   []int64  // offsets that readers wait for
	begun   bool     // something was claimed
}

// ranges says whether an upstream gives ranges.
type ranges int

const (
	unknown ranges = iota
	ranged
	whole
)

// claim is a stretch that is being fetched: [pos, end). end is -1 while it is the
// blob's, and not known. It is open while an upstream gives it.
type claim struct {
	pos, end int64
	open     bool
}

// open reports whether an upstream is giving another claim than that.
func (p *plan) open(but *claim) bool {
	return slices.ContainsFunc(p.claims, func(c *claim) bool { return c != but && c.open })
}

// sized fixes the blob's size.
func (p *plan) sized(size int64) {
	p.size = size
	for _, c := range p.claims {
		if c.end < 0 || c.end > size {
			c.end = size
		}
	}
}

// part is the length of the ranges that the blob is fetched in: at least as many
// as may come at a time, none larger than largest, none smaller than smallest.
func (p *plan) part() int64 {
	switch {
	case p.size < 0:
		return smallest // how much there is comes with its answer
	case p.size <= undivided:
		return p.size
	}
	const page = 64 << 10
	n := (p.size + int64(p.streams) - 1) / int64(p.streams)
	n = (n + page - 1) / page * page
	return max(smallest, min(n, p.largest))
}

// next claims the stretch that should come next: one that a reader waits for, else
// the first that is missing. There is none where nothing is missing, or where as
// many are coming as may; one that a reader waits for may come beside them.
func (p *plan) next() (*claim, bool) {
	n := len(p.claims)
	if n > p.streams || n == p.streams && p.ending() || n > 0 && p.ranges != ranged {
		return nil, false
	}
	for len(p.wants) > 0 {
		off := p.wants[0]
		p.wants = p.wants[1:]
		if p.absent(off) && p.claimed(off) == nil {
			return p.claim(off), true
		}
	}
	if n == p.streams {
		return nil, false
	}
	off, ok := p.missing()
	if !ok {
		return nil, false
	}
	return p.claim(off), true
}

// ending reports whether a claim has landed whole, so that a worker is about to take
// the next one.
func (p *plan) ending() bool {
	return slices.ContainsFunc(p.claims, func(c *claim) bool { return c.end >= 0 && c.pos >= c.end })
}

// claim claims what is missing from off on, as much as one range is to have.
func (p *plan) claim(off int64) *claim {
	c := &claim{pos: off, end: -1}
	if p.ranges != whole {
		c.end = off + p.part()
	}
	p.claims = append(p.claims, c)
	p.begun = true
	p.bound(c)
	return c
}

// bound lets a claim end where the next stretch begins that has landed, or is
// claimed.
func (p *plan) bound(c *claim) {
	if p.size >= 0 && (c.end < 0 || c.end > p.size) {
		c.end = p.size
	}
	end := c.end
	if at := p.landed.next(c.pos, end); at >= 0 {
		end = at
	}
	for _, list := range [][]*claim{p.claims, p.proving} {
		for _, x := range list {
			if x != c && x.pos > c.pos && (end < 0 || x.pos < end) {
				end = x.pos
			}
		}
	}
	c.end = end
}

// release gives a claim up, done or not.
func (p *plan) release(c *claim) {
	is := func(x *claim) bool { return x == c }
	p.claims = slices.DeleteFunc(p.claims, is)
	p.proving = slices.DeleteFunc(p.proving, is)
}

// missing gives the first byte that has neither landed nor is claimed.
func (p *plan) missing() (off int64, ok bool) {
	for p.size < 0 || off < p.size {
		if end := p.landed.end(off); end > off {
			off = end
			continue
		}
		c := p.claimed(off)
		if c == nil {
			return off, true
		}
		if c.end < 0 {
			return 0, false
		}
		off = c.end
	}
	// An empty blob is missing until somebody has said that it is there.
	return 0, p.size == 0 && !p.begun
}

// left is how many bytes are still to come: they have not landed, and are not being looked
// through either.
func (p *plan) left() int64 {
	n := p.size - p.landed.total()
	for _, c := range p.proving {
		n -= c.end - c.pos
	}
	return n
}

// claimed gives the claim that off lies in.
func (p *plan) claimed(off int64) *claim {
	for _, list := range [][]*claim{p.claims, p.proving} {
		for _, c := range list {
			if c.pos <= off && (off < c.end || c.end < 0) {
				return c
			}
		}
	}
	return nil
}

// absent reports whether the byte at off is one of the blob's that has not landed.
func (p *plan) absent(off int64) bool {
	return p.size >= 0 && off < p.size && p.landed.end(off) == off
}

// want has the byte at off fetched next, unless it is there or coming. It reports
// whether that is news.
func (p *plan) want(off int64) bool {
	if !p.absent(off) || p.claimed(off) != nil || slices.Contains(p.wants, off) {
		return false
	}
	p.wants = append(p.wants, off)
	return true
}
