package local

import (
	"iter"
	"slices"
	"sort"
	"strings"
)

// chunkSize is half of the most items in a chunk: what an insertion moves is at
// most 1,024 items, where one slice of 100,000 would move 1.6 MB.
const chunkSize = 512

// sorted holds items in the byte order of their keys. A change costs the search
// and one chunk, however many items there are.
type sorted[T any] struct {
	chunks [][]item[T] // none is empty
	n      int
}

type item[T any] struct {
	value T // first: a last field without size would cost a word
	key   string
}

// find gives the place of the key: the chunk to look in (-1: before the first),
// and the position there.
func (s *sorted[T]) find(key string) (chunk, pos int, found bool) {
	chunk = sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i][0].key > key }) - 1
	if chunk < 0 {
		return chunk, 0, false
	}
	pos, found = slices.BinarySearchFunc(s.chunks[chunk], key, func(it item[T], key string) int {
		return strings.Compare(it.key, key)
	})
	return chunk, pos, found
}

// set adds the item, or replaces the one of that key, which it gives.
func (s *sorted[T]) set(it item[T]) (old item[T], replaced bool) {
	c, p, found := s.find(it.key)
	if found {
		old, s.chunks[c][p] = s.chunks[c][p], it
		return old, true
	}
	s.n++
	if len(s.chunks) == 0 {
		s.chunks = [][]item[T]{{it}}
		return old, false
	}
	c = max(c, 0)
	s.chunks[c] = slices.Insert(s.chunks[c], p, it)
	if full := s.chunks[c]; len(full) == 2*chunkSize {
		s.chunks[c] = full[:chunkSize:chunkSize]
		s.chunks = slices.Insert(s.chunks, c+1, slices.Clone(full[chunkSize:]))
	}
	return old, false
}

// remove takes the item of that key out, and gives it.
func (s *sorted[T]) remove(key string) (old item[T], removed bool) {
	c, p, found := s.find(key)
	if !found {
		return old, false
	}
	s.n--
	old = s.chunks[c][p]
	s.chunks[c] = slices.Delete(s.chunks[c], p, p+1)
	if len(s.chunks[c]) == 0 {
		s.chunks = slices.Delete(s.chunks, c, c+1)
	}
	return old, true
}

// after gives the items whose keys are greater than key, in order.
func (s *sorted[T]) after(key string) iter.Seq[item[T]] {
	return func(yield func(item[T]) bool) {
		c, p, found := s.find(key)
		if found {
			p++
		}
		for c = max(c, 0); c < len(s.chunks); c++ {
			for _, it := range s.chunks[c][p:] {
				if !yield(it) {
					return
				}
			}
			p = 0
		}
	}
}
