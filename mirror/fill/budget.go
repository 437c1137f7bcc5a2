package fill

import (
	"context"
	"errors"
	"fmt"
)

// Budget says whether there is room for a blob.
type Budget interface {
	// Wait waits until what earlier fills displaced is gone as far as it must be for that
	// blob, or ctx ends.
	Wait(ctx context.Context, k Key)
	// Reserve takes room for a blob of size bytes, before it is fetched, or as soon as
	// its size is known; it waits for nothing. After an error the fill serves without
	// storing.
	Reserve(k Key, size int64) error
	// Release gives back what was reserved, after the blob was stored or was not.
	Release(k Key, size int64)
}

// errBudget says that there is no room for a blob, and nothing is wrong.
var errBudget = errors.New("fill: not to be stored")

// noBudget has room for everything.
type noBudget struct{}

func (noBudget) Wait(context.Context, Key) {}
func (noBudget) Reserve(Key, int64) error  { return nil }
func (noBudget) Release(Key, int64)        {}

// reserve has room made for the blob, once, when its size is known. It reports whether
// there is; if not, the spool is given up.
func (f *Fill) reserve() bool {
	f.mu.Lock()
	if f.reserved > 0 || f.size <= 0 || f.over() {
		f.mu.Unlock()
		return true
	}
	err := f.group.opts.Budget.Reserve(f.key, f.size)
	if err == nil {
		f.reserved = f.size
	}
	f.mu.Unlock()
	if err != nil {
		f.unkeep(fmt.Errorf("%w: %w", errBudget, err))
	}
	return err == nil
}

// unreserve gives back what was reserved.
func (f *Fill) unreserve() {
	f.mu.Lock()
	size := f.reserved
	f.mu.Unlock()
	if size > 0 {
		f.group.opts.Budget.Release(f.key, size)
	}
}
