package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const (
	// smallest is up to which size a blob is compared with its digest each time it is
	// read, before its first byte is given: the configs of images.
	smallest = 32 << 10
	// withheld is how many of a larger blob's last bytes wait for the verdict on it.
	withheld = 64 << 10
	// believed is how long a verdict stands: what a disk spoils meanwhile is given.
	believed = 24 * time.Hour
	// verdictBudget is in bytes: some 60,000 blobs.
	verdictBudget = 16 << 20
)

// verdicts are on blobs that were read and compared with their digests. Their bytes then
// go out as the store has them, which a disk does without their coming by.
type verdicts struct {
	good *lru[digest.Digest, verdict]

	mu      sync.Mutex
	running map[digest.Digest]*reading
}

// verdict is that a blob was good.
type verdict struct {
	of store.Info
	at time.Time
}

func newVerdicts() *verdicts {
	return &verdicts{good: newLRU[digest.Digest, verdict](verdictBudget), running: map[digest.Digest]*reading{}}
}

// stands reports whether it is known that the blob is good.
func (v *verdicts) stands(info store.Info) bool {
	known, ok := v.good.get(info.Digest)
	return ok && same(known.of, info) && time.Since(known.at) < believed
}

// same reports whether two descriptions are of the same bytes, and not of some that came
// anew.
func same(a, b store.Info) bool { return a.Size == b.Size && a.Modified.Equal(b.Modified) }

// reading is a blob being read for all who wait for the verdict on it.
type reading struct {
	waiting int           // guarded by verdicts.mu; nobody: it ends
	cancel  func()        // of the reading
	done    chan struct{} // closed when there is a verdict
	info    store.Info    // what was read
	err     error         // ErrDamaged, or why there is no verdict
}

// await joins the reading of a blob, or begins it. The caller leaves it. Errors:
// ErrBlobUnknown.
func (r *Registry) await(ctx context.Context, d digest.Digest) (at *reading, leave func(), err error) {
	v := r.verdicts
	if at := v.join(d, nil); at != nil {
		return at, func() { v.leave(d, at) }, nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b, err := r.Raw(ctx, d) // now, so that nobody deletes it before
	if err != nil {
		cancel()
		return nil, nil, err
	}
	begun := &reading{cancel: cancel, done: make(chan struct{})}
	if at = v.join(d, begun); at != begun {
		cancel()
		_ = b.Body.Close() // of which nothing was read
	} else {
		go func() {
			at.info, at.err = r.judge(ctx, b)
			v.end(d, at)
		}()
	}
	return at, func() { v.leave(d, at) }, nil
}

// join gives the reading of a blob that is under way, or else begun, to one more who waits.
func (v *verdicts) join(d digest.Digest, begun *reading) *reading {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, ok := v.running[d]
	if !ok && begun != nil {
		at, v.running[d] = begun, begun
	}
	if at != nil {
		at.waiting++
	}
	return at
}

// leave takes note that one waits no more. The last one ends the reading.
func (v *verdicts) leave(d digest.Digest, at *reading) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at.waiting--; at.waiting == 0 {
		at.cancel()
		v.forget(d, at)
	}
}

// end tells the verdict.
func (v *verdicts) end(d digest.Digest, at *reading) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at.cancel()
	v.forget(d, at)
	close(at.done)
}

// forget lets the next one begin anew; mu is held.
func (v *verdicts) forget(d digest.Digest, at *reading) {
	if v.running[d] == at {
		delete(v.running, d)
	}
}

// judge reads a blob, and once more if it seems to be damaged: it may be the reading that
// went wrong. What is wrong twice is quarantined. Errors: ErrDamaged.
func (r *Registry) judge(ctx context.Context, b store.Blob) (store.Info, error) {
	err := rehash(ctx, b)
	if errors.Is(err, origin.ErrDamaged) {
		if b, err = r.Raw(ctx, b.Digest); err == nil {
			err = rehash(ctx, b)
		}
		if errors.Is(err, origin.ErrDamaged) {
			return b.Info, errors.Join(err, r.Quarantine(ctx, b.Info))
		}
	}
	if err == nil {
		r.verdicts.good.put(b.Digest, verdict{b.Info, time.Now()}, entryCost+int64(len(b.Digest)))
	}
	return b.Info, err
}

// rehash compares the bytes of a blob with its digest, and closes it. Errors: ErrDamaged.
func rehash(ctx context.Context, b store.Blob) error {
	defer b.Body.Close()
	v, buf := b.Digest.Verifier(), make([]byte, 128<<10)
	for {
		n, err := b.Body.Read(buf)
		_, _ = v.Write(buf[:n]) // a hash takes all
		switch {
		case err == io.EOF && !v.Verified():
			return fmt.Errorf("blob %s: %w", b.Digest, origin.ErrDamaged)
		case err == io.EOF:
			return nil
		case err == nil:
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read blob %s: %w", b.Digest, err)
		}
	}
}

// Raw implements origin.Scrubber.
func (r *Registry) Raw(ctx context.Context, d digest.Digest) (store.Blob, error) {
	b, err := r.blobs.Open(ctx, d, store.Range{})
	if errors.Is(err, store.ErrDamaged) {
		b = store.Blob{Info: store.Info{Digest: d}, Body: io.NopCloser(broken{err})}
		if info, err := r.blobs.Stat(ctx, d); err == nil {
			b.Info = info
		}
		return b, nil
	}
	if err != nil {
		return b, blobError(d, err)
	}
	return b, nil
}

