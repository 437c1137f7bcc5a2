package mem

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Blobs is a store.Blobs in memory.
type Blobs struct {
	mu      sync.Mutex
	blobs   map[digest.Digest]blob
	ingests map[string]*upload
}

type blob struct {
	data     []byte // never written to again
	modified time.Time
}

// upload is what an ingest leaves behind when it is closed. Its holder alone
// writes it, under the lock of Blobs.
type upload struct {
	held     bool
	alg      digest.Algorithm
	hash     hash.Hash
	data     []byte
	modified time.Time
}

var _ store.Blobs = (*Blobs)(nil)

// NewBlobs gives an empty store.
func NewBlobs() *Blobs {
	return &Blobs{blobs: make(map[digest.Digest]blob), ingests: make(map[string]*upload)}
}

// Stat implements store.Blobs.
func (b *Blobs) Stat(ctx context.Context, d digest.Digest) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stat(d)
}

func (b *Blobs) stat(d digest.Digest) (store.Info, error) {
	found, ok := b.blobs[d]
	if !ok {
		return store.Info{}, fmt.Errorf("blob %s: %w", d, store.ErrNotFound)
	}
	return store.Info{Digest: d, Size: int64(len(found.data)), Modified: found.modified}, nil
}

// Open implements store.Blobs.
func (b *Blobs) Open(ctx context.Context, d digest.Digest, r store.Range) (store.Blob, error) {
	if err := ctx.Err(); err != nil {
		return store.Blob{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	info, err := b.stat(d)
	if err != nil {
		return store.Blob{}, err
	}
	off, n, err := r.Resolve(info.Size)
	if err != nil {
		return store.Blob{}, fmt.Errorf("blob %s: %w", d, err)
	}
	body := io.NopCloser(bytes.NewReader(b.blobs[d].data[off : off+n]))
	return store.Blob{Info: info, Offset: off, Length: n, Body: body}, nil
}

// Delete implements store.Blobs.
func (b *Blobs) Delete(ctx context.Context, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.stat(d); err != nil {
		return err
	}
	delete(b.blobs, d)
	return nil
}

// All implements store.Blobs. It lists what is there when it is called.
func (b *Blobs) All(ctx context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		b.mu.Lock()
		digests := slices.Collect(maps.Keys(b.blobs))
		b.mu.Unlock()
		for _, d := range digests {
			if err := ctx.Err(); err != nil {
				yield(store.Info{}, err)
				return
			}
			b.mu.Lock()
			info, err := b.stat(d)
			b.mu.Unlock()
			if err == nil && !yield(info, nil) {
				return
			}
		}
	}
}

// Ingest implements store.Blobs.
func (b *Blobs) Ingest(ctx context.Context, id string, alg digest.Algorithm) (store.Ingest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if id != "" {
		up, ok := b.ingests[id]
		if !ok {
			return nil, fmt.Errorf("ingest %q: %w", id, store.ErrNotFound)
		}
		if up.held {
			return nil, fmt.Errorf("ingest %s: %w", id, store.ErrBusy)
		}
		up.held = true
		return &ingest{blobs: b, id: id, size: int64(len(up.data)), up: up}, nil
	}
	h := store.Hash(alg)
	if h == nil {
		return nil, fmt.Errorf("ingest: digest algorithm %q is not supported", alg)
	}
	var random [16]byte
	rand.Read(random[:])
	id = hex.EncodeToString(random[:])
	up := &upload{held: true, alg: alg, hash: h, modified: time.Now()}
	b.ingests[id] = up
	return &ingest{blobs: b, id: id, up: up}, nil
}

// Ingests implements store.Blobs.
func (b *Blobs) Ingests(ctx context.Context) iter.Seq2[store.IngestInfo, error] {
	return func(yield func(store.IngestInfo, error) bool) {
		b.mu.Lock()
		list := make([]store.IngestInfo, 0, len(b.ingests))
		for id, up := range b.ingests {
			list = append(list, store.IngestInfo{ID: id, Size: int64(len(up.data)), Modified: up.modified})
		}
		b.mu.Unlock()
		for _, info := range list {
			if err := ctx.Err(); err != nil {
				yield(store.IngestInfo{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

type ingest struct {
	blobs *Blobs
	id    string
	size  int64
	up    *upload // nil once the ingest was let go of
}

// ID implements store.Ingest.
func (g *ingest) ID() string { return g.id }

// Size implements store.Ingest.
func (g *ingest) Size() int64 { return g.size }

// Write implements io.Writer.
func (g *ingest) Write(p []byte) (int, error) {
	if g.up == nil {
		return 0, g.ended()
	}
	g.blobs.mu.Lock()
	defer g.blobs.mu.Unlock()
	g.up.data = append(g.up.data, p...)
	g.size += int64(len(p))
	g.up.hash.Write(p)
	g.up.modified = time.Now()
	return len(p), nil
}

// Commit implements store.Ingest.
func (g *ingest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	if g.up == nil {
		return store.Info{}, g.ended()
	}
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	g.blobs.mu.Lock()
	defer g.blobs.mu.Unlock()
	up := g.up
	g.drop()
	if !store.ValidDigest(d) {
		return store.Info{}, fmt.Errorf("commit %q: %w", d, store.ErrDigest)
	}
	got := digest.NewDigest(up.alg, up.hash)
	if d.Algorithm() != up.alg {
		got = d.Algorithm().FromBytes(up.data)
	}
	if got != d {
		return store.Info{}, fmt.Errorf("commit %s: content is %s: %w", d, got, store.ErrDigest)
	}
	if _, ok := g.blobs.blobs[d]; !ok {
		g.blobs.blobs[d] = blob{data: up.data, modified: time.Now()}
	}
	return g.blobs.stat(d)
}

// Close implements store.Ingest.
func (g *ingest) Close() error {
	g.blobs.mu.Lock()
	defer g.blobs.mu.Unlock()
	if g.up != nil {
		g.up.held = false
		g.up = nil
	}
	return nil
}

// Cancel implements store.Ingest.
func (g *ingest) Cancel() error {
	g.blobs.mu.Lock()
	defer g.blobs.mu.Unlock()
	if g.up != nil {
		g.drop()
	}
	return nil
}

func (g *ingest) drop() {
	delete(g.blobs.ingests, g.id)
	g.up = nil
}

func (g *ingest) ended() error { return fmt.Errorf("ingest %s: %w", g.id, fs.ErrClosed) }
