package evict

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/opencontainers/go-digest"
)

// key names a blob or an image: the bytes of a sha256 digest, or the sha256 of any
// other. A million digests as text would be a hundred megabytes more.
type key [sha256.Size]byte

func keyOf(d digest.Digest) key {
	var k key
	if d.Algorithm() == digest.SHA256 {
		if n, err := hex.Decode(k[:], []byte(d.Encoded())); err == nil && n == len(k) {
			return k
		}
	}
	return sha256.Sum256([]byte(d))
}

// slab holds many small things, named by numbers from 1 on, without a pointer for each.
type slab[T any] struct {
	pages [][]T
	used  uint32
	free  []uint32
}

const page = 4096

func (s *slab[T]) at(i uint32) *T { return &s.pages[i/page][i%page] }

func (s *slab[T]) take() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	s.used++ // 0 is none
	if int(s.used/page) >= len(s.pages) {
		s.pages = append(s.pages, make([]T, page))
	}
	return s.used
}

func (s *slab[T]) drop(i uint32) {
	var none T
	*s.at(i) = none
	s.free = append(s.free, i)
}

// blob is one that is stored. It is always in an image, be it one without a name.
type blob struct {
	key  key
	size int64 // bytes
	place
	links uint32 // the first of them; 0: none are known
}

// table is what there is, in the order of its use.
type table struct {
	order
	index
	blobs slab[blob]
	long  map[key]digest.Digest // those that are not sha256
	bytes int64
}

func newTable() *table {
	t := &table{long: map[key]digest.Digest{}}
	t.index = newIndex(&t.blobs)
	t.order = order{
		images: &slab[image]{}, byName: map[key]uint32{}, names: map[uint32]key{},
		at:   func(i uint32) *place { return &t.blobs.at(i).place },
		blob: func(i uint32) uint32 { return i },
	}
	return t
}

// digest is the digest of a blob that is in the table.
func (t *table) digest(k key) digest.Digest {
	if d, ok := t.long[k]; ok {
		return d
	}
	return digest.Digest("sha256:" + hex.EncodeToString(k[:]))
}

// add puts a blob in, as an image of its own, the most recently used one; or the least,
// if last says so. If it is there, its size is corrected.
func (t *table) add(d digest.Digest, size int64, use int64, last bool) uint32 {
	k := keyOf(d)
	if d.Algorithm() != digest.SHA256 {
		t.long[k] = d
	}
	return t.addKey(k, size, use, last)
}

// addKey is add for a blob whose digest is sha256, or known.
func (t *table) addKey(k key, size int64, use int64, last bool) uint32 {
	if i, ok := t.find(k); ok {
		b := t.blobs.at(i)
		t.bytes += size - b.size
		b.size = size
		return i
	}
	i, g := t.blobs.take(), t.newImage(use, last)
	*t.blobs.at(i) = blob{key: k, size: size}
	t.insert(i)
	t.join(i, g)
	t.bytes += size
	return i
}

// remove takes a blob out, and gives its size.
func (t *table) remove(k key) (size int64, ok bool) {
	i, ok := t.find(k)
	if !ok {
		return 0, false
	}
	size = t.blobs.at(i).size
	t.leave(i)
	t.index.remove(k)
	t.blobs.drop(i)
	delete(t.long, k)
	t.bytes -= size
	return size, true
}

// touch makes a blob's image the most recently used one.
func (t *table) touch(k key, use int64) bool {
	i, ok := t.find(k)
	if ok {
		t.refresh(t.blobs.at(i).image, use)
	}
	return ok
}
