package lifetime

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// maxLag is how long after a condemnation a listing of a store that others use too is
// believed to have what was linked before it.
const maxLag = time.Minute

// doom is what is remembered of a condemned blob while all links are listed.
type doom struct {
	version uint64 // hash of that of its condemnation
	linked  bool
}

// remove has the bytes removed that are condemned and that nothing links. Links are
// listed after the condemnations, and a condemnation that is not the same any more is not
// carried out: see [origin.Sweeper].
func (r *run) remove(ctx context.Context) error {
	settled := r.now.Add(time.Hour) // those of this run, too
	if r.opts.Shared {
		settled = r.now.Add(-min(maxLag, r.opts.Grace/10))
	}
	seed := maphash.MakeSeed()
	dooms, n := &table[doom]{}, 0
	for c, err := range r.inventory.Condemned(ctx) {
		if err != nil {
			return err
		}
		if c.Modified.Before(settled) {
			dooms.add(keyOf(c.Digest), doom{version: maphash.String(seed, c.Version)})
			n++
		}
	}
	if n == 0 {
		return nil
	}
	// Two that share a key are not told apart: neither is the one that was seen.
	dooms.seal(func(doom, doom) bool { return false })
	for it, err := range r.inventory.Items(ctx) {
		if err != nil {
			return fmt.Errorf("nothing more is removed: %w", err)
		}
		if it.Kind != origin.KindLink {
			continue
		}
		if d := dooms.find(keyOf(it.Digest)); d != nil {
			d.linked = true
		}
	}
	var group errgroup.Group
	group.SetLimit(atOnce)
	var failed error
	for c, err := range r.inventory.Condemned(ctx) {
		if err != nil {
			failed = err
			break
		}
		d := dooms.find(keyOf(c.Digest))
		if d == nil || d.version != maphash.String(seed, c.Version) {
			continue
		}
		group.Go(func() error {
			r.carryOut(ctx, c, d.linked)
			return nil
		})
	}
	_ = group.Wait() // its errors are noted
	return failed
}

// carryOut removes the bytes of a blob, or spares it.
func (r *run) carryOut(ctx context.Context, c origin.Condemned, linked bool) {
	if linked {
		if err := r.to.Spare(ctx, c.Digest); err != nil && !errors.Is(err, origin.ErrInUse) {
			r.fail(err)
		}
		r.move(condemned, leased)
		return
	}
	switch size, err := r.to.Remove(ctx, c); {
	case err == nil:
		r.keep(condemned, -1, -size)
		r.free(size)
		if r.opts.Meter != nil {
			r.opts.Meter.Reclaimed(size)
		}
	case errors.Is(err, origin.ErrInUse):
		r.move(condemned, busy)
	case !origin.Unknown(err):
		r.fail(err)
	}
}

// move counts a blob of unknown size for another reason.
func (r *run) move(from, to reason) {
	r.keep(from, -1, 0)
	r.keep(to, 1, 0)
}
