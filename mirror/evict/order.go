package evict

import (
	"encoding/binary"
	"iter"
)

// place is where a blob is in an order.
type place struct {
	image      uint32
	prev, next uint32 // in the image
}

// image is blobs that are used together, and leave together.
type image struct {
	first        uint32 // of its blobs
	newer, older uint32 // images that were used after and before it
	tag          uint32 // by which its blobs are known to belong together when they are written down; 0: they do not
	use          int64  // unix milliseconds
}

// order is images in the order of their use.
type order struct {
	images         *slab[image]
	at             func(i uint32) *place // of a blob, by its number in this order
	blob           func(i uint32) uint32 // its number among all
	byName         map[key]uint32        // images, by the digest of the manifest
	names          map[uint32]key        // the other way round
	newest, oldest uint32                // images
}

// of gives the blobs of an image. The one that it has given may be taken out.
func (o *order) of(g uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i := o.images.at(g).first; i != 0; {
			at := i
			if i = o.at(i).next; !yield(at) {
				return
			}
		}
	}
}

// named gives the image of that name, made if need be.
func (o *order) named(name key, use int64) uint32 {
	g, ok := o.byName[name]
	if !ok {
		g = o.newImage(use, false)
		o.byName[name], o.names[g] = g, name
		o.images.at(g).tag = max(1, binary.BigEndian.Uint32(name[:]))
	}
	return g
}

// together puts blobs into the image of that name, and makes it the most recently used one.
func (o *order) together(name key, blobs []uint32, use int64) {
	if g, ok := o.byName[name]; ok {
		o.refresh(g, use)
	}
	for _, i := range blobs {
		// The name is looked up each time: a move may take the last blob out of an image,
		// but never out of the one that it moves to.
		o.move(i, o.named(name, use))
	}
}

func (o *order) newImage(use int64, last bool) uint32 {
	g := o.images.take()
	o.images.at(g).use = use
	o.enlist(g, last)
	return g
}

// move puts a blob into another image.
func (o *order) move(i, g uint32) {
	if o.at(i).image != g {
		o.leave(i)
		o.join(i, g)
	}
}

func (o *order) join(i, g uint32) {
	b, img := o.at(i), o.images.at(g)
	b.image, b.prev, b.next = g, 0, img.first
	if img.first != 0 {
		o.at(img.first).prev = i
	}
	img.first = i
}

// leave takes a blob out of its image, which ceases to be with the last one.
func (o *order) leave(i uint32) {
	b := o.at(i)
	g := b.image
	if b.prev != 0 {
		o.at(b.prev).next = b.next
	} else {
		o.images.at(g).first = b.next
	}
	if b.next != 0 {
		o.at(b.next).prev = b.prev
	}
	b.image, b.prev, b.next = 0, 0, 0
	if o.images.at(g).first == 0 {
		o.dropImage(g)
	}
}

func (o *order) dropImage(g uint32) {
	o.delist(g)
	if name, ok := o.names[g]; ok {
		delete(o.byName, name)
		delete(o.names, g)
	}
	o.images.drop(g)
}

// refresh makes an image the most recently used one.
func (o *order) refresh(g uint32, use int64) {
	o.images.at(g).use = use
	if o.newest != g {
		o.delist(g)
		o.enlist(g, false)
	}
}

func (o *order) enlist(g uint32, last bool) {
	img := o.images.at(g)
	switch {
	case o.newest == 0:
		o.newest, o.oldest = g, g
	case last:
		img.newer = o.oldest
		o.images.at(o.oldest).older = g
		o.oldest = g
	default:
		img.older = o.newest
		o.images.at(o.newest).newer = g
		o.newest = g
	}
}

func (o *order) delist(g uint32) {
	img := o.images.at(g)
	if img.newer != 0 {
		o.images.at(img.newer).older = img.older
	} else {
		o.newest = img.older
	}
	if img.older != 0 {
		o.images.at(img.older).newer = img.newer
	} else {
		o.oldest = img.newer
	}
	img.newer, img.older = 0, 0
}
