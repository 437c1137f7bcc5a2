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
	// Reserve takes room for a blob of size bytes, before its first byte is fetched, or,
	// where nobody said how large it is, before it is stored; it waits for nothing. After
	// an error the fill serves without storing. Errors: ErrFull; ErrNotYet, after which it is
	// asked once more, before the blob is stored; and others, by which nothing is wrong.
	Reserve(k Key, size int64) error
	// Known waits until there is no ErrNotYet any more, for a while, or until ctx ends.
	Known(ctx context.Context)
	// Fetched takes note that a blob of size bytes is fetched, and about to be stored: nobody
	// waits for it any more, and it takes its room.
	Fetched(k Key, size int64)
	// Release gives back what was reserved, after the blob was stored or was not.
	Release(k Key, size int64)
}

var (
	// ErrNotYet is what a Budget says that does not know yet whether there is room.
	ErrNotYet = errors.New("fill: it is not known yet whether there is room")
	// ErrFull says that the disk is full, and not of what the Budget is for.
	ErrFull = errors.New("fill: the disk is full")
)

// errBudget says that there is no room for a blob, and nothing is wrong.
var errBudget = errors.New("fill: not to be stored")

// noBudget has room for everything.
type noBudget struct{}

func (noBudget) Wait(context.Context, Key) {}
func (noBudget) Reserve(Key, int64) error  { return nil }
func (noBudget) Known(context.Context)     {}
func (noBudget) Fetched(Key, int64)        {}
func (noBudget) Release(Key, int64)        {}

// reserve has room made for the blob, once, when its size is known and the upstream has
// answered: a manifest's word alone displaces nothing. Errors: there is none, or not yet;
// what it displaces leaves all the same then, and the next fill finds room. While it is not
// known whether there is the blob is fetched, once for all, as if there were.
func (f *Fill) reserve() error {
	if err := f.take(); !errors.Is(err, ErrNotYet) {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.spool.Room(f.plan.left())
}

// settle is reserve before the blob is stored: for one whose size nobody has said before, and
// where it was not known whether there is room.
func (f *Fill) settle() error {
	err := f.take()
	if errors.Is(err, ErrNotYet) {
		f.group.opts.Budget.Known(f.group.open)
		err = f.take()
	}
	return err
}

func (f *Fill) take() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reserved > 0 || f.size <= 0 || f.over() {
		return nil
	}
	err := f.group.opts.Budget.Reserve(f.key, f.size)
	if errors.Is(err, ErrFull) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBudget, err)
	}
	f.reserved = f.size
	return f.spool.Room(f.plan.left())
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
