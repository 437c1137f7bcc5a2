package fill

import (
	"context"
	"encoding"
	"fmt"
	"hash"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// mark is a state of a blob's hash: that of its first off bytes.
type mark struct {
	off   int64
	state []byte // nil at 0
	end   int64  // how far the spool was found readable
}

// newMark takes the state of h after off bytes.
func newMark(h hash.Hash, off int64) mark {
	state, _ := h.(encoding.BinaryMarshaler).MarshalBinary() // no hash of ours fails
	return mark{off: off, state: state}
}

// hash gives a hash that goes on from there.
func (m mark) hash(alg digest.Algorithm) (hash.Hash, error) {
	h := store.Hash(alg)
	if m.state == nil {
		return h, nil
	}
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(m.state)
}

// markEvery is how far marks are apart: what a reader that goes on by itself fetches
// again at most, besides what is withheld.
const markEvery = 1 << 20

// verify hashes the spool in order, as far as it has landed without a gap, and
// gives the verdict when all is there: the only way to f.verified. If the spool is
// given up, it leaves the mark from which readers go on, and ends with errSpool.
func (f *Fill) verify(ctx context.Context) error {
	h := store.Hash(f.key.Digest.Algorithm())
	buf := f.group.buffers.get()
	defer f.group.buffers.put(buf)
	// marks[0] is behind everything that a reader may have been shown.
	marks := []mark{{}}
	for hashed := int64(0); ; {
		f.mu.Lock()
		f.dispatch(ctx)
		end, whole, err, unkept, change := f.plan.landed.end(hashed), f.complete(), f.err, f.unkept, f.change()
		f.mu.Unlock()
		switch {
		case err != nil:
			return err
		case hashed < end:
			n := min(end-hashed, bufferSize)
			if _, err := f.spool.ReadAt((*buf)[:n], hashed); err != nil {
				f.unkeep(err)
				return f.leave(marks[0], hashed)
			}
			_, _ = h.Write((*buf)[:n]) // a hash never fails
			hashed += n
			if hashed-marks[len(marks)-1].off >= markEvery {
				marks = append(marks, newMark(h, hashed))
			}
			for len(marks) > 1 && marks[1].off <= hashed-Withheld {
				marks = marks[1:]
			}
			continue
		case whole:
			return f.judge(h)
		case unkept != nil:
			return f.leave(marks[0], hashed)
		}
		<-change // whatever ends the fill before this does is one
	}
}

// judge compares the digest of the whole with the one it should have.
func (f *Fill) judge(h hash.Hash) error {
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != f.key.Digest.Encoded() {
		return fmt.Errorf("%w: %s has %s:%s", ErrCorrupt, f.key.Digest, f.key.Digest.Algorithm(), got)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.verified = true
	f.notify()
	return nil
}

// leave lets readers go on by themselves from m, once they have read what the spool
// has before end.
func (f *Fill) leave(m mark, end int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	m.end = end
	f.direct = &m
	f.notify()
	return f.unkept
}
