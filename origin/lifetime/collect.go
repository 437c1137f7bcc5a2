package lifetime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// at once is how many records are read, or removed, at a time: those who wait for the disk
// at the same time share its syncs.
const atOnce = 32

// ErrRunning says that a collection is under way.
var ErrRunning = errors.New("a collection is under way")

// Meter counts what is freed.
type Meter interface {
	// Reclaimed counts bytes of blobs that were removed.
	Reclaimed(bytes int64)
}

// CollectOptions say what may go.
type CollectOptions struct {
	// Grace is how long content that no manifest names stays, by the leases on it.
	Grace time.Duration
	// UploadExpiry is how long after its last byte an unfinished upload goes; 0 means never.
	UploadExpiry time.Duration
	// Shared says that other processes use the store too. Then what a run condemns goes with
	// a later one, so that a listing that lags behind by some seconds does no harm.
	Shared bool
	// Now is this process's clock; nil is that of the machine.
	Now func() time.Time
	// Meter is told what is freed; nil: nobody is.
	Meter Meter
	// Log gets what an operator wants to know; nil discards it.
	Log *slog.Logger
}

// Collector removes what nobody needs. One collection runs at a time.
type Collector struct {
	inventory origin.Inventory
	sweeper   origin.Sweeper
	opts      CollectOptions
	running   *sync.Mutex
	clock     *steadiness // guarded by running
}

// NewCollector makes a collector.
func NewCollector(i origin.Inventory, s origin.Sweeper, o CollectOptions) *Collector {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Collector{inventory: i, sweeper: s, opts: o, running: &sync.Mutex{}, clock: &steadiness{}}
}

// With gives a collector of the same by other options. Of both together one collection
// runs at a time.
func (c *Collector) With(o CollectOptions) *Collector {
	next := NewCollector(c.inventory, c.sweeper, o)
	next.running, next.clock = c.running, c.clock
	return next
}

// Run collects once: uploads that have expired, links that are past their grace and that
// no manifest needs, referrers of deleted subjects, and the bytes that nothing links then.
// A dry run removes nothing, and says what would go. The report is true whatever the
// error. Errors: ErrRunning, ErrClock.
func (c *Collector) Run(ctx context.Context, dry bool) (Report, error) {
	if !c.running.TryLock() {
		return Report{DryRun: dry, Kept: []Kept{}}, ErrRunning
	}
	defer c.running.Unlock()
	r := &run{Collector: c, linked: &table[reason]{}}
	if !dry {
		r.to = c.sweeper
	}
	err := r.collect(ctx)
	return r.report(dry), err
}

// run is one collection.
type run struct {
	*Collector
	to     origin.Sweeper // nil in a dry run
	before time.Time      // what was last relied upon before that is past its grace
	now    time.Time      // by the store's clock

	linked *table[reason] // the blobs that stay, and why
	blind  atomic.Bool    // there are links that are not known

	mu     sync.Mutex
	errs   []error
	count  [reasons]int64 // of blobs that are kept
	bytes  [reasons]int64
	freed  int64 // blobs
	freedB int64

	uploads, uploadBytes int64
}

func (r *run) collect(ctx context.Context) error {
	var err error
	if r.now, err = r.clock.time(ctx, r.inventory, r.opts.Now, r.opts.Grace); err != nil {
		return err
	}
	r.before = r.now.Add(-r.opts.Grace)
	r.dropUploads(ctx)
	err = r.mark(ctx)
	if err == nil && r.blind.Load() {
		err = errors.New("not all links are known")
	}
	if err != nil {
		return errors.Join(append(r.errs, fmt.Errorf("nothing more is collected: %w", err))...)
	}
	err = r.condemn(ctx)
	r.linked = nil // what follows needs the room
	if err == nil && r.to != nil {
		err = r.remove(ctx)
	}
	return errors.Join(append(r.errs, err)...)
}

// fail takes note of something that is wrong and that stops nothing else.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const enough = 100
	if len(r.errs) < enough {
		r.errs = append(r.errs, err)
	}
}

// dropUploads drops those whose last byte came too long ago.
func (r *run) dropUploads(ctx context.Context) {
	for u, err := range r.inventory.Uploads(ctx) {
		if err != nil {
			r.fail(fmt.Errorf("list uploads: %w", err))
			return
		}
		expired := r.opts.UploadExpiry > 0 && r.now.Sub(u.Modified) >= r.opts.UploadExpiry
		if expired && r.to != nil {
			err = r.to.Drop(ctx, u)
		}
		switch {
		case expired && err == nil:
		case err != nil && !errors.Is(err, origin.ErrInUse):
			r.fail(err)
			fallthrough
		default:
			r.uploads++
			r.uploadBytes += u.Size
		}
	}
}

// condemn has the blobs condemned that nothing links, if their bytes are past the grace. In
// a dry run they count as freed.
func (r *run) condemn(ctx context.Context) error {
	r.linked.seal(func(a, b reason) bool { return a > b })
	var group errgroup.Group
	group.SetLimit(atOnce)
	var failed error
	for info, err := range r.inventory.Bytes(ctx) {
		if err != nil {
			failed = fmt.Errorf("list blobs: %w", err)
			break
		}
		why := fresh
		switch is := r.linked.find(keyOf(info.Digest)); {
		case is != nil:
			why = *is
		case !info.Modified.Before(r.before):
		case r.to == nil:
			r.free(info.Size)
			continue
		default:
			why = condemned
			group.Go(func() error {
				if err := r.to.Condemn(ctx, info.Digest); err != nil {
					r.fail(err)
				}
				return nil
			})
		}
		r.keep(why, 1, info.Size)
	}
	_ = group.Wait() // its errors are noted
	return failed
}

func (r *run) keep(why reason, count, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count[why] += count
	r.bytes[why] += bytes
}

func (r *run) free(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.freed++
	r.freedB += bytes
}

func (r *run) report(dry bool) Report {
	rep := Report{DryRun: dry, FreedBytes: r.freedB, Freed: r.freed, Kept: []Kept{}}
	for why := reasons - 1; why > 0; why-- {
		if r.count[why] > 0 {
			rep.Kept = append(rep.Kept, Kept{reasonNames[why], r.count[why], r.bytes[why]})
		}
	}
	if r.uploads > 0 {
		rep.Kept = append(rep.Kept, Kept{uploadReason, r.uploads, r.uploadBytes})
	}
	return rep
}
