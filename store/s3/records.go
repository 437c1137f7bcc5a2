package s3

import (
	"context"
	"fmt"
	"iter"
	"unicode/utf8"

	"github.com/weir-registry/weir/store"
)

// maxKey is the longest key of S3, in bytes.
const maxKey = 1024

// Records is a store.Records: an object for each record. A version is the object's ETag,
// which is another one at each write since a random nonce is part of what is written.
type Records struct{ s *Store }

var _ store.Records = (*Records)(nil)

// Get implements store.Records.
func (r *Records) Get(ctx context.Context, key string) (store.Record, error) {
	if err := r.ready(ctx, key); err != nil {
		return store.Record{}, err
	}
	found, err := r.s.cells.get(ctx, recordsDir+key)
	rec := store.Record{Data: found.data, Version: found.version, Modified: found.modified}
	if err != nil {
		rec.Version = ""
		return rec, fmt.Errorf("get record %s: %w", key, err)
	}
	return rec, nil
}

// Put implements store.Records. An answer that was lost is looked for: what was written
// is no conflict with itself.
func (r *Records) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if err := r.ready(ctx, key); err != nil {
		return "", err
	}
	written, err := r.s.cells.put(ctx, recordsDir+key, data, if_)
	if err != nil {
		return "", fmt.Errorf("put record %s: %w", key, err)
	}
	return written.version, nil
}

// Delete implements store.Records.
func (r *Records) Delete(ctx context.Context, key string, if_ store.Condition) error {
	if err := r.ready(ctx, key); err != nil {
		return err
	}
	if _, err := r.s.cells.remove(ctx, recordsDir+key, if_); err != nil {
		return fmt.Errorf("delete record %s: %w", key, err)
	}
	return nil
}

// List implements store.Records. Its pages are read while it is ranged over.
func (r *Records) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if prefix != "" {
			if err := r.ready(ctx, prefix); err != nil {
				yield(store.Entry{}, err)
				return
			}
			prefix += "/"
			switch {
			case after < prefix:
				after = ""
			case len(after) >= len(prefix) && after[:len(prefix)] == prefix:
				after = after[len(prefix):]
			default:
				return // behind all that is below prefix
			}
		}
		for o, err := range r.s.list(ctx, recordsDir+prefix, after) {
			if err != nil {
				yield(store.Entry{}, fmt.Errorf("list records below %q: %w", prefix, err))
				return
			}
			if o.size == 0 {
				continue // a tombstone
			}
			if !yield(store.Entry{Key: prefix + o.key, Version: o.version, Size: o.size, Modified: o.modified}, nil) {
				return
			}
		}
	}
}

// ready is what every call on a key begins with.
func (r *Records) ready(ctx context.Context, key string) error {
	if !store.ValidKey(key) || !utf8.ValidString(key) || len(r.s.prefix)+len(recordsDir)+len(key) > maxKey {
		return fmt.Errorf("record %q: %w", key, store.ErrKey)
	}
	return ctx.Err()
}
