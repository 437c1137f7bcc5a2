package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Link implements store.Linker for files of the same file system that belong to the
// user of this process and that nobody else may write to. Errors: ErrForeign for
// others; ErrDigest if d is none.
func (b *Blobs) Link(ctx context.Context, f *os.File, d digest.Digest) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	info, err := b.link(f, d)
	if err != nil {
		return store.Info{}, fmt.Errorf("link %q: %w", d, err)
	}
	return info, nil
}

// link gives f a name in tmp first: what has the name by which f was opened may be
// another file by now, and is looked at before anybody sees it as d.
func (b *Blobs) link(f *os.File, d digest.Digest) (store.Info, error) {
	if !store.ValidDigest(d) {
		return store.Info{}, store.ErrDigest
	}
	file, err := f.Stat()
	if err != nil {
		return store.Info{}, err
	}
	if !onlyOurs(file) {
		return store.Info{}, store.ErrForeign
	}
	// Nobody prunes tmp. To hold off pruning here would be to wait for oneself in settle, once
	// somebody who prunes waits in between.
	if err := b.s.dirs.make(tmpDir); err != nil {
		return store.Info{}, err
	}
	tmp := b.s.tempName()
	err = b.s.fs.LinkFile(f, tmp)
	if noLinks(err) || errors.Is(err, fs.ErrNotExist) {
		return store.Info{}, fmt.Errorf("%w: %w", store.ErrForeign, err)
	}
	if err != nil {
		return store.Info{}, err
	}
	moved := false
	defer func() {
		if !moved {
			b.s.discard(tmp)
		}
	}()
	if named, err := b.s.root.Lstat(tmp); err != nil || !os.SameFile(file, named) {
		return store.Info{}, errors.Join(store.ErrForeign, err)
	}
	if err := b.s.fs.Sync(tmp); err != nil {
		return store.Info{}, err
	}
	info, moved, err := b.settle(d,
		func(blob string) error { return b.s.fs.Rename(tmp, blob) },
		func(blob string) error { return b.s.fs.Rename(blob, tmp) })
	if err != nil {
		moved = false // it is in tmp again
	}
	return info, err
}

// onlyOurs reports whether a file is one that no user but ours may write to.
func onlyOurs(fi fs.FileInfo) bool {
	const others = 0o022
	sys, ok := fi.Sys().(*syscall.Stat_t)
	return ok && fi.Mode().IsRegular() && fi.Mode().Perm()&others == 0 && int(sys.Uid) == os.Geteuid()
}
