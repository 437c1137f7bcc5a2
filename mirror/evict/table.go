package evict

import (
	"crypto/sha256"
	"encoding/binary"
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
	key        key
	size       int64 // bytes
	image      uint32
	prev, next uint32 // in the image
	links      uint32 // the first of them; 0: none are known
}

// image is blobs that are used together, and leave together.
type image struct {
	first        uint32 // of its blobs
	newer, older uint32 // images that were used after and before it
	tag          uint32 // by which its blobs are known to belong together when they are written down; 0: they do not
	use          int64  // unix milliseconds
}

// table is what there is, in the order of its use.
type table struct {
	*slabs
	byKey          map[key]uint32        // blobs
	byName         map[key]uint32        // images, by the digest of the manifest
	names          map[uint32]key        // the other way round
	long           map[key]digest.Digest // those that are not sha256
	newest, oldest uint32                // images
	bytes          int64
}

// slabs are what tables are made of. Many small ones share theirs.
type slabs struct {
	blobs  slab[blob]
	images slab[image]
}

func newTable(of *slabs) *table {
	return &table{slabs: of, byKey: map[key]uint32{}, byName: map[key]uint32{}, names: map[uint32]key{}, long: map[key]digest.Digest{}}
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
	if i, ok := t.byKey[k]; ok {
		b := t.blobs.at(i)
		t.bytes += size - b.size
		b.size = size
		return i
	}
	i, g := t.blobs.take(), t.newImage(use, last)
	*t.blobs.at(i) = blob{key: k, size: size}
	t.byKey[k] = i
	t.join(i, g)
	t.bytes += size
	return i
}

// remove takes a blob out, and gives its size.
func (t *table) remove(k key) (size int64, ok bool) {
	i, ok := t.byKey[k]
	if !ok {
		return 0, false
	}
	size = t.blobs.at(i).size
	t.leave(i)
	t.blobs.drop(i)
	delete(t.byKey, k)
	delete(t.long, k)
	t.bytes -= size
	return size, true
}

// touch makes a blob's image the most recently used one.
func (t *table) touch(k key, use int64) bool {
	i, ok := t.byKey[k]
	if ok {
		t.refresh(t.blobs.at(i).image, use)
	}
	return ok
}

// named gives the image of that name, made if need be.
func (t *table) named(name key, use int64) uint32 {
	g, ok := t.byName[name]
	if !ok {
		g = t.newImage(use, false)
		t.byName[name], t.names[g] = g, name
		t.images.at(g).tag = max(1, binary.BigEndian.Uint32(name[:]))
	}
	return g
}

func (t *table) newImage(use int64, last bool) uint32 {
	g := t.images.take()
	t.images.at(g).use = use
	t.enlist(g, last)
	return g
}

// move puts a blob into another image.
func (t *table) move(i, g uint32) {
	if t.blobs.at(i).image != g {
		t.leave(i)
		t.join(i, g)
	}
}

func (t *table) join(i, g uint32) {
	b, img := t.blobs.at(i), t.images.at(g)
	b.image, b.prev, b.next = g, 0, img.first
	if img.first != 0 {
		t.blobs.at(img.first).prev = i
	}
	img.first = i
}

// leave takes a blob out of its image, which ceases to be with the last one.
func (t *table) leave(i uint32) {
	b := t.blobs.at(i)
	g := b.image
	if b.prev != 0 {
		t.blobs.at(b.prev).next = b.next
	} else {
		t.images.at(g).first = b.next
	}
	if b.next != 0 {
		t.blobs.at(b.next).prev = b.prev
	}
	b.image, b.prev, b.next = 0, 0, 0
	if t.images.at(g).first == 0 {
		t.dropImage(g)
	}
}

func (t *table) dropImage(g uint32) {
	t.delist(g)
	if name, ok := t.names[g]; ok {
		delete(t.byName, name)
		delete(t.names, g)
	}
	t.images.drop(g)
}

// refresh makes an image the most recently used one.
func (t *table) refresh(g uint32, use int64) {
	t.images.at(g).use = use
	if t.newest != g {
		t.delist(g)
		t.enlist(g, false)
	}
}

func (t *table) enlist(g uint32, last bool) {
	img := t.images.at(g)
	switch {
	case t.newest == 0:
		t.newest, t.oldest = g, g
	case last:
		img.newer = t.oldest
		t.images.at(t.oldest).older = g
		t.oldest = g
	default:
		img.older = t.newest
		t.images.at(t.newest).newer = g
		t.newest = g
	}
}

func (t *table) delist(g uint32) {
	img := t.images.at(g)
	if img.newer != 0 {
		t.images.at(img.newer).older = img.older
	} else {
		t.newest = img.older
	}
	if img.older != 0 {
		t.images.at(img.older).newer = img.newer
	} else {
		t.oldest = img.newer
	}
	img.newer, img.older = 0, 0
}
