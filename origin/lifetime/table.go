package lifetime

import (
	"bytes"
	"encoding/hex"
	"slices"

	"github.com/opencontainers/go-digest"
)

// key is the beginning of a digest's bytes: all of a sha256, half of a sha512. Two
// contents with one key would be kept together.
type key [32]byte

func keyOf(d digest.Digest) (k key) {
	_, _ = hex.Decode(k[:], []byte(d.Encoded()[:2*len(k)])) // a digest is hex
	return k
}

// table has a value for each of many digests. First all are added, then it is sealed,
// and from then on looked into. It takes little more than what is in it.
type table[V any] struct {
	buckets [256][]entry[V]
}

type entry[V any] struct {
	key   key
	value V
}

func (t *table[V]) add(k key, v V) {
	b := &t.buckets[k[0]]
	*b = append(*b, entry[V]{k, v})
}

// seal sorts the table. Where a digest was added more than once, prefer says whether the
// first value counts rather than the second.
func (t *table[V]) seal(prefer func(a, b V) bool) {
	for i, b := range t.buckets {
		slices.SortFunc(b, func(x, y entry[V]) int { return bytes.Compare(x.key[:], y.key[:]) })
		n := 0
		for _, e := range b {
			switch {
			case n == 0 || b[n-1].key != e.key:
				b[n] = e
				n++
			case prefer(e.value, b[n-1].value):
				b[n-1] = e
			}
		}
		t.buckets[i] = b[:n]
	}
}

// find gives the value of a digest, to be read or written; nil if it was not added.
func (t *table[V]) find(k key) *V {
	b := t.buckets[k[0]]
	i, ok := slices.BinarySearchFunc(b, k, func(e entry[V], k key) int { return bytes.Compare(e.key[:], k[:]) })
	if !ok {
		return nil
	}
	return &b[i].value
}

// all visits the entries, in order.
func (t *table[V]) all(yield func(key, *V) bool) {
	for _, b := range t.buckets {
		for i := range b {
			if !yield(b[i].key, &b[i].value) {
				return
			}
		}
	}
}
