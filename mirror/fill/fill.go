package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// ErrStored is what a Source answers, and a follower is told, when the blob turns
// out to be in the store already: read it there.
var ErrStored = errors.New("fill: already stored")

// ErrCorrupt says that an upstream's bytes do not have the digest or the size that
// they should have.
var ErrCorrupt = errors.New("fill: content does not match its digest or size")

// ErrAbandoned is the end of a fill that nobody waited for any more.
var ErrAbandoned = errors.New("fill: abandoned by its last reader")

// ErrClosed is the end of a fill whose group was closed.
var ErrClosed = errors.New("fill: shutting down")

// Withheld is how many of a blob's last bytes are kept back until its digest was
// found good.
const Withheld = 64 << 10

const (
	// near is how far behind a byte that is coming in order a reader is left to
	// wait for it rather than having it fetched out of order: less than a request
	// costs at 20 MB/s and 50 ms.
	near = 1 << 20
	// stuck is how often in a row a fetch may end with less than Withheld bytes
	// before the fill is given up.
	stuck = 4
)

// Key names what is fetched. Two requests share a fill only if their keys are
// equal: the right to a blob is that of one upstream's repository.
type Key struct {
	Upstream string
	Repo     origin.Repo
	Digest   digest.Digest
}

// Stream is an upstream's answer: the bytes asked for.
type Stream struct {
	io.ReadCloser
	Size     int64  // of the whole blob; -1 if the upstream did not say
	Upstream string // host of the endpoint that answers
}

// Source asks for n bytes of the blob from off on; n -1: to the end. It may be
// called several times, and at the same time. Its Stream gives exactly those
// bytes or ends with an error.
type Source func(ctx context.Context, off, n int64) (Stream, error)

// Keep stores the verified content of a spool of size bytes. It is called at most
// once per fill, while followers go on reading.
type Keep func(ctx context.Context, spool *os.File, size int64) error

// Fill is one blob on its way.
type Fill struct {
	key    Key
	src    Source
	group  *Group
	spool  *Spool
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // workers

	// Guarded by group.mu.
	refs   int         // those who joined and have not left
	linger *time.Timer // runs while nobody is there
	ended  bool        // the group has forgotten it

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change; nil if nobody waits
	turn     func()        // gives back its turn among the upstream's fills; nil: has none
	opened   bool          // the upstream has answered
	upstream string        // the endpoint that did
	size     int64         // -1: not known yet
	landed   extents       // bytes in the spool
	claims   []*claim      // what the workers are fetching
	wants    []int64       // offsets that readers wait for and no worker is near
	received int64         // bytes landed, in all
	verified bool          // size and digest are good
	err      error         // why it failed
}

// claim is the stretch that one worker is fetching: [pos, end). end is -1 while the
// blob's size is not known.
type claim struct{ pos, end int64 }

// Upstream is the host of the endpoint that answered first, "" before that.
func (f *Fill) Upstream() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.upstream
}

// notify wakes everyone who waits for a change. f.mu is held.
func (f *Fill) notify() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// change gives a channel that is closed at the next change. f.mu is held.
func (f *Fill) change() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// fail ends the fill. The first reason is the one that everybody sees.
func (f *Fill) fail(err error) {
	f.mu.Lock()
	if f.err == nil && !f.verified {
		f.err = err
		f.notify()
	}
	f.mu.Unlock()
	f.cancel(err)
}

// answered takes note of an upstream's answer. Its size must be the one already
// known.
func (f *Fill) answered(s Stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Size >= 0 && f.size >= 0 && s.Size != f.size {
		return fmt.Errorf("%w: upstream says %d bytes, expected %d", ErrCorrupt, s.Size, f.size)
	}
	if s.Size >= 0 && f.size < 0 {
		f.sized(s.Size)
	}
	if !f.opened {
		f.opened, f.upstream = true, s.Upstream
		f.notify()
	}
	return nil
}

// sized fixes the size of the blob. f.mu is held.
func (f *Fill) sized(size int64) {
	f.size = size
	for _, c := range f.claims {
		if c.end < 0 {
			c.end = size
		}
	}
	f.notify()
}

// complete reports whether all bytes are in the spool; an empty blob is there once
// the upstream has said that it has it. f.mu is held.
func (f *Fill) complete() bool { return f.opened && f.size >= 0 && f.landed.end(0) == f.size }

// visible gives the end of what a reader at off may read: what has landed from
// there on, but for the blob's last bytes before the verdict. f.mu is held.
func (f *Fill) visible(off int64) int64 {
	if f.verified {
		return f.size
	}
	end := f.landed.end(off)
	if f.size >= 0 {
		end = min(end, f.size-Withheld)
	} else {
		end -= Withheld
	}
	return max(end, off)
}
