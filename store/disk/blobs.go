package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Blobs is a store.Blobs, a store.Adopter and a store.Linker.
type Blobs struct {
	s       *Store
	boot    string  // the kernel's boot; "" where it is not known
	locks   stripes // of digests: held while one appears or goes
	shelves *shelves

	mu   sync.Mutex
	held map[string]struct{} // ids of ingests
}

var (
	_ store.Blobs   = (*Blobs)(nil)
	_ store.Adopter = (*Blobs)(nil)
	_ store.Linker  = (*Blobs)(nil)

	_ store.Quarantiner = (*Blobs)(nil)
)

// algorithms are those that blobs are named by.
var algorithms = [...]digest.Algorithm{digest.SHA256, digest.SHA512}

// blobPath is the file of a valid digest.
func blobPath(d digest.Digest) string {
	return path.Join(blobsDir, string(d.Algorithm()), d.Encoded())
}

// Stat implements store.Blobs.
func (b *Blobs) Stat(ctx context.Context, d digest.Digest) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	info, err := b.stat(d)
	if err != nil {
		return store.Info{}, fmt.Errorf("stat blob %q: %w", d, err)
	}
	return info, nil
}

func (b *Blobs) stat(d digest.Digest) (store.Info, error) {
	if !store.ValidDigest(d) {
		return store.Info{}, store.ErrNotFound
	}
	fi, err := b.shelves.lstat(blobPath(d))
	if err != nil {
		return store.Info{}, b.s.missing(err)
	}
	return infoOf(d, fi)
}

func infoOf(d digest.Digest, fi fs.FileInfo) (store.Info, error) {
	if !fi.Mode().IsRegular() {
		return store.Info{}, errors.New("not a regular file")
	}
	return store.Info{Digest: d, Size: fi.Size(), Modified: fi.ModTime()}, nil
}

// Open implements store.Blobs. The Body is a store.FileBody.
func (b *Blobs) Open(ctx context.Context, d digest.Digest, r store.Range) (store.Blob, error) {
	if err := ctx.Err(); err != nil {
		return store.Blob{}, err
	}
	blob, err := b.open(d, r)
	if err != nil {
		return store.Blob{}, fmt.Errorf("open blob %q: %w", d, err)
	}
	return blob, nil
}

func (b *Blobs) open(d digest.Digest, r store.Range) (_ store.Blob, err error) {
	if !store.ValidDigest(d) {
		return store.Blob{}, store.ErrNotFound
	}
	f, err := b.shelves.file(blobPath(d))
	if err != nil {
		return store.Blob{}, b.s.missing(err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return store.Blob{}, err
	}
	info, err := infoOf(d, fi)
	if err != nil {
		return store.Blob{}, err
	}
	off, n, err := r.Resolve(info.Size)
	if err != nil {
		return store.Blob{}, err
	}
	if off > 0 {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return store.Blob{}, err
		}
	}
	return store.Blob{Info: info, Offset: off, Length: n, Body: store.FileBody(f, n)}, nil
}

// Delete implements store.Blobs. Durable when it returns.
func (b *Blobs) Delete(ctx context.Context, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.remove(d); err != nil {
		return fmt.Errorf("delete blob %q: %w", d, err)
	}
	return nil
}

func (b *Blobs) remove(d digest.Digest) error {
	if !store.ValidDigest(d) {
		return store.ErrNotFound
	}
	lock := b.locks.of(string(d))
	lock.Lock()
	defer lock.Unlock()
	if _, err := b.s.root.Lstat(blobPath(d)); err != nil {
		return b.s.missing(err)
	}
	return b.s.take(blobPath(d))
}

// Quarantine implements store.Quarantiner: the file is then in the directory quarantine.
func (b *Blobs) Quarantine(ctx context.Context, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.quarantine(d); err != nil {
		return fmt.Errorf("quarantine blob %q: %w", d, err)
	}
	return nil
}

// quarantine does not move the file back when a sync fails: it is one that nobody is to
// read, and after a crash it may be in either place.
func (b *Blobs) quarantine(d digest.Digest) error {
	if !store.ValidDigest(d) {
		return store.ErrNotFound
	}
	lock := b.locks.of(string(d))
	lock.Lock()
	defer lock.Unlock()
	if _, err := b.s.root.Lstat(blobPath(d)); err != nil {
		return b.s.missing(err)
	}
	leave, err := b.s.dirs.enter(quarantineDir)
	if err != nil {
		return err
	}
	defer leave()
	if err := b.s.fs.Rename(blobPath(d), path.Join(quarantineDir, string(d.Algorithm())+"-"+d.Encoded())); err != nil {
		return err
	}
	return errors.Join(b.s.dirs.sync(quarantineDir), b.s.dirs.sync(path.Dir(blobPath(d))))
}

// All implements store.Blobs.
func (b *Blobs) All(ctx context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for _, alg := range algorithms {
			if !b.list(ctx, alg, path.Join(blobsDir, string(alg)), yield) {
				return
			}
		}
	}
}

// list lists the blobs of one directory, and reports whether to go on.
func (b *Blobs) list(ctx context.Context, alg digest.Algorithm, dir string, yield func(store.Info, error) bool) bool {
	for fi, err := range b.s.files(dir) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(store.Info{}, fmt.Errorf("list blobs: %w", err))
			return false
		}
		d := digest.NewDigestFromEncoded(alg, fi.Name())
		if !store.ValidDigest(d) {
			continue
		}
		if !yield(store.Info{Digest: d, Size: fi.Size(), Modified: fi.ModTime()}, nil) {
			return false
		}
	}
	return true
}

// settle makes durable content visible as d, durably: move gives it its name in
// the store, and back takes that back. A blob that is there already is kept, and
// move is not called.
//
// The lock is held until the directory is synced. So whoever finds the blob there
// and drops his own bytes does not rely on a name that may yet be taken back. He
// syncs the directory too: the process that made the name may have been killed
// before it could.
func (b *Blobs) settle(d digest.Digest, move, back func(name string) error) (info store.Info, moved bool, err error) {
	lock := b.locks.of(string(d))
	lock.Lock()
	defer lock.Unlock()
	name := blobPath(d)
	leave, err := b.s.dirs.enter(path.Dir(name))
	if err != nil {
		return store.Info{}, false, err
	}
	defer leave()
	if info, err := b.stat(d); err == nil {
		return info, false, b.s.dirs.sync(path.Dir(name))
	}
	if err := move(name); err != nil {
		b.s.dirs.forgetIfGone(err)
		return store.Info{}, false, err
	}
	if err := b.s.dirs.sync(path.Dir(name)); err != nil {
		return store.Info{}, false, errors.Join(err, back(name))
	}
	info, err = b.stat(d)
	return info, true, err
}
