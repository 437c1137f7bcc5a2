package fill

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"io"
	"os"
)

// direct is the body of a reader that the spool cannot serve any more: a stream of
// its own from the upstream. What reaches the blob's end is verified, by a copy of
// the hash up to where it begins, and its last bytes are withheld like a fill's. It
// keeps the context of the one request that it belongs to.
type direct struct {
	ctx    context.Context
	fill   *Fill
	pos    int64 // of the next byte from the upstream
	end    int64 // where it ends; -1: with the blob, whose size is not known
	size   int64 // of the blob; -1: not known
	skip   int64 // bytes to be left out before the first that is given
	shown  *os.File
	from   int64     // bytes from here on were shown of that file, up to those to be given
	hash   hash.Hash // nil: it does not reach the blob's end
	good   bool      // all has come, and is verified where it must be
	stream io.ReadCloser
	tries  patience
	landed int64 // since the stream was asked for
	buf    []byte
	r, w   int // what is in buf
}

// directBuffer holds what is withheld, and as much again.
const directBuffer = 2 * Withheld

// direct gives the stretch [off, off+left) of the blob, left -1: to its end, to a
// reader that was shown [from, off) of the spool in file (nil: nothing).
func (f *Fill) newDirect(ctx context.Context, m mark, off, left, from int64, file *os.File) (*direct, error) {
	f.mu.Lock()
	size := f.size
	f.mu.Unlock()
	d := &direct{ctx: ctx, fill: f, pos: off, end: -1, size: size, from: off, buf: make([]byte, directBuffer)}
	if left >= 0 {
		d.end = off + left
	}
	if d.end >= 0 && d.end < size {
		return d, nil
	}
	var err error
	if d.hash, err = m.hash(f.key.Digest.Algorithm()); err != nil {
		return nil, fmt.Errorf("%w: %w", errSpool, err)
	}
	d.pos, d.skip, d.end = m.off, off-m.off, size
	if file != nil {
		// What the verifier did not see may have been shown already; the same bytes
		// must come again.
		d.shown, d.from = file, max(from, m.off)
	}
	return d, nil
}

// open asks the upstream, and waits for its answer.
func (d *direct) open() error {
	for d.stream == nil {
		n := d.end - d.pos
		if d.end < 0 || d.pos == 0 && d.end == d.size {
			n = -1
		}
		s, err := d.fill.src(d.ctx, d.pos, n)
		if err == nil {
			if err = d.fill.answered(s); err == nil {
				err = skip(s, d.pos)
			}
			if err == nil {
				d.stream, d.landed = s, 0
				d.sized(s.Size)
				return nil
			}
			_ = s.Close() // nothing of it is wanted
		}
		if d.fill.hopeless(err) || !d.tries.again(d.ctx, 0, err) {
			return err
		}
	}
	return nil
}

func (d *direct) sized(size int64) {
	if d.size < 0 && size >= 0 {
		d.size = size
		if d.end < 0 {
			d.end = size
		}
	}
}

// Read implements io.Reader.
func (d *direct) Read(p []byte) (int, error) {
	for len(p) > 0 {
		ready := d.w - d.r
		if d.hash != nil && !d.good {
			ready -= Withheld
		}
		switch {
		case ready > 0 && d.skip > 0:
			n := min(int64(ready), d.skip)
			if err := d.same(d.buf[d.r : d.r+int(n)]); err != nil {
				return 0, err
			}
			d.r, d.skip = d.r+int(n), d.skip-n
		case ready > 0:
			n := copy(p, d.buf[d.r:d.r+ready])
			d.r += n
			return n, nil
		case d.good:
			return 0, io.EOF
		default:
			if err := d.more(); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}

// same checks that b, which is left out, is what the reader was shown instead.
func (d *direct) same(b []byte) error {
	at := d.pos - int64(d.w-d.r) // of b
	if d.shown == nil || at+int64(len(b)) <= d.from {
		return nil
	}
	if at < d.from {
		b, at = b[d.from-at:], d.from
	}
	was := make([]byte, len(b))
	if _, err := d.shown.ReadAt(was, at); err != nil {
		return fmt.Errorf("%w: %w", errSpool, err)
	}
	if !bytes.Equal(was, b) {
		return fmt.Errorf("%w: the upstream gave other bytes before", ErrCorrupt)
	}
	return nil
}

// more reads from the upstream, and gives the verdict at the end.
func (d *direct) more() error {
	if d.end >= 0 && d.pos == d.end {
		return d.judge()
	}
	if err := d.open(); err != nil {
		return err
	}
	d.w, d.r = copy(d.buf, d.buf[d.r:d.w]), 0
	room := len(d.buf) - d.w
	if d.end >= 0 {
		room = int(min(int64(room), d.end-d.pos))
	}
	n, err := d.stream.Read(d.buf[d.w : d.w+room])
	if d.hash != nil {
		_, _ = d.hash.Write(d.buf[d.w : d.w+n]) // a hash never fails
	}
	d.w, d.pos, d.landed = d.w+n, d.pos+int64(n), d.landed+int64(n)
	switch {
	case err == nil:
		return nil
	case err == io.EOF && d.end < 0:
		d.end = d.pos
		return nil
	case err == io.EOF && d.pos == d.end:
		return nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	// It broke off: the rest is asked for where it did.
	_ = d.stream.Close()
	d.stream = nil
	if d.fill.hopeless(err) || !d.tries.again(d.ctx, d.landed, err) {
		return err
	}
	return nil
}

func (d *direct) judge() error {
	if d.hash != nil {
		want := d.fill.key.Digest
		if got := fmt.Sprintf("%x", d.hash.Sum(nil)); got != want.Encoded() {
			return fmt.Errorf("%w: %s has %s:%s", ErrCorrupt, want, want.Algorithm(), got)
		}
	}
	d.good = true
	return nil
}

// settle waits for the verdict on a blob that is withheld as a whole.
func (d *direct) settle() error {
	for d.hash != nil && d.size >= 0 && d.size <= Withheld && !d.good {
		if err := d.more(); err != nil {
			return err
		}
	}
	return nil
}

// Close implements io.Closer.
func (d *direct) Close() error {
	if d.stream == nil {
		return nil
	}
	return d.stream.Close()
}