// broken has no bytes.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// Quarantine implements origin.Scrubber. Nobody links the blob meanwhile: whoever is told
// that it is there has been told before.
func (r *Registry) Quarantine(ctx context.Context, was store.Info) error {
	l := r.blobLocks.of(origin.Repo{}, was.Digest.String())
	l.Lock()
	defer l.Unlock()
	is, err := r.blobs.Stat(ctx, was.Digest)
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		return blobError(was.Digest, err)
	}
	if err == nil && !same(is, was) {
		return origin.ErrInUse
	}
	away := r.blobs.Delete
	if q, ok := r.blobs.(store.Quarantiner); ok {
		away = q.Quarantine
	}
	if err := away(ctx, was.Digest); err != nil {
		return blobError(was.Digest, err)
	}
	r.log.ErrorContext(ctx, "blob is damaged and quarantined", "digest", was.Digest.String())
	return nil
}

// open opens a blob that a client reads. All its bytes, or its last ones, are not given
// before they are known to be good: of a small one at once, of others at the end.
func (r *Registry) open(ctx context.Context, d digest.Digest, rng store.Range) (store.Blob, error) {
	b, err := r.blobs.Open(ctx, d, rng)
	switch {
	case errors.Is(err, store.ErrDamaged):
		return b, r.away(ctx, d)
	case err != nil:
		return b, blobError(d, err)
	case b.Size <= smallest:
		return r.sound(ctx, d, rng, b)
	case b.Verified:
		b.Body = &watched{b.Body, ctx, r, d}
	case b.Offset+b.Length == b.Size && !r.verdicts.stands(b.Info):
		at, leave, err := r.await(ctx, d)
		if err != nil {
			_ = b.Body.Close() // of which nothing was read
			return b, err
		}
		b.Body = &verified{ctx: ctx, blob: b, left: b.Length - withheld, reading: at, leave: leave}
	}
	return b, nil
}

// away takes a blob away that cannot be opened, and says what it is from then on.
func (r *Registry) away(ctx context.Context, d digest.Digest) error {
	at, leave, err := r.await(ctx, d)
	if err != nil {
		return err
	}
	defer leave()
	select {
	case <-at.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if at.err == nil || errors.Is(at.err, store.ErrDamaged) {
		return blobError(d, store.ErrNotFound)
	}
	return at.err
}

// sound gives an opened small blob after it was compared with its digest. One that is
// wrong is quarantined, and unknown.
func (r *Registry) sound(ctx context.Context, d digest.Digest, rng store.Range, b store.Blob) (store.Blob, error) {
	whole := b
	if b.Length != b.Size {
		_ = b.Body.Close()
		var err error
		if whole, err = r.blobs.Open(ctx, d, store.Range{}); err != nil {
			return whole, blobError(d, err)
		}
	}
	defer whole.Body.Close()
	data := make([]byte, whole.Size)
	if _, err := io.ReadFull(whole.Body, data); err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return store.Blob{}, blobError(d, err)
	}
	if d.Algorithm().FromBytes(data) != d {
		if err := r.Quarantine(ctx, whole.Info); err != nil && !origin.Unknown(err) && !errors.Is(err, origin.ErrInUse) {
			return store.Blob{}, fmt.Errorf("blob %s is damaged: %w", d, err)
		}
		return store.Blob{}, blobError(d, store.ErrNotFound)
	}
	off, n, err := rng.Resolve(whole.Size)
	if err != nil {
		return store.Blob{}, blobError(d, err)
	}
	whole.Offset, whole.Length = off, n
	whole.Body = io.NopCloser(bytes.NewReader(data[off : off+n]))
	return whole, nil
}

// verified is a body that reaches the end of its blob, whose last bytes wait for the
// verdict on all of them. The bytes before go out as the store has them.
type verified struct {
	ctx     context.Context // of who reads
	blob    store.Blob
	left    int64    // until bytes are withheld
	reading *reading // nil: it was found good
	leave   func()
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	if v.left > 0 {
		p = p[:min(int64(len(p)), v.left)]
	} else if err := v.judge(); err != nil {
		return 0, err
	}
	n, err := v.blob.Body.Read(p)
	v.left -= int64(n)
	return n, err
}

// WriteTo implements io.WriterTo.
func (v *verified) WriteTo(w io.Writer) (n int64, err error) {
	if v.left > 0 {
		n, err = store.CopyN(w, v.blob.Body, v.left)
		v.left -= n
	}
	if err == nil {
		err = v.judge()
	}
	if err != nil {
		return n, err
	}
	m, err := io.Copy(w, v.blob.Body)
	return n + m, err
}

// judge waits for the verdict.
func (v *verified) judge() error {
	if v.reading == nil {
		return nil
	}
	select {
	case <-v.reading.done:
	case <-v.ctx.Done():
		return context.Cause(v.ctx)
	}
	switch {
	case v.reading.err != nil:
		return v.reading.err
	case !same(v.reading.info, v.blob.Info):
		return fmt.Errorf("blob %s came anew while it was read: %w", v.blob.Digest, origin.ErrInUse)
	}
	v.reading = nil
	return nil
}

// Close implements io.Closer.
func (v *verified) Close() error {
	v.leave()
	v.leave = func() {}
	return v.blob.Body.Close()
}

// watched is a body that the store verifies. A blob that it finds damaged is taken away,
// so that it is fetched or pushed anew.
type watched struct {
	io.ReadCloser
	ctx      context.Context // of who reads
	registry *Registry
	digest   digest.Digest
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if errors.Is(err, store.ErrDamaged) {
		err = errors.Join(err, w.registry.away(w.ctx, w.digest))
	}
	return n, err
}
