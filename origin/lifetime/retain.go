package lifetime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
)

// ErrMany says that a repository was left alone, since more of its tags would go than go
// without being forced.
var ErrMany = errors.New("more than 20 % of its tags would go: --force does it all the same")

// many reports whether that is so.
func many(doomed, tags int) bool { return 5*doomed > tags }

// RetainOptions say what is kept.
type RetainOptions struct {
	// Rules gives the rules of a repository, and what operators know their list by. One
	// without rules is left alone.
	Rules func(repo origin.Repo) (list string, keep []Rule)
	// Pulls tells when images were pulled last.
	Pulls *Pulls
	// Grace is how long a manifest that nobody names stays for whoever may be about to
	// name it, where other processes use the store too.
	Grace  time.Duration
	Shared bool
	// Now is this process's clock; nil is that of the machine.
	Now func() time.Time
	// Log gets what an operator wants to know; nil discards it.
	Log *slog.Logger
}

// Retainer removes the tags that no rule keeps, and the manifests that nothing needs
// then. One run is under way at a time.
type Retainer struct {
	inventory origin.Inventory
	retirer   origin.Retirer
	opts      RetainOptions
	running   *sync.Mutex
	clock     *steadiness // guarded by running
}

// NewRetainer makes a Retainer.
func NewRetainer(i origin.Inventory, r origin.Retirer, o RetainOptions) *Retainer {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Retainer{inventory: i, retirer: r, opts: o, running: &sync.Mutex{}, clock: &steadiness{}}
}

// With gives a retainer of the same by other options. Of both together one run goes on at
// a time.
func (r *Retainer) With(o RetainOptions) *Retainer {
	next := NewRetainer(r.inventory, r.retirer, o)
	next.running, next.clock = r.running, r.clock
	return next
}

// Run applies the rules once. A dry run deletes nothing, and says what would go. force lets
// any share of a repository's tags go. A repository of which anything cannot be read, or a
// rule fails, keeps all that it has. The report is true whatever the error. Errors:
// ErrRunning, ErrClock, ErrMany.
func (r *Retainer) Run(ctx context.Context, dry, force bool) (RetainReport, error) {
	report := RetainReport{DryRun: dry, Deleted: []RetainedTag{}, Kept: []RetainedTag{}}
	if !r.running.TryLock() {
		return report, ErrRunning
	}
	defer r.running.Unlock()
	x := &retention{Retainer: r, force: force, report: &report}
	err := x.run(ctx, dry)
	report.sort()
	return report, err
}

// retention is one run.
type retention struct {
	*Retainer
	force  bool
	now    time.Time // by the store's clock
	plans  []*shelf
	report *RetainReport
	errs   []error
}

func (x *retention) run(ctx context.Context, dry bool) error {
	var err error
	if x.now, err = x.clock.time(ctx, x.inventory, x.opts.Now, x.opts.Grace); err != nil {
		return err
	}
	err = x.shelves(ctx, func(s *shelf) {
		if err := x.judge(ctx, s); err != nil {
			x.fail(s, err)
			return
		}
		if len(s.doomed)+len(s.suspect) > 0 {
			x.plans = append(x.plans, s)
		}
	})
	if err != nil {
		// What it lacks may be what names the rest.
		return errors.Join(append(x.errs, fmt.Errorf("nothing is deleted: %w", err))...)
	}
	if dry {
		for _, s := range x.plans {
			x.report.deleted(s.doomed)
		}
		return errors.Join(x.errs...)
	}
	x.untag(ctx)
	if err := x.discard(ctx); err != nil {
		x.errs = append(x.errs, err)
	}
	return errors.Join(x.errs...)
}

func (x *retention) fail(s *shelf, err error) {
	const enough = 100
	if len(x.errs) < enough {
		x.errs = append(x.errs, fmt.Errorf("repository %s is left alone: %w", s.repo, err))
	}
}

// shelves goes through the repositories that have rules, and gives what each holds. Its
// error says that the listing lacks something.
func (x *retention) shelves(ctx context.Context, each func(*shelf)) error {
	var (
		s    *shelf
		repo origin.Repo
	)
	end := func() {
		if s != nil {
			each(s)
		}
	}
	for it, err := range x.inventory.Items(ctx) {
		if err != nil {
			return err
		}
		if it.Repo != repo {
			end()
			s, repo = nil, it.Repo
			if list, keep := x.opts.Rules(repo); len(keep) > 0 {
				s = newShelf(repo, list, keep)
			}
		}
		if s != nil {
			s.add(it)
		}
	}
	end()
	return ctx.Err()
}

// untag takes away what no rule keeps. What hangs on it is suspect before, so that a run
// that is interrupted is gone on with by the next one.
func (x *retention) untag(ctx context.Context) {
	for _, s := range x.plans {
		var err error
		for _, d := range s.unneeded() {
			if err = x.retirer.Suspect(ctx, s.repo, d); err != nil && !origin.Unknown(err) {
				break
			}
			s.suspect[d], err = true, nil
		}
		if err != nil {
			x.fail(s, err)
			s.keepAll()
			continue
		}
		for _, t := range s.doomed {
			switch err := x.retirer.Untag(ctx, s.repo, t.Tag, t.was); {
			case err == nil:
				x.report.Deleted = append(x.report.Deleted, t.RetainedTag)
				continue
			case !errors.Is(err, origin.ErrInUse):
				x.errs = append(x.errs, fmt.Errorf("repository %s: %w", s.repo, err))
			}
			s.tagged[t.Digest] = true
			x.report.keep(t.RetainedTag, ruleMoved)
		}
	}
}

// discard deletes the manifests that nothing names any more. It lists once more, since an
// index may have been pushed before what it names was suspect.
func (x *retention) discard(ctx context.Context) error {
	left := map[origin.Repo]*shelf{}
	for _, s := range x.plans {
		if len(s.unneeded()) > 0 || len(s.suspect) > 0 {
			left[s.repo] = s
		}
	}
	if len(left) == 0 {
		return nil
	}
	err := x.shelves(ctx, func(again *shelf) {
		if s := left[again.repo]; s != nil {
			s.again = again
		}
	})
	if err != nil {
		return fmt.Errorf("manifests without tags are kept: %w", err)
	}
	for _, s := range left {
		if err := x.discardFrom(ctx, s); err != nil {
			x.errs = append(x.errs, fmt.Errorf("repository %s: manifests without tags are kept: %w", s.repo, err))
		}
	}
	return nil
}

func (x *retention) discardFrom(ctx context.Context, s *shelf) error {
	if s.again == nil {
		return nil // it is empty now
	}
	for d := range s.again.listed {
		if _, ok := s.manifests[d]; ok {
			continue
		}
		if err := x.learn(ctx, s, d); err != nil && !origin.Unknown(err) {
			return err
		}
	}
	for again := true; again; {
		again = false
		for _, d := range s.unneeded() {
			err := error(origin.ErrInUse)
			// Another process may have told somebody that it is there.
			if !x.opts.Shared || s.direct[d] || s.ripe(d, x.now.Add(-x.opts.Grace)) {
				err = x.retirer.Discard(ctx, s.repo, d)
			}
			if errors.Is(err, origin.ErrInUse) {
				s.stays(d) // and what it names
				again = true
				break
			}
			if err != nil {
				return err
			}
			s.gone[d] = true
		}
	}
	// What is needed after all is not suspect any more.
	for d := range s.suspect {
		if s.needed(d) {
			if err := x.retirer.Clear(ctx, s.repo, d); err != nil {
				return err
			}
		}
	}
	return nil
}
