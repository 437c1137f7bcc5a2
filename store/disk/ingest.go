package disk

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// flushStep is how much is received before the system begins to write it to the
// disk. Left to itself the kernel waits for seconds, or for a tenth of the memory,
// and the commit would wait for all of that: of 2 GiB received at 350 MiB/s it took
// 1.2 s, and takes 0.1 to 0.3 s so.
const flushStep = 16 << 20

// ingest is a store.Ingest. Its file has exactly the bytes that were written to
// it, and hash is theirs.
type ingest struct {
	b    *Blobs
	id   string
	alg  digest.Algorithm
	size int64
	file File      // nil once the ingest was let go of
	hash hash.Hash // nil if it must be made anew from the file
	// saved is the size that the saved state is of, -1 if there is none.
	saved int64
	// flushed is how far the system was asked to write.
	flushed int64
}

func dataName(id string, alg digest.Algorithm) string {
	return path.Join(ingestDir, id+"."+string(alg))
}

func (g *ingest) name() string { return dataName(g.id, g.alg) }

// Ingest implements store.Blobs. An ingest is there to be resumed after the
// process has died too: with what was written before its last Close if the
// kernel has lived on, else with what the disk has of it.
func (b *Blobs) Ingest(ctx context.Context, id string, alg digest.Algorithm) (store.Ingest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id == "" {
		g, err := b.begin(alg)
		if err != nil {
			return nil, fmt.Errorf("begin ingest: %w", err)
		}
		return g, nil
	}
	g, err := b.resume(id)
	if err != nil {
		return nil, fmt.Errorf("resume ingest %q: %w", id, err)
	}
	return g, nil
}

func (b *Blobs) begin(alg digest.Algorithm) (*ingest, error) {
	h := store.Hash(alg)
	if h == nil {
		return nil, fmt.Errorf("digest algorithm %q is not supported", alg)
	}
	leave, err := b.s.dirs.enter(ingestDir)
	if err != nil {
		return nil, err
	}
	defer leave()
	g := &ingest{b: b, id: newID(), alg: alg, hash: h, saved: -1}
	b.hold(g.id)
	g.file, err = b.s.fs.Create(g.name())
	if err != nil {
		b.s.dirs.forgetIfGone(err)
		b.release(g.id)
		return nil, err
	}
	return g, nil
}

func (b *Blobs) resume(id string) (_ *ingest, err error) {
	if !validID(id) {
		return nil, store.ErrNotFound
	}
	if !b.hold(id) {
		return nil, store.ErrBusy
	}
	defer func() {
		if err != nil {
			b.release(id)
		}
	}()
	for _, alg := range algorithms {
		fi, err := b.s.root.Lstat(dataName(id, alg))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !fi.Mode().IsRegular() || fi.Sys().(*syscall.Stat_t).Nlink != 1 {
			// No ingest is a link or has a second name. Whatever else has this file, it
			// is not written to.
			return nil, errors.Join(store.ErrNotFound, b.s.fs.Remove(dataName(id, alg)))
		}
		return b.reopen(id, alg, fi.Size())
	}
	return nil, b.s.missing(fs.ErrNotExist)
}

// reopen resumes an ingest whose file has size bytes.
func (b *Blobs) reopen(id string, alg digest.Algorithm, size int64) (*ingest, error) {
	g := &ingest{b: b, id: id, alg: alg, size: size, saved: -1}
	if size == 0 {
		g.hash = store.Hash(alg)
	} else if h, n, ok := b.loadState(id, alg, size); ok {
		g.hash, g.size, g.saved = h, n, n
	}
	file, err := b.s.fs.Append(g.name())
	if err != nil {
		return nil, err
	}
	if g.size < size {
		if err := file.Truncate(g.size); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	g.file, g.flushed = file, g.size
	return g, nil
}

// hold takes an ingest for one holder, and reports whether it was free.
func (b *Blobs) hold(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, busy := b.held[id]; busy {
		return false
	}
	b.held[id] = struct{}{}
	return true
}

func (b *Blobs) release(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.held, id)
}

// Ingests implements store.Blobs.
func (b *Blobs) Ingests(ctx context.Context) iter.Seq2[store.IngestInfo, error] {
	return func(yield func(store.IngestInfo, error) bool) {
		for fi, err := range b.s.files(ingestDir) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(store.IngestInfo{}, fmt.Errorf("list ingests: %w", err))
				return
			}
			id, alg, _ := strings.Cut(fi.Name(), ".")
			if !validID(id) || store.Hash(digest.Algorithm(alg)) == nil {
				continue // a state
			}
			if !yield(store.IngestInfo{ID: id, Size: fi.Size(), Modified: fi.ModTime()}, nil) {
				return
			}
		}
	}
}

