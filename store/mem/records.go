package mem

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-registry/weir/store"
)

// Records is a store.Records in memory.
type Records struct {
	mu      sync.Mutex
	keys    []string // sorted
	records map[string]record
	version uint64 // the last one given
}

type record struct {
	data     []byte // never written to again
	version  string
	modified time.Time
}

var (
	_ store.Records = (*Records)(nil)
	_ store.Batcher = (*Records)(nil)
)

// NewRecords gives an empty store.
func NewRecords() *Records { return &Records{records: make(map[string]record)} }

// Get implements store.Records.
func (r *Records) Get(ctx context.Context, key string) (store.Record, error) {
	if err := ready(ctx, key); err != nil {
		return store.Record{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.records[key]
	if !ok {
		return store.Record{}, fmt.Errorf("record %s: %w", key, store.ErrNotFound)
	}
	return store.Record{Data: slices.Clone(found.data), Version: found.version, Modified: found.modified}, nil
}

// Put implements store.Records. A key above or below one that exists is
// answered with ErrKey.
func (r *Records) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if err := ready(ctx, key); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put(key, data, if_)
}

// PutAll implements store.Batcher.
func (r *Records) PutAll(ctx context.Context, writes []store.Write) error {
	for _, w := range writes {
		if err := ready(ctx, w.Key); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range writes {
		if err := r.allowed(w.Key, w.If); err != nil {
			return err
		}
	}
	for _, w := range writes {
		if _, err := r.put(w.Key, w.Data, w.If); err != nil {
			return err
		}
	}
	return nil
}

// allowed tells by its error whether a record may be written; r.mu is held.
func (r *Records) allowed(key string, if_ store.Condition) error {
	if old, exists := r.records[key]; !if_.Allows(exists, old.version) {
		return fmt.Errorf("record %s: %w", key, store.ErrConflict)
	}
	return nil
}

// put writes a record; r.mu is held.
func (r *Records) put(key string, data []byte, if_ store.Condition) (string, error) {
	if err := r.allowed(key, if_); err != nil {
		return "", err
	}
	if _, exists := r.records[key]; !exists {
		if err := r.insert(key); err != nil {
			return "", err
		}
	}
	r.version++
	version := strconv.FormatUint(r.version, 10)
	r.records[key] = record{data: slices.Clone(data), version: version, modified: time.Now()}
	return version, nil
}

// insert gives key its place in keys, unless it would be a path prefix of
// another key, or another of it.
func (r *Records) insert(key string) error {
	for i := range len(key) {
		if key[i] != '/' {
			continue
		}
		if _, ok := r.records[key[:i]]; ok {
			return fmt.Errorf("record %s: %s is one: %w", key, key[:i], store.ErrKey)
		}
	}
	if i, _ := slices.BinarySearch(r.keys, key+"/"); i < len(r.keys) && strings.HasPrefix(r.keys[i], key+"/") {
		return fmt.Errorf("record %s: %s is one: %w", key, r.keys[i], store.ErrKey)
	}
	i, _ := slices.BinarySearch(r.keys, key)
	r.keys = slices.Insert(r.keys, i, key)
	return nil
}

// Delete implements store.Records.
func (r *Records) Delete(ctx context.Context, key string, if_ store.Condition) error {
	if err := ready(ctx, key); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old, exists := r.records[key]
	if !exists {
		return fmt.Errorf("record %s: %w", key, store.ErrNotFound)
	}
	if !if_.Allows(exists, old.version) {
		return fmt.Errorf("record %s: %w", key, store.ErrConflict)
	}
	i, _ := slices.BinarySearch(r.keys, key)
	r.keys = slices.Delete(r.keys, i, i+1)
	delete(r.records, key)
	return nil
}

// List implements store.Records. Each step looks for the next key anew, so that
// a listing of any length holds nothing.
func (r *Records) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if prefix != "" {
			if !store.ValidKey(prefix) {
				yield(store.Entry{}, fmt.Errorf("records below %q: %w", prefix, store.ErrKey))
				return
			}
			prefix += "/"
		}
		last := max(after, prefix)
		for {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			e, ok := r.next(last)
			if !ok || !strings.HasPrefix(e.Key, prefix) || !yield(e, nil) {
				return
			}
			last = e.Key
		}
	}
}

// next describes the first record whose key is greater than after.
func (r *Records) next(after string) (store.Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, found := slices.BinarySearch(r.keys, after)
	if found {
		i++
	}
	if i == len(r.keys) {
		return store.Entry{}, false
	}
	rec := r.records[r.keys[i]]
	return store.Entry{Key: r.keys[i], Version: rec.version, Size: int64(len(rec.data)), Modified: rec.modified}, true
}

// ready is what every call on a key begins with.
func ready(ctx context.Context, key string) error {
	if !store.ValidKey(key) {
		return fmt.Errorf("record %q: %w", key, store.ErrKey)
	}
	return ctx.Err()
}
