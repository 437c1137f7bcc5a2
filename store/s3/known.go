package s3

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// knownMost is how many pointers each of two generations keeps: some 300 bytes each,
// and 500 more where a client was sent to its bytes.
const knownMost = 16 << 10

// known are the pointers that were read or written last. What one says of bytes stays true
// as long as they are there, since no other bytes get their name; that a blob still exists
// it says for a moment only.
//
// It keeps two generations: when the young one is full it becomes the old one, and what is
// used of that one moves back. So all that was used last is kept, and nothing is sorted.
type known struct {
	mu         sync.Mutex
	young, old map[digest.Digest]pointer
}

func newKnown() *known { return &known{young: map[digest.Digest]pointer{}} }

func (k *known) get(d digest.Digest) (pointer, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p, ok := k.young[d]; ok {
		return p, true
	}
	p, ok := k.old[d]
	if ok {
		k.keep(d, p)
	}
	return p, ok
}

func (k *known) put(d digest.Digest, p pointer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keep(d, p)
}

// amend puts a pointer in the place of what is known, if that was seen at the same time: a
// blob that was deleted meanwhile does not come back.
func (k *known) amend(d digest.Digest, p pointer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if is, ok := k.young[d]; ok && is.seen.Equal(p.seen) {
		k.keep(d, p)
	}
}

// keep puts a pointer among the young; k.mu is held.
func (k *known) keep(d digest.Digest, p pointer) {
	if len(k.young) >= knownMost {
		k.young, k.old = make(map[digest.Digest]pointer), k.young
	}
	k.young[d] = p
}

func (k *known) forget(d digest.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.young, d)
	delete(k.old, d)
}
