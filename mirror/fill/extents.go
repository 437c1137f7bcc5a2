package fill

import "slices"

// span is the stretch [from, to) of a blob.
type span struct{ from, to int64 }

// extents is a set of bytes, kept as sorted spans that neither overlap nor touch.
type extents []span

// add puts s into the set.
func (e extents) add(s span) extents {
	if s.from >= s.to {
		return e
	}
	// The spans i..j-1 overlap or touch s and become one with it.
	i, _ := slices.BinarySearchFunc(e, s.from, func(x span, from int64) int {
		if x.to < from {
			return -1
		}
		return 1
	})
	j := i
	for j < len(e) && e[j].from <= s.to {
		s.from, s.to = min(s.from, e[j].from), max(s.to, e[j].to)
		j++
	}
	return slices.Replace(e, i, j, s)
}

// end gives the end of the contiguous stretch that is in the set from off on; off
// itself if the byte at off is not in it.
func (e extents) end(off int64) int64 {
	for _, x := range e {
		if x.from <= off && off < x.to {
			return x.to
		}
	}
	return off
}

// total gives the number of bytes in the set.
func (e extents) total() (n int64) {
	for _, x := range e {
		n += x.to - x.from
	}
	return n
}

// next gives the first byte after off at which a span begins, or limit.
func (e extents) next(off, limit int64) int64 {
	for _, x := range e {
		if x.from > off {
			return min(x.from, limit)
		}
	}
	return limit
}
