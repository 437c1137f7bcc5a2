package fill

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Complete as Options.Linger lets every fill run to its end.
const Complete time.Duration = -1

const (
	// small blobs are not counted against Options.Concurrency: it bounds spools and
	// connections, and a config or an attestation is neither for long.
	small = 1 << 20
	// hold is how long a fill that got no answer stays, so that a herd that comes
	// just after the failure does not ask one by one.
	hold = 250 * time.Millisecond
)

// Limits are what may change while fills run.
type Limits struct {
	Linger      time.Duration // how long a fill goes on without readers; Complete: to its end
	Concurrency int           // fills at a time per upstream; 0: no limit
	Streams     int           // fetches at a time per fill; 0: 1
	PartSize    int64         // bytes of the largest range that is asked for; 0: 8 MiB
}

// Options are the limits and the circumstances of a Group.
type Options struct {
	Limits
	Budget   Budget       // nil: none
	Replicas Replicas     // nil: none
	Meter    Meter        // nil: none
	Log      *slog.Logger // nil: none
	// Stored is told of each blob that was fetched and is kept, and of its bytes; nil:
	// nobody is. It does not wait.
	Stored func(k Key, size int64)
}

// Meter is told what a Group does.
type Meter interface {
	FillStarted()
	FillEnded(result string) // stored, passed (the Budget has no room), unstored, failed, corrupt, abandoned
	Followers(delta int)
}

// Group is the set of running fills. Its methods are safe for concurrent use.
type Group struct {
	spools  *Spools
	opts    Options // but for its Limits it does not change; these are guarded by mu
	buffers buffers
	running sync.WaitGroup

	open context.Context // until Close
	shut context.CancelFunc

	mu     sync.Mutex
	fills  map[Key]*Fill
	turns  map[string]*semaphore.Weighted // by upstream
	wanted map[*semaphore.Weighted]int    // fills that wait for a turn, by those that they wait for
}

// NewGroup makes a Group whose fills spool in spools.
func NewGroup(spools *Spools, opts Options) *Group {
	opts.Limits = opts.filled()
	if opts.Budget == nil {
		opts.Budget = noBudget{}
	}
	if opts.Meter == nil {
		opts.Meter = noMeter{}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	open, shut := context.WithCancel(context.Background())
	return &Group{open: open, shut: shut, spools: spools, opts: opts, fills: map[Key]*Fill{}, turns: map[string]*semaphore.Weighted{}, wanted: map[*semaphore.Weighted]int{}}
}

// filled gives the limits with their defaults.
func (l Limits) filled() Limits {
	l.Streams = max(1, l.Streams)
	l.PartSize = cmp.Or(l.PartSize, 8<<20)
	return l
}

// Configure has other limits hold for fills that begin from now on. What runs is cut by
// none: fills beyond a lower Concurrency end first, and Linger holds for whom the last
// reader leaves from now on.
func (g *Group) Configure(l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.Concurrency != g.opts.Concurrency {
		g.turns = map[string]*semaphore.Weighted{} // each fill gives its turn back to those that it came from
	}
	g.opts.Limits = l.filled()
}

// Join gives the running fill of key, or begins one: then first is true, src and keep are
// its own, and it is in the trace of ctx. size is the blob's size in bytes where a manifest told it,
// else -1. Whoever joins calls Follow or Stat, once, or Leave. Errors: ErrClosed.
func (g *Group) Join(ctx context.Context, key Key, size int64, src Source, keep Keep) (f *Fill, first bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open.Err() != nil {
		return nil, false, ErrClosed
	}
	if f, ok := g.fills[key]; ok {
		g.enter(f)
		return f, false, nil
	}
	return g.begin(ctx, &Fill{key: key, src: src, size: size}, keep), true, nil
}

// begin runs f, which it joins, in the trace of ctx. g.mu is held.
func (g *Group) begin(ctx context.Context, f *Fill, keep Keep) *Fill {
	// The fill is the group's and not a request's: it ends when it is done, when
	// everybody has left it for long enough, or with the group.
	ctx, cancel := context.WithCancelCause(f.begun(ctx))
	f.group, f.cancel, f.gone = g, cancel, make(chan struct{})
	f.share = g.newShare(f)
	f.plan = plan{streams: g.opts.Streams, largest: g.opts.PartSize, size: f.size}
	g.fills[f.key] = f
	ahead := f.ahead
	g.enter(f)
	f.ahead = ahead
	g.opts.Meter.FillStarted()
	g.running.Go(func() { g.run(ctx, f, keep) })
	return f
}

// Find joins the fill of key if one is running.
func (g *Group) Find(key Key) (*Fill, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, ok := g.fills[key]
	if ok {
		g.enter(f)
	}
	return f, ok
}

// enter counts one who waits for f. g.mu is held.
func (g *Group) enter(f *Fill) {
	f.refs++
	f.ahead = false
	if f.linger != nil {
		f.linger.Stop()
		f.linger = nil
	}
	g.opts.Meter.Followers(1)
}

// Leave gives back what Join gave, for one who neither follows nor stats.
func (f *Fill) Leave() { f.group.leave(f) }

func (g *Group) leave(f *Fill) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.refs--
	g.opts.Meter.Followers(-1)
	switch {
	case f.refs > 0:
	case f.ended && !f.kept:
		g.remove(f)
	case g.opts.Linger != Complete:
		// The timer and a later Join agree under g.mu on who was first: the timer
		// takes effect only if nobody has entered since. What it finds at its end, being
		// stored perhaps, stays to be found until it is forgotten.
		var timer *time.Timer
		timer = time.AfterFunc(g.opts.Linger, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if f.linger == timer && f.refs == 0 && f.fail(ErrAbandoned) {
				delete(g.fills, f.key) // whoever comes now begins anew
			}
		})
		f.linger = timer
	}
}

