package fill

import (
	"context"
	"fmt"
)

// verify hashes the spool in order, as far as it has landed without a gap, and
// gives the verdict when all is there: the only way to f.verified.
func (f *Fill) verify(ctx context.Context) error {
	h := f.key.Digest.Algorithm().Hash()
	buf := f.group.buffers.get()
	defer f.group.buffers.put(buf)
	for hashed := int64(0); ; {
		f.mu.Lock()
		f.dispatch(ctx)
		end, whole, err, change := f.landed.end(hashed), f.complete(), f.err, f.change()
		f.mu.Unlock()
		switch {
		case err != nil:
			return err
		case hashed < end:
			n := min(end-hashed, bufferSize)
			if _, err := f.spool.ReadAt((*buf)[:n], hashed); err != nil {
				return fmt.Errorf("%w: %w", errSpool, err)
			}
			_, _ = h.Write((*buf)[:n]) // a hash never fails
			hashed += n
			continue
		case whole:
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
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
