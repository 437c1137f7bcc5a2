package s3

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"iter"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

const (
	// saveEvery is how often the state of an ingest is saved that is written to without
	// a pause, so that it does not look abandoned and is not lost whole.
	saveEvery = 10 * time.Minute
	// maxParts is how many parts S3 allows.
	maxParts = 10_000
	// growth bounds their number: no part is smaller than this fraction of what came
	// before it, so that 10,000 are enough for more than S3's largest object.
	growth = 1000
)

// ingest is a store.Ingest. What was received is, in this order: in parts, on its way as
// parts, in buf.
type ingest struct {
	b    *Blobs
	id   string
	alg  digest.Algorithm
	hash hash.Hash // of all

	ctx    context.Context // of the parts on their way: over when the ingest is
	cancel context.CancelFunc

	buf     *buffer
	call    int    // counts what the holder has asked for
	upload  string // the bucket's id of the upload in parts; "" = none yet
	parts   []part
	sending []*sentPart

	version string // of the saved state; "" = never saved
	stated  bool   // a state may be there
	saved   int64  // the size that the saved state is of; -1: it does not say yet what is sealed, or sent
	savedAt time.Time

	sealed digest.Digest // the one that may be committed, of an upload in parts; "" = any
	whole  bool          // the upload in parts is complete, and an object
	data   string        // the object that the bytes are sent to is data/<data>
	index  string        // the index entry that was written; "" = none
	doubt  bool          // what of a blob was made is not known
	late   bool          // its name may still be written, by a request that was not answered
	over   bool

	size  atomic.Int64
	moved atomic.Int64 // when the last byte came: Unix nanoseconds
}

// Ingest implements store.Blobs. Its state is in the bucket after Close, so that every
// process may resume it; of two that do so at the same time one may be told store.ErrBusy,
// when he writes, closes or commits, and neither gets wrong bytes stored.
func (b *Blobs) Ingest(ctx context.Context, id string, alg digest.Algorithm) (store.Ingest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id == "" {
		h := store.Hash(alg)
		if h == nil {
			return nil, fmt.Errorf("begin ingest: digest algorithm %q is not supported", alg)
		}
		g := b.newIngest(ctx, newID())
		g.alg, g.hash = alg, h
		b.hold(g)
		return g, nil
	}
	g, err := b.resume(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("resume ingest %q: %w", id, err)
	}
	return g, nil
}

func (b *Blobs) newIngest(ctx context.Context, id string) *ingest {
	g := &ingest{b: b, id: id, data: id, buf: &buffer{dir: b.spool}}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.moved.Store(time.Now().UnixNano())
	return g
}

func (b *Blobs) resume(ctx context.Context, id string) (*ingest, error) {
	if !validID(id) {
		return nil, store.ErrNotFound
	}
	g := b.newIngest(ctx, id)
	if !b.hold(g) {
		g.cancel()
		return nil, store.ErrBusy
	}
	if err := g.load(ctx); err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// hold takes an ingest for one holder in this process, and reports whether it was free.
func (b *Blobs) hold(g *ingest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, busy := b.held[g.id]; busy {
		return false
	}
	b.held[g.id] = g
	return true
}

func (b *Blobs) release(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.held, id)
}

// holding gives the ingests that are open in this process.
func (b *Blobs) holding() map[string]store.IngestInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := make(map[string]store.IngestInfo, len(b.held))
	for id, g := range b.held {
		held[id] = store.IngestInfo{ID: id, Size: g.size.Load(), Modified: time.Unix(0, g.moved.Load())}
	}
	return held
}

// Ingests implements store.Blobs. One that another process has begun is there once it
// was closed, or more than a part of it came.
func (b *Blobs) Ingests(ctx context.Context) iter.Seq2[store.IngestInfo, error] {
	return func(yield func(store.IngestInfo, error) bool) {
		held := b.holding()
		for o, err := range b.s.list(ctx, ingestDir, "") {
			if _, open := held[o.key]; err == nil && (open || !validID(o.key)) {
				continue
			}
			info := store.IngestInfo{ID: o.key, Modified: o.modified}
			if err == nil {
				info.Size, err = b.savedSize(ctx, o.key)
			}
			if errors.Is(err, store.ErrNotFound) {
				continue // it ended meanwhile
			}
			if err != nil {
				yield(store.IngestInfo{}, fmt.Errorf("list ingests: %w", err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		for _, info := range held {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// ID implements store.Ingest.
func (g *ingest) ID() string { return g.id }

// Size implements store.Ingest.
func (g *ingest) Size() int64 { return g.size.Load() }

// Write implements io.Writer. A part that is full is sent while the next one fills.
func (g *ingest) Write(p []byte) (n int, err error) {
	if g.over || g.sealed != "" {
		return 0, g.ended("write")
	}
	g.call++
	for len(p) > 0 {
		target := g.target(g.b.partSize)
		m, err := g.buf.Write(p[:min(int64(len(p)), target-g.buf.size)])
		g.hash.Write(p[:m])
		g.size.Add(int64(m))
		n, p = n+m, p[m:]
		if err == nil && g.buf.size == target {
			err = g.send()
		}
		if err != nil {
			return n, fmt.Errorf("write ingest %s: %w", g.id, err)
		}
	}
	g.moved.Store(time.Now().UnixNano())
	return n, nil
}

// target is how large the part in buf may be, at least least bytes.
func (g *ingest) target(least int64) int64 {
	return max(least, (g.size.Load()-g.buf.size)/growth)
}

// Close implements store.Ingest.
func (g *ingest) Close() error {
	if g.over {
		return nil
	}
	defer g.end()
	if g.version != "" && g.saved == g.size.Load() {
		return nil
	}
	g.call++
	ctx := context.WithoutCancel(g.ctx)
	var err error
	if g.buf.size >= g.target(MinPartSize) && !g.whole {
		err = g.send()
	}
	if err == nil {
		err = g.await(0)
	}
	if err == nil {
		err = g.save(ctx)
	}
	if err != nil {
		return fmt.Errorf("close ingest %s: %w", g.id, err)
	}
	return nil
}

// Cancel implements store.Ingest. It is a no-op after Close too, since the ingest may be
// another's by then.
func (g *ingest) Cancel() error {
	if g.over {
		return nil
	}
	if err := g.drop(); err != nil {
		return fmt.Errorf("cancel ingest %s: %w", g.id, err)
	}
	return nil
}

// drop removes what the ingest has in the bucket, and lets go of it. What may be a blob's
// bytes, since nobody knows whether it got its name, stays until it is swept.
func (g *ingest) drop() error {
	g.end()
	ctx := context.WithoutCancel(g.ctx)
	var errs []error
	if g.stated {
		errs = append(errs, g.b.s.delete(ctx, ingestDir+g.id))
	}
	if g.upload != "" && !g.whole && !g.doubt {
		errs = append(errs, g.b.s.abort(ctx, dataDir+g.id, g.upload))
	}
	if !g.doubt && (g.whole || g.index != "") {
		errs = append(errs, g.b.s.delete(ctx, dataDir+g.data))
	}
	if !g.doubt && g.index != "" {
		errs = append(errs, g.b.s.delete(ctx, g.index))
	}
	return errors.Join(errs...)
}

// end lets go of the ingest, and waits for what it has on its way.
func (g *ingest) end() {
	g.over = true
	g.cancel()
	for _, p := range g.sending {
		<-p.done
		p.buf.close()
	}
	g.sending = nil
	g.buf.close()
	g.b.release(g.id)
}

func (g *ingest) ended(what string) error {
	return fmt.Errorf("%s ingest %s: %w", what, g.id, fs.ErrClosed)
}