// remove drops a spool that nobody will open again. g.mu is held.
func (g *Group) remove(f *Fill) {
	if f.spool == nil {
		return
	}
	if err := f.spool.Remove(); err != nil {
		g.opts.Log.Error("spool not removed", "digest", f.key.Digest.String(), "error", err)
	}
}

// run is a fill's life.
func (g *Group) run(ctx context.Context, f *Fill, keep Keep) {
	err := g.admit(ctx, f)
	if err == nil {
		err = g.fetch(ctx, f)
	}
	if err != nil {
		f.fail(err)
	}
	f.cancel(nil)
	f.work.Wait()
	f.release()

	result, resumable := "failed", false
	switch {
	case err == nil:
		// Followers read on from the spool while the store takes it.
		result = "stored"
		if err := g.store(ctx, f, keep); errors.Is(err, errDropped) {
			result = "abandoned"
		} else if err != nil {
			level := slog.LevelError
			result = "unstored"
			if errors.Is(err, errBudget) {
				result, level = "passed", slog.LevelWarn
			}
			g.opts.Log.Log(context.Background(), level, "blob served but not stored", "upstream", f.key.Upstream,
				"repository", f.key.Repo.String(), "digest", f.key.Digest.String(), "error", err)
		} else if g.opts.Stored != nil {
			g.opts.Stored(f.key, f.size)
		}
	case errors.Is(err, ErrStored):
		result = "stored"
	case errors.Is(err, errBudget):
		result = "passed"
	case errors.Is(err, errSpool):
		result = "unstored"
	case errors.Is(err, ErrCorrupt):
		result = "corrupt"
	case errors.Is(err, ErrAbandoned):
		result = "abandoned"
	case errors.Is(err, ErrClosed), errors.Is(err, errYielded):
		result, resumable = "abandoned", true
	default:
		resumable = true
		f.mu.Lock()
		silent := !f.opened
		f.mu.Unlock()
		if silent {
			time.Sleep(hold)
		}
	}
	if err != nil && !errors.Is(err, ErrStored) && !errors.Is(err, errYielded) {
		// Those who wait are told too; but nobody may be left to be told. That nothing
		// can be kept is the operator's to mend, and nobody is told of it.
		level := slog.LevelInfo
		switch {
		case errors.Is(err, errBudget):
			level = slog.LevelWarn
		case errors.Is(err, errSpool):
			level = slog.LevelError
		}
		g.opts.Log.Log(context.Background(), level, "fill ended", "result", result, "upstream", f.key.Upstream,
			"repository", f.key.Repo.String(), "digest", f.key.Digest.String(), "error", err)
	}
	f.share.end() // it is in the store, for those who ask there from now on
	f.unreserve()
	g.opts.Meter.FillEnded(result)
	f.finish(result)
	g.forget(f, resumable)
}

