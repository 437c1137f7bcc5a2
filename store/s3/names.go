package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// All implements store.Blobs. It merges the listing of names with that of sizes, and asks
// for a single blob only where they do not go together.
func (b *Blobs) All(ctx context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for n, err := range b.names(ctx) {
			if err != nil {
				yield(store.Info{}, fmt.Errorf("list blobs: %w", err))
				return
			}
			if !n.exists {
				continue
			}
			info := store.Info{Digest: n.digest, Modified: n.modified}
			if len(n.index) == 1 {
				info.Size = n.index[0].Size
			} else {
				p, err := b.pointer(ctx, n.digest, 0)
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				if err != nil {
					yield(store.Info{}, fmt.Errorf("list blobs: %w", err))
					return
				}
				info = p.info(n.digest)
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// named is what the listings say of one digest.
type named struct {
	name     string // <alg>/<hex>: they are in this order
	digest   digest.Digest
	exists   bool // has a pointer
	modified time.Time
	index    []pointer // what is said of its bytes; modified is that of the entry
}

// names lists every digest that has a pointer or an index entry.
func (b *Blobs) names(ctx context.Context) iter.Seq2[named, error] {
	return func(yield func(named, error) bool) {
		nextBlob, stop := iter.Pull2(b.pointers(ctx))
		defer stop()
		nextIndex, stop := iter.Pull2(b.indexed(ctx))
		defer stop()
		blob, err, moreBlobs := nextBlob()
		entry, err2, moreIndex := nextIndex()
		for moreBlobs || moreIndex {
			if err := errors.Join(err, err2); err != nil {
				yield(named{}, err)
				return
			}
			var n named
			switch {
			case !moreIndex || moreBlobs && blob.name < entry.name:
				n = blob
				blob, err, moreBlobs = nextBlob()
			case !moreBlobs || entry.name < blob.name:
				n = entry
				entry, err2, moreIndex = nextIndex()
			default:
				n = blob
				n.index = entry.index
				blob, err, moreBlobs = nextBlob()
				entry, err2, moreIndex = nextIndex()
			}
			if !yield(n, nil) {
				return
			}
		}
	}
}

// pointers lists the digests that have a pointer.
func (b *Blobs) pointers(ctx context.Context) iter.Seq2[named, error] {
	return func(yield func(named, error) bool) {
		for o, err := range b.s.list(ctx, blobsDir, "") {
			if err != nil {
				yield(named{}, err)
				return
			}
			d, ok := digestOf(o.key)
			if !ok || o.size == 0 {
				continue // a tombstone
			}
			if !yield(named{name: o.key, digest: d, exists: true, modified: o.modified}, nil) {
				return
			}
		}
	}
}

// indexed lists the digests that have index entries, each with all of them.
func (b *Blobs) indexed(ctx context.Context) iter.Seq2[named, error] {
	return func(yield func(named, error) bool) {
		var n named
		for o, err := range b.s.list(ctx, indexDir, "") {
			if err != nil {
				yield(named{}, err)
				return
			}
			name, p, ok := readIndex(o.key)
			if !ok {
				continue
			}
			if n.name != "" && n.name != name && !yield(n, nil) {
				return
			}
			if n.name != name {
				d, _ := digestOf(name)
				n = named{name: name, digest: d}
			}
			p.modified = o.modified
			n.index = append(n.index, p)
		}
		if n.name != "" {
			yield(n, nil)
		}
	}
}
