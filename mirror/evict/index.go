package evict

import "hash/maphash"

// index finds blobs by their keys. Those are in the blobs, and not held once more, as they would
// be by a map, which takes more for a million blobs than all else that is known of them.
type index struct {
	blobs *slab[blob]
	seed  maphash.Seed // who chooses digests does not choose where they are
	parts [256]part    // each grows by itself, so that nobody waits for all of it
}

// part is numbers of blobs, each at its hash or in the next free slot behind; a power of two of them.
type part struct {
	slots []uint32 // 0: free
	used  int
}

func newIndex(blobs *slab[blob]) index { return index{blobs: blobs, seed: maphash.MakeSeed()} }

// slot gives where a key is, or belongs, in a part that has slots.
func (x *index) slot(k key) (p *part, slot uint64) {
	h := x.hash(k)
	p = &x.parts[h>>56]
	if len(p.slots) == 0 {
		return p, 0
	}
	slot = h & p.mask()
	for p.slots[slot] != 0 && x.blobs.at(p.slots[slot]).key != k {
		slot = (slot + 1) & p.mask()
	}
	return p, slot
}

func (x *index) hash(k key) uint64 { return maphash.Bytes(x.seed, k[:]) }

func (p *part) mask() uint64 { return uint64(len(p.slots) - 1) }

// find gives the number of a blob; 0: it is not there.
func (x *index) find(k key) (i uint32, ok bool) {
	p, slot := x.slot(k)
	if len(p.slots) == 0 {
		return 0, false
	}
	return p.slots[slot], p.slots[slot] != 0
}

// insert puts in a blob that is not there.
func (x *index) insert(i uint32) {
	k := x.blobs.at(i).key
	p, slot := x.slot(k)
	if p.used >= len(p.slots)/4*3 {
		before := p.slots
		p.slots = make([]uint32, max(8, 2*len(before)))
		for _, old := range before {
			if old != 0 {
				_, slot := x.slot(x.blobs.at(old).key)
				p.slots[slot] = old
			}
		}
		_, slot = x.slot(k)
	}
	p.slots[slot] = i
	p.used++
}

// remove takes out a blob that is there.
func (x *index) remove(k key) {
	p, free := x.slot(k)
	p.used--
	// What stands behind moves up, unless it would be before its hash.
	for slot := (free + 1) & p.mask(); p.slots[slot] != 0; slot = (slot + 1) & p.mask() {
		home := x.hash(x.blobs.at(p.slots[slot]).key)
		if (slot-home)&p.mask() >= (slot-free)&p.mask() {
			p.slots[free] = p.slots[slot]
			free = slot
		}
	}
	p.slots[free] = 0
}