// fetch brings f's bytes into its spool.
func (g *Group) fetch(ctx context.Context, f *Fill) error {
	g.opts.Budget.Wait(ctx, f.key)
	spool, chunks, err := g.spools.Open(f.key, f.size)
	if err != nil {
		f.unkeep(err)
		return f.leave(mark{}, 0)
	}
	f.mu.Lock()
	f.spool = spool
	f.mu.Unlock()
	f.resume(ctx, chunks)
	return f.verify(ctx)
}

// store hands the verified spool to keep. Nothing may interrupt it: that would be a
// blob fetched in vain.
func (g *Group) store(ctx context.Context, f *Fill, keep Keep) error {
	if err := f.settle(); err != nil {
		return err
	}
	end, ok := f.beginStore()
	if !ok {
		return errDropped
	}
	defer end()
	g.opts.Budget.Fetched(f.key, f.size)
	f.share.settle(g.open)
	file, err := f.spool.File()
	if err != nil {
		return err
	}
	return errors.Join(keep(context.WithoutCancel(ctx), file, f.size), file.Close())
}

// forget ends f for those who come from now on. Those who are in it read on. What a
// resumable one has fetched is for the next.
func (g *Group) forget(f *Fill, resumable bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fills[f.key] == f {
		delete(g.fills, f.key)
	}
	f.ended = true
	close(f.gone)
	if f.linger != nil {
		f.linger.Stop()
		f.linger = nil
	}
	switch {
	case resumable && f.spool != nil:
		f.kept = true
		if err := f.spool.Leave(); err != nil {
			g.opts.Log.Error("spool not kept", "digest", f.key.Digest.String(), "error", err)
		}
	case f.refs == 0:
		g.remove(f)
	}
}

// Status describes a running fill.
type Status struct {
	Key       Key
	Size      int64 // bytes; -1: not known
	Received  int64 // bytes in the spool
	Followers int
	Upstream  string // host of the endpoint that answered
}

// Running describes the fills that run now, in the order of repository and digest.
func (g *Group) Running() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Status, 0, len(g.fills))
	for key, f := range g.fills {
		f.mu.Lock()
		list = append(list, Status{Key: key, Size: f.size, Received: f.plan.landed.total(), Followers: f.refs, Upstream: f.upstream})
		f.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(
			strings.Compare(a.Key.Upstream, b.Key.Upstream),
			strings.Compare(a.Key.Repo.String(), b.Key.Repo.String()),
			strings.Compare(string(a.Key.Digest), string(b.Key.Digest)))
	})
	return list
}

// Close takes no new fills and waits for the running ones. When ctx ends they are
// cut, and what they have fetched is left to the next; the error is then ctx's.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	g.shut()
	g.mu.Unlock()
	done := make(chan struct{})
	go func() { g.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	cut := slices.Collect(maps.Values(g.fills))
	g.mu.Unlock()
	for _, f := range cut {
		f.fail(ErrClosed)
	}
	<-done
	if len(cut) == 0 {
		return nil
	}
	return context.Cause(ctx)
}

// Replicated reports whether other groups fetch into the same store: what a fill has
// fetched may be there when it is to be stored.
func (g *Group) Replicated() bool { return g.opts.Replicas != nil }

type noMeter struct{}

func (noMeter) FillStarted()     {}
func (noMeter) FillEnded(string) {}
func (noMeter) Followers(int)    {}
