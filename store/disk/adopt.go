package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Adopt implements store.Adopter for files below the store's root, by a link.
// Errors: ErrForeign for others, and where the file system has no links;
// ErrDigest if d is none.
func (b *Blobs) Adopt(ctx context.Context, f *os.File, d digest.Digest) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	info, err := b.adopt(f, d)
	if err != nil {
		return store.Info{}, fmt.Errorf("adopt %q: %w", d, err)
	}
	return info, nil
}

func (b *Blobs) adopt(f *os.File, d digest.Digest) (store.Info, error) {
	if !store.ValidDigest(d) {
		return store.Info{}, store.ErrDigest
	}
	name, err := b.s.within(f)
	if err != nil {
		return store.Info{}, err
	}
	if err := b.s.fs.Touch(name, time.Now()); err != nil {
		return store.Info{}, err
	}
	if err := b.s.fs.Sync(name); err != nil {
		return store.Info{}, err
	}
	info, _, err := b.settle(d,
		func(blob string) error { return b.s.fs.Link(name, blob) },
		func(blob string) error { return b.s.fs.Remove(blob) })
	if noLinks(err) {
		err = fmt.Errorf("%w: %w", store.ErrForeign, err)
	}
	return info, err
}

// within gives f's name relative to the root. Errors: ErrForeign, also where the
// name is not f's any more.
func (s *Store) within(f *os.File) (string, error) {
	mine, err := f.Stat()
	if err != nil {
		return "", err
	}
	dir, err := filepath.Abs(filepath.Dir(f.Name()))
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", store.ErrForeign
	}
	name, err := filepath.Rel(s.dir, filepath.Join(dir, filepath.Base(f.Name())))
	if err != nil || !filepath.IsLocal(name) {
		return "", store.ErrForeign
	}
	named, err := s.root.Lstat(name)
	if err != nil || !named.Mode().IsRegular() || !os.SameFile(mine, named) {
		return "", store.ErrForeign
	}
	return name, nil
}
