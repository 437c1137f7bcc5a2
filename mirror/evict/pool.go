package evict

// held is a blob that a repository with a quota links.
type held struct {
	size int64  // bytes, as they are counted here
	blob uint32 // in the table of all
	place
}

// pool is what a repository with a quota links, in the order of its use there. Of its
// blobs it has numbers: what else is known of them is in the table of all, where they are as
// long as they are here.
type pool struct {
	order
	held   *slab[held]
	byBlob map[uint32]uint32 // held, by the number of the blob
	bytes  int64
}

// pools are what pools are made of. Many small ones share theirs.
type pools struct {
	held   slab[held]
	images slab[image]
}

func newPool(of *pools) *pool {
	p := &pool{held: &of.held, byBlob: map[uint32]uint32{}}
	p.order = order{
		images: &of.images, byName: map[key]uint32{}, names: map[uint32]key{},
		at:   func(i uint32) *place { return &of.held.at(i).place },
		blob: func(i uint32) uint32 { return of.held.at(i).blob },
	}
	return p
}

// has reports whether a blob is in it.
func (p *pool) has(blob uint32) bool {
	_, ok := p.byBlob[blob]
	return ok
}

// add puts a blob in, as an image of its own, the most recently used one. If it is there,
// its size is corrected.
func (p *pool) add(blob uint32, size, use int64) uint32 {
	if i, ok := p.byBlob[blob]; ok {
		h := p.held.at(i)
		p.bytes += size - h.size
		h.size = size
		return i
	}
	i, g := p.held.take(), p.newImage(use, false)
	*p.held.at(i) = held{blob: blob, size: size}
	p.byBlob[blob] = i
	p.join(i, g)
	p.bytes += size
	return i
}

// remove takes a blob out, if it is there.
func (p *pool) remove(blob uint32) {
	i, ok := p.byBlob[blob]
	if !ok {
		return
	}
	p.bytes -= p.held.at(i).size
	p.leave(i)
	p.held.drop(i)
	delete(p.byBlob, blob)
}

// touch makes a blob's image the most recently used one.
func (p *pool) touch(blob uint32, use int64) {
	if i, ok := p.byBlob[blob]; ok {
		p.refresh(p.at(i).image, use)
	}
}
