package fill

import (
	"context"
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
	blob, err := f.follow(ctx, r)
	if err != nil {
		f.group.leave(f)
	}
	return blob, err
}

func (f *Fill) follow(ctx context.Context, r store.Range) (origin.Blob, error) {
	size, err := f.ready(ctx, !r.Whole())
	if err != nil {
		return origin.Blob{}, err
	}
	off, n := int64(0), int64(-1)
	if size >= 0 {
		if off, n, err = r.Resolve(size); err != nil {
			return origin.Blob{}, err
		}
	}
	file, err := f.spool.Open(off)
	if err != nil {
		return origin.Blob{}, err
	}
	return origin.Blob{
		Descriptor: f.descriptor(size),
		Offset:     off, Length: n,
		Body: &follower{ctx: ctx, fill: f, file: file, off: off, left: n},
	}, nil
}

// Stat waits until the upstream has answered, and describes the blob; its size is
// -1 if the upstream did not say. It gives back what Join gave.
func (f *Fill) Stat(ctx context.Context) (origin.Descriptor, error) {
	defer f.group.leave(f)
	size, err := f.ready(ctx, false)
	if err != nil {
		return origin.Descriptor{}, err
	}
	return f.descriptor(size), nil
}

func (f *Fill) descriptor(size int64) origin.Descriptor {
	return origin.Descriptor{
		Descriptor: v1.Descriptor{MediaType: "application/octet-stream", Digest: f.key.Digest, Size: size},
		Source:     origin.Source{Cache: origin.Filled, Upstream: f.Upstream()},
	}
}

// ready waits for the upstream's answer, and for the size too where it is needed. Of
// a small blob all is withheld, so it waits for the verdict: one that is bad then has
// an error for an answer, and not a body that is cut.
func (f *Fill) ready(ctx context.Context, sized bool) (size int64, err error) {
	for {
		f.mu.Lock()
		opened, size, err, change := f.opened && (f.size < 0 || f.size > Withheld || f.verified), f.size, f.err, f.change()
		f.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case opened && (size >= 0 || !sized):
			return size, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// follower is one reader's body. It keeps the context of the one request that it
// belongs to.
type follower struct {
	ctx  context.Context
	fill *Fill
	file *os.File // its offset is off
	off  int64
	left int64 // bytes still to give; -1 while the size is not known
}

// await waits until bytes can be read at the follower's offset, and gives how many;
// 0 at the end of what it was asked for.
func (b *follower) await() (int64, error) {
	f := b.fill
	for {
		f.mu.Lock()
		if b.left < 0 && f.verified {
			b.left = f.size - b.off
		}
		n, err := f.visible(b.off)-b.off, f.err
		if n <= 0 && err == nil && b.left != 0 && !f.verified {
			f.want(b.off)
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
	avail, err := b.await()
	if err != nil {
		return 0, err
	}
	if avail == 0 {
		return 0, io.EOF
	}
	n, err := b.file.Read(p[:min(int64(len(p)), avail)])
	b.advance(int64(n))
	return n, noEOF(err)
}

// WriteTo implements io.WriterTo: it hands the spool's file to w.ReadFrom in steps,
// so that a socket is fed by the kernel, and flushes what came so far.
func (b *follower) WriteTo(w io.Writer) (total int64, err error) {
	flusher, _ := w.(interface{ FlushError() error })
	for {
		avail, err := b.await()
		if err != nil || avail == 0 {
			return total, err
		}
		n, err := io.CopyN(w, b.file, min(avail, store.Step))
		total += n
		b.advance(n)
		if err == nil && flusher != nil {
			err = flusher.FlushError()
		}
		if err != nil {
			return total, noEOF(err)
		}
	}
}

// noEOF makes a file that ends too early an error.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
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
	f.group.leave(f)
	return b.file.Close()
}
