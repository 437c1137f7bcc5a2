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
	"go.opentelemetry.io/otel/trace"

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

// errSpool marks a spool that cannot be made, written or read.
var errSpool = errors.New("fill: spool")

// Withheld is how many of a blob's last bytes are kept back until its digest was
// found good.
const Withheld = 64 << 10

// Key names what is fetched. Two requests share a fill only if their keys are
// equal: the right to a blob is that of one upstream's repository.
type Key struct {
	Upstream string
	Repo     origin.Repo
	Digest   digest.Digest
}

// Stream is an upstream's answer.
type Stream struct {
	io.ReadCloser
	Offset   int64  // of its first byte: 0 if the upstream has no ranges
	Length   int64  // bytes it has; -1 if the upstream did not say
	Size     int64  // of the whole blob; -1 if the upstream did not say
	Upstream string // host of the endpoint that answers
}

// Source asks for n bytes of the blob from off on; n -1: to the end. It may be
// called several times, and at the same time. Its Stream gives exactly those bytes,
// or the whole blob where the upstream has no ranges, or ends with an error.
// Errors: ErrStored; store.ErrRange where nothing begins at off; others.
type Source func(ctx context.Context, off, n int64) (Stream, error)

// Keep stores the verified content of a spool of size bytes. It is called at most
// once per fill, while followers go on reading.
type Keep func(ctx context.Context, spool *os.File, size int64) error

// Fill is one blob on its way.
type Fill struct {
	key    Key
	src    Source
	share  *share // nil: there are no replicas
	group  *Group
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // workers, and the one that proves what a spool has
	span   trace.Span     // where somebody wants to know of it; ended with it

	// Guarded by group.mu.
	refs   int         // those who joined and have not left
	linger *time.Timer // runs while nobody is there
	ended  bool        // the group has forgotten it
	kept   bool        // its spool was left to the next fill
	ahead  bool        // nobody has asked for it: see Group.Ahead

	gone chan struct{} // closed when the group has forgotten it

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change; nil if nobody waits
	turn     func()        // gives back its turn among the upstream's fills; nil: has none
	spool    *Spool        // nil before it was made, and if none could be
	opened   bool          // the upstream has answered, or all was here already
	upstream string        // the endpoint that did
	size     int64         // -1: not known yet
	reserved int64         // bytes that the budget has for it
	plan     plan          // what is there, what is coming
	verified bool          // size and digest are good
	err      error         // why it failed
	unkept   error         // why the spool is no use any more: see law 9
	dropped  bool          // what is fetched is not to be stored
	storing  chan struct{} // closed when it was handed to Keep; nil: not begun
	direct   *mark         // where readers go on by themselves then
}

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

// fail ends the fill. The first reason is the one that everybody sees: it reports whether
// it is this one.
func (f *Fill) fail(err error) (first bool) {
	f.mu.Lock()
	if first = f.err == nil && !f.verified && f.unkept == nil; first {
		f.err = err
		f.notify()
	}
	f.mu.Unlock()
	f.cancel(err)
	return first
}

// unkeep gives the spool up. Nothing more is fetched into it; readers go on by
// themselves once it is known how far it is good.
func (f *Fill) unkeep(err error) {
	f.mu.Lock()
	if f.err == nil && !f.verified && f.unkept == nil {
		f.unkept = fmt.Errorf("%w: %w", errSpool, err)
		f.notify()
	}
	f.mu.Unlock()
}

// over reports whether nothing is to be fetched any more. f.mu is held.
func (f *Fill) over() bool { return f.err != nil || f.unkept != nil }

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
	f.open(s.Upstream)
	return nil
}

// open takes note of the first answer. f.mu is held.
func (f *Fill) open(upstream string) {
	if !f.opened {
		f.opened, f.upstream = true, upstream
		f.notify()
	}
}

// sized fixes the size of the blob. f.mu is held.
func (f *Fill) sized(size int64) {
	f.size = size
	f.plan.sized(size)
	f.notify()
}

// complete reports whether all bytes are in the spool; an empty blob is there once
// the upstream has said that it has it. f.mu is held.
func (f *Fill) complete() bool { return f.opened && f.size >= 0 && f.plan.landed.end(0) == f.size }

// visible gives the end of what a reader at off may read in the spool: what has
// landed from there on, but for the blob's last bytes before the verdict. f.mu is
// held.
func (f *Fill) visible(off int64) int64 {
	if f.verified {
		return f.size
	}
	end := f.plan.landed.end(off)
	if f.direct != nil {
		end = min(end, f.direct.end)
	}
	if f.size >= 0 {
		end = min(end, f.size-Withheld)
	} else {
		end -= Withheld
	}
	return max(end, off)
}
