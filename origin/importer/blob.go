package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// blob takes a blob. Errors: errNotThere.
func (in *intake) blob(ctx context.Context, want v1.Descriptor) error {
	err := in.blobs.do(want.Digest, func() error {
		if err := in.turns.Acquire(ctx, 1); err != nil {
			return err
		}
		defer in.turns.Release(1)
		return in.takeBlob(ctx, want)
	})
	if err != nil {
		return fmt.Errorf("blob %s: %w", want.Digest, err)
	}
	return nil
}

func (in *intake) takeBlob(ctx context.Context, want v1.Descriptor) error {
	have, err := in.to.Stat(ctx, in.repo, want.Digest)
	switch {
	case err == nil && have.Size != want.Size:
		return fmt.Errorf("has %d bytes here, not %d", have.Size, want.Size)
	case err == nil:
		return nil
	case !wanting(err):
		return told(err)
	}
	f, err := in.from.blob(ctx, want.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return errors.New("is not a file")
	case fi.Size() != want.Size:
		return fmt.Errorf("is corrupt: it has %d bytes, not %d", fi.Size(), want.Size)
	}
	if in.seen(want.Digest) {
		if ok, err := in.mount(ctx, want.Digest); ok || err != nil {
			return err
		}
	}
	bar := in.opts.Show.Blob(in.repo.String(), want)
	linked, err := in.move(ctx, f, want.Digest, bar)
	bar.End(err)
	if err == nil {
		in.see(want.Digest)
		in.count(func(s *Summary) {
			s.Blobs++
			s.Bytes += want.Size
			if linked {
				s.Linked++
			}
		})
	}
	return err
}

// move brings a blob's bytes into the repository, by a link where that can be.
func (in *intake) move(ctx context.Context, f fs.File, d digest.Digest, bar Bar) (linked bool, err error) {
	if file, ok := f.(*os.File); ok && in.links() {
		linked, err := in.link(ctx, file, d, bar)
		if linked || err != nil {
			return linked, err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
		bar = silent{}
	}
	return false, in.copy(ctx, f, d, bar)
}

// link takes over a file without a copy. It is false where one is needed.
func (in *intake) link(ctx context.Context, f *os.File, d digest.Digest, bar Bar) (bool, error) {
	verifier := d.Verifier()
	if _, err := io.Copy(verifier, reading{ctx, f, bar}); err != nil {
		return false, err
	}
	if !verifier.Verified() {
		return false, errCorrupt
	}
	// What no repository has may be collected before this one has it.
	const tries = 3
	for range tries {
		_, err := in.opts.Linker.Link(ctx, f, d)
		if errors.Is(err, store.ErrForeign) {
			in.copyFromNowOn()
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if ok, err := in.mount(ctx, d); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// errCorrupt says that content does not have the digest that it is named by.
var errCorrupt = errors.New("is corrupt: its content has another digest")

// mount links a blob that the registry has, somewhere, into the repository. It is false
// where it has none.
func (in *intake) mount(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := in.to.Mount(ctx, origin.Repo{}, in.repo, d)
	switch {
	case err == nil:
		return true, nil
	case origin.Unknown(err):
		return false, nil
	case errors.Is(err, origin.ErrUnsupported):
		// Registries need not mount; one that takes no push says so of the upload, too.
		return false, nil
	default:
		return false, told(err)
	}
}

// copy uploads a blob.
func (in *intake) copy(ctx context.Context, r io.Reader, d digest.Digest, bar Bar) error {
	up, err := in.to.Upload(ctx, in.repo, "", d.Algorithm())
	if err != nil {
		return told(err)
	}
	defer func() { _ = up.Cancel() }() // a no-op once it is committed
	if _, err := io.Copy(up, reading{ctx, r, bar}); err != nil {
		return told(err)
	}
	_, err = up.Commit(ctx, d)
	if errors.Is(err, origin.ErrDigestInvalid) {
		return errCorrupt
	}
	return told(err)
}

func (t *taker) seen(d digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.verified[d]
	return ok
}

func (t *taker) see(d digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.verified[d] = struct{}{}
}

// links reports whether to try to link a file. The files of a source are alike: where one
// could not be linked, all others are read only once.
func (t *taker) links() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opts.Linker != nil && !t.copies
}

func (t *taker) copyFromNowOn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.copies = true
}

// reading is a Reader that ends with its context and shows what was read.
type reading struct {
	ctx context.Context
	r   io.Reader
	bar Bar
}

func (r reading) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.r.Read(p)
	r.bar.Add(n)
	return n, err
}

type silent struct{}

func (silent) Add(int)   {}
func (silent) End(error) {}
