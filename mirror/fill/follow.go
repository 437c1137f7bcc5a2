package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Follow opens the range r of the blob for one reader, and waits until the
// upstream has answered: then the first byte, or the reason why there is none,
// is near. The Body ends when ctx does. Closing it, or an error of Follow, gives
// back what Join gave. Errors: ErrStored, store.ErrRange, and those of the Source.
func (f *Fill) Follow(ctx context.Context, r store.Range) (origin.Blob, error) {
	f.link(ctx)
	blob, err := f.follow(ctx, r)
	if err != nil {
		f.group.leave(f)
	}
	return blob, err
}

func (f *Fill) follow(ctx context.Context, r store.Range) (origin.Blob, error) {
	size, m, err := f.ready(ctx, !r.Whole())
	if err != nil {
		return origin.Blob{}, f.yielded(ctx, err)
	}
	if m != nil && size < 0 {
		if size, err = f.measure(ctx); err != nil {
			return origin.Blob{}, err
		}
	}
	off, n := int64(0), int64(-1)
	if size >= 0 {
		if off, n, err = r.Resolve(size); err != nil {
			return origin.Blob{}, err
		}
	} else if !r.Whole() {
		return origin.Blob{}, fmt.Errorf("%w: no room, and the upstream does not say how large the blob is", errSpool)
	}
	b := &follower{ctx: ctx, fill: f, start: off, off: off, left: n}
	if err := b.open(m); err != nil {
		return origin.Blob{}, errors.Join(err, b.closeStreams())
	}
	return origin.Blob{
		Descriptor: f.descriptor(size),
		Offset:     off, Length: n,
		Body: b,
	}, nil
}

// Stat waits until the upstream has answered, and describes the blob; its size is
// -1 if the upstream did not say. It gives back what Join gave.
func (f *Fill) Stat(ctx context.Context) (origin.Descriptor, error) {
	defer f.group.leave(f)
	f.link(ctx)
	size, m, err := f.ready(ctx, false)
	if err == nil && m != nil && f.Upstream() == "" {
		size, err = f.measure(ctx)
	}
	if err != nil {
		return origin.Descriptor{}, f.yielded(ctx, err)
	}
	return f.descriptor(size), nil
}

func (f *Fill) descriptor(size int64) origin.Descriptor {
	f.mu.Lock()
	defer f.mu.Unlock()
	cache := origin.Filled
	if f.unkept != nil {
		cache = origin.Miss
	}
	return origin.Descriptor{
		Descriptor: v1.Descriptor{MediaType: "application/octet-stream", Digest: f.key.Digest, Size: size},
		Source:     origin.Source{Cache: cache, Upstream: f.upstream},
	}
}

// ready waits for the upstream's answer, and for the size too where it is needed. Of
// a small blob all is withheld, so it waits for the verdict: one that is bad then has
// an error for an answer, and not a body that is cut. m is there if the spool is no
// use any more.
func (f *Fill) ready(ctx context.Context, sized bool) (size int64, m *mark, err error) {
	for {
		f.mu.Lock()
		opened := f.opened && f.unkept == nil && (f.size < 0 || f.size > Withheld || f.verified)
		size, m, err, change := f.size, f.direct, f.err, f.change()
		f.mu.Unlock()
		switch {
		case err != nil:
			return 0, nil, err
		case m != nil, opened && (size >= 0 || !sized):
			return size, m, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return 0, nil, context.Cause(ctx)
		}
	}
}

// measure asks the upstream how large the blob is.
func (f *Fill) measure(ctx context.Context) (int64, error) {
	s, err := f.src(ctx, 0, -1)
	if err != nil {
		return 0, err
	}
	_ = s.Close() // its header was all that was wanted
	return s.Size, f.answered(s)
}

// follower is one reader's body. It keeps the context of the one request that it
// belongs to.
type follower struct {
	ctx    context.Context
	fill   *Fill
	file   *os.File // its offset is off
	direct *direct  // instead of file, from some point on
	start  int64
	off    int64
	left   int64 // bytes still to give; -1 while the size is not known
}

