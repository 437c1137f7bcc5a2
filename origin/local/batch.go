package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-registry/weir/store"
)

// batch is what is written at once, where the store can do that. Records appear in
// this order: what a record relies on stands before it.
type batch []intent

// intent is one record that is to be written, and what memory makes of it.
type intent struct {
	what   string // for errors
	write  store.Write
	taken  func() error // the condition was not met; nil: that is an error
	done   func()       // it is written
	failed func()       // it may have been written, or not
}

func (b *batch) add(c intent) { *b = append(*b, c) }

// commit writes a batch. Whoever holds the locks of its names holds them until then.
// Where a condition is not met, and where the store has no batches, its records are
// written one by one, up to the first that fails.
func (r *Registry) commit(ctx context.Context, b batch) error {
	if all, ok := r.records.(store.Batcher); ok && len(b) > 1 {
		writes := make([]store.Write, len(b))
		for i, c := range b {
			writes[i] = c.write
		}
		err := all.PutAll(ctx, writes)
		switch {
		case err == nil:
			for _, c := range b {
				c.end(c.done)
			}
			return nil
		case !errors.Is(err, store.ErrConflict):
			for _, c := range b {
				c.end(c.failed)
			}
			return fmt.Errorf("write %s, and what follows: %w", b[0].what, err)
		}
	}
	for _, c := range b {
		_, err := r.records.Put(ctx, c.write.Key, c.write.Data, c.write.If)
		switch {
		case err == nil:
			c.end(c.done)
		case errors.Is(err, store.ErrConflict) && c.taken != nil:
			if err := c.taken(); err != nil {
				return err
			}
		default:
			c.end(c.failed)
			return fmt.Errorf("write %s: %w", c.what, err)
		}
	}
	return nil
}

// end tells memory.
func (c intent) end(how func()) {
	if how != nil {
		how()
	}
}