// ID implements store.Ingest.
func (g *ingest) ID() string { return g.id }

// Size implements store.Ingest.
func (g *ingest) Size() int64 { return g.size }

// Write implements io.Writer.
func (g *ingest) Write(p []byte) (int, error) {
	if g.file == nil {
		return 0, g.ended("write")
	}
	n, err := g.file.Write(p)
	if g.hash != nil {
		g.hash.Write(p[:n])
	}
	g.size += int64(n)
	if g.size-g.flushed >= flushStep {
		g.file.Flush(g.flushed, g.size-g.flushed)
		g.flushed = g.size
	}
	if err != nil {
		return n, fmt.Errorf("write ingest %s: %w", g.id, err)
	}
	return n, nil
}

// Commit implements store.Ingest. After a failed sync of its data the ingest is
// dropped: nobody knows which of its bytes are on the disk, and the kernel would
// not say so a second time.
func (g *ingest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	if g.file == nil {
		return store.Info{}, g.ended("commit")
	}
	info, err := g.commit(ctx, d)
	if err != nil {
		return store.Info{}, fmt.Errorf("commit ingest %s as %q: %w", g.id, d, err)
	}
	return info, nil
}

func (g *ingest) commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	if err := g.verify(ctx, d); err != nil {
		if errors.Is(err, store.ErrDigest) {
			err = errors.Join(err, g.drop())
		}
		return store.Info{}, err
	}
	fsys := g.b.s.fs
	if err := fsys.Touch(g.name(), time.Now()); err != nil {
		return store.Info{}, err
	}
	if err := g.file.Sync(); err != nil {
		return store.Info{}, errors.Join(err, g.drop())
	}
	// The state goes first, so that it never outlives its data.
	if err := g.dropState(); err != nil {
		return store.Info{}, err
	}
	info, moved, err := g.b.settle(d,
		func(name string) error { return fsys.Rename(g.name(), name) },
		func(name string) error { return fsys.Rename(name, g.name()) })
	if err != nil {
		return store.Info{}, err
	}
	if !moved {
		return info, g.drop()
	}
	g.end() // its data is durable: what closing says does not matter
	return info, nil
}

// verify wants that what was written is d. Errors: ErrDigest.
func (g *ingest) verify(ctx context.Context, d digest.Digest) error {
	if !store.ValidDigest(d) {
		return store.ErrDigest
	}
	h := g.hash
	if h == nil || g.alg != d.Algorithm() {
		h = store.Hash(d.Algorithm())
		if err := g.read(ctx, h); err != nil {
			return err
		}
	}
	if got := digest.NewDigest(d.Algorithm(), h); got != d {
		return fmt.Errorf("content is %s: %w", got, store.ErrDigest)
	}
	return nil
}

// read writes to w what the ingest has received.
func (g *ingest) read(ctx context.Context, w io.Writer) error {
	f, err := g.b.s.root.Open(g.name())
	if err != nil {
		return err
	}
	defer f.Close()
	for left := g.size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(w, f, min(left, store.Step))
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// Close implements store.Ingest.
func (g *ingest) Close() error {
	if g.file == nil {
		return nil
	}
	err := g.saveState()
	if store.NoRoom(err) {
		err = errors.Join(err, g.drop()) // where there is no room, it takes none
	} else {
		err = errors.Join(err, g.end())
	}
	if err != nil {
		return fmt.Errorf("close ingest %s: %w", g.id, err)
	}
	return nil
}

// Cancel implements store.Ingest. It is a no-op after Close too, since the ingest
// may be another's by then.
func (g *ingest) Cancel() error {
	if g.file == nil {
		return nil
	}
	if err := g.drop(); err != nil {
		return fmt.Errorf("cancel ingest %s: %w", g.id, err)
	}
	return nil
}

// drop removes the ingest and lets go of it.
func (g *ingest) drop() error {
	err := errors.Join(g.dropState(), g.b.s.fs.Remove(g.name()))
	_ = g.end() // what was not written does not matter now
	return err
}

// end lets go of the ingest.
func (g *ingest) end() error {
	err := g.file.Close()
	g.file = nil
	g.b.release(g.id)
	return err
}

func (g *ingest) ended(what string) error {
	return fmt.Errorf("%s ingest %s: %w", what, g.id, fs.ErrClosed)
}