// open opens the spool; with a mark, where it has what is wanted, else a stream.
func (b *follower) open(m *mark) error {
	f := b.fill
	f.mu.Lock()
	spool, use := f.spool, m == nil || f.visible(b.off) > b.off
	f.mu.Unlock()
	if use && spool != nil {
		var err error
		if b.file, err = spool.Open(b.off); err == nil {
			return nil
		}
		m = &mark{}
	}
	if err := b.goDirect(*m); err != nil {
		return err
	}
	return errors.Join(b.direct.open(), b.direct.settle())
}

// goDirect goes on without the spool.
func (b *follower) goDirect(m mark) (err error) {
	b.direct, err = b.fill.newDirect(b.ctx, m, b.off, b.left, b.start, b.file)
	return err
}

// await waits until bytes can be read at the follower's offset, and gives how many;
// 0 at the end of what it was asked for, or once it has gone on without the spool.
func (b *follower) await() (int64, error) {
	f := b.fill
	for {
		f.mu.Lock()
		if b.left < 0 && f.verified {
			b.left = f.size - b.off
		}
		n, m, err := f.visible(b.off)-b.off, f.direct, f.err
		if n <= 0 && err == nil && b.left != 0 && !f.verified && f.plan.want(b.off) {
			f.notify() // the verifier has somebody fetch it
		}
		change := f.change()
		f.mu.Unlock()
		if b.left >= 0 {
			n = min(n, b.left)
		}
		switch {
		case b.left == 0:
			return 0, nil
		case n > 0 && err == nil:
			return n, nil
		case err != nil:
			return 0, err
		case m != nil:
			return 0, b.goDirect(*m)
		}
		select {
		case <-change:
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		}
	}
}

func (b *follower) advance(n int64) {
	b.off += n
	if b.left >= 0 {
		b.left -= n
	}
}

// Read implements io.Reader.
func (b *follower) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for b.direct == nil {
		avail, err := b.await()
		if err != nil {
			return 0, err
		}
		if avail == 0 {
			break
		}
		n, err := b.file.Read(p[:min(int64(len(p)), avail)])
		b.advance(int64(n))
		if n > 0 {
			return n, nil
		}
		if err != nil {
			if err := b.goDirect(mark{}); err != nil {
				return 0, err
			}
		}
	}
	if b.direct == nil {
		return 0, io.EOF
	}
	return b.direct.Read(p)
}

// WriteTo implements io.WriterTo: it hands the spool's file to w.ReadFrom in steps,
// so that a socket is fed by the kernel, and flushes what came so far.
func (b *follower) WriteTo(w io.Writer) (total int64, err error) {
	flusher, _ := w.(interface{ FlushError() error })
	flush := func() error {
		if flusher == nil {
			return nil
		}
		return flusher.FlushError()
	}
	for b.direct == nil {
		avail, err := b.await()
		if err != nil {
			return total, err
		}
		if avail == 0 {
			break
		}
		n, err := io.CopyN(w, b.file, min(avail, store.Step))
		total += n
		b.advance(n)
		if err != nil && !b.readable() {
			err = b.goDirect(mark{})
		}
		if err == nil {
			err = flush()
		}
		if err != nil {
			return total, err
		}
	}
	for buf := make([]byte, directBuffer); b.direct != nil; {
		n, err := b.direct.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return total, err
			}
			total += int64(n)
			if err := flush(); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// readable reports whether the spool has the follower's next byte, so that what went
// wrong is its reader's.
func (b *follower) readable() bool {
	_, err := b.file.ReadAt(make([]byte, 1), b.off)
	return err == nil
}

func (b *follower) closeStreams() (err error) {
	if b.direct != nil {
		err = b.direct.Close()
	}
	if b.file != nil {
		err = errors.Join(err, b.file.Close())
	}
	return err
}

// Close implements io.Closer.
func (b *follower) Close() error {
	if b.fill == nil {
		return os.ErrClosed
	}
	f := b.fill
	b.fill = nil
	err := b.closeStreams()
	f.group.leave(f)
	return err
}
