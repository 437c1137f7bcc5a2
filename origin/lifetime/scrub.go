package lifetime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// ErrCorrupt says that something is corrupt, and was not repaired.
var ErrCorrupt = errors.New("corrupt content was found")

// The results of an object that was looked at.
const (
	scrubOK       = "ok"
	scrubCorrupt  = "corrupt"
	scrubRepaired = "repaired"
	scrubError    = "error" // it could not be read
)

// ScrubMeter counts what is looked at.
type ScrubMeter interface {
	// Scrubbed counts an object: result is ok, corrupt, repaired or error.
	Scrubbed(result string)
}

// ScrubOptions say how content is read again.
type ScrubOptions struct {
	// Rate is how many bytes are read in a second; 0 means as many as there are.
	Rate int64
	// Refetch fetches a blob of a mirrored repository anew, and returns when it is stored;
	// nil: nothing is mirrored.
	Refetch func(ctx context.Context, repo origin.Repo, d digest.Digest) error
	// Restore does the same for a manifest; it may be of any repository. nil: as above.
	Restore func(ctx context.Context, repo origin.Repo, d digest.Digest) error
	// Remembered reads again what a mirror remembers; nil: as above.
	Remembered func(ctx context.Context) iter.Seq2[origin.Remembered, error]
	// Records keep how far a scheduled run has come.
	Records store.Records
	Meter   ScrubMeter   // nil: nobody is told
	Log     *slog.Logger // nil: nobody is
}

// scrubbed is a registry that can be scrubbed.
type scrubbed interface {
	origin.Inventory
	origin.Retirer
	origin.Scrubber
}

// Scrubber reads again what is stored, and compares it with its digests. One run is under
// way at a time.
type Scrubber struct {
	registry scrubbed
	opts     ScrubOptions
	running  *sync.Mutex
}

// NewScrubber makes a Scrubber.
func NewScrubber(r scrubbed, o ScrubOptions) *Scrubber {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Scrubber{registry: r, opts: o, running: &sync.Mutex{}}
}

// With gives a Scrubber of the same by other options. Of both together one run goes on at
// a time.
func (s *Scrubber) With(o ScrubOptions) *Scrubber {
	next := NewScrubber(s.registry, o)
	next.running = s.running
	return next
}

// Run scrubs everything once: blobs, manifests, tags and links. What is corrupt of a blob
// is quarantined, and fetched anew where repair says so and a mirror can. What is derived
// from others and missing is written anew, or left over and taken away. resume goes on where a run that was told so too
// was cut off. The report is true whatever the error. Errors: ErrRunning, ErrCorrupt.
func (s *Scrubber) Run(ctx context.Context, repair, resume bool) (ScrubReport, error) {
	report := ScrubReport{Corrupt: []Corrupt{}, Repaired: []digest.Digest{}}
	if !s.running.TryLock() {
		return report, ErrRunning
	}
	defer s.running.Unlock()
	x := &scrub{Scrubber: s, pace: pace{rate: s.opts.Rate, begun: time.Now()}, corrupt: map[digest.Digest][]origin.Repo{}, report: &report}
	err := x.run(ctx, repair, resume)
	return report, err
}

// scrub is one run.
type scrub struct {
	*Scrubber
	pace      pace
	corrupt   map[digest.Digest][]origin.Repo // and who names it
	blobs     []digest.Digest                 // those of them that are blobs
	manifests []ofRepo                        // and manifests
	report    *ScrubReport
	errs      []error
}

func (x *scrub) run(ctx context.Context, repair, resume bool) error {
	if err := x.allBlobs(ctx, resume); err != nil {
		x.errs = append(x.errs, err)
	}
	if err := x.allItems(ctx); err != nil {
		x.errs = append(x.errs, err)
	}
	if err := x.allRemembered(ctx); err != nil {
		x.errs = append(x.errs, err)
	}
	if repair && ctx.Err() == nil {
		x.repair(ctx)
	}
	for d, repos := range x.corrupt {
		c := Corrupt{Digest: d, Repositories: []string{}}
		for _, r := range repos {
			c.Repositories = append(c.Repositories, r.String())
		}
		slices.Sort(c.Repositories)
		c.Repositories = slices.Compact(c.Repositories)
		x.report.Corrupt = append(x.report.Corrupt, c)
	}
	x.report.sort()
	if n := len(x.corrupt) - len(x.report.Repaired); n > 0 {
		x.errs = append(x.errs, fmt.Errorf("%w: %d of %d objects", ErrCorrupt, n, x.report.Checked))
	}
	return errors.Join(append(x.errs, ctx.Err())...)
}

func (x *scrub) count(result string) {
	if x.opts.Meter != nil {
		x.opts.Meter.Scrubbed(result)
	}
}

func (x *scrub) fail(err error) {
	const enough = 100
	x.count(scrubError)
	if len(x.errs) < enough {
		x.errs = append(x.errs, err)
	}
}

// allBlobs reads all blobs, in the order of their digests.
func (x *scrub) allBlobs(ctx context.Context, resume bool) error {
	there, long := &table[struct{}]{}, map[key]digest.Digest{}
	for info, err := range x.registry.Bytes(ctx) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		k := keyOf(info.Digest)
		there.add(k, struct{}{})
		if info.Digest.Algorithm() != digest.SHA256 {
			long[k] = info.Digest
		}
	}
	there.seal(func(_, _ struct{}) bool { return true })
	c, err := x.cursor(ctx, resume)
	if err != nil {
		return err
	}
	for k := range there.all {
		if c.past(k) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		d, ok := long[k]
		if !ok {
			d = digest.NewDigestFromBytes(digest.SHA256, k[:])
		}
		x.blob(ctx, d)
		if err := c.save(ctx, k); err != nil {
			return err
		}
	}
	return c.clear(ctx)
}

// blob reads a blob, and once more if it seems to be corrupt: it may be the reading that
// went wrong.
func (x *scrub) blob(ctx context.Context, d digest.Digest) {
	info, ok, err := x.read(ctx, d)
	if err == nil && !ok {
		info, ok, err = x.read(ctx, d)
	}
	if err == nil && !ok {
		err = x.registry.Quarantine(ctx, info)
	}
	switch {
	case origin.Unknown(err), errors.Is(err, origin.ErrInUse), ctx.Err() != nil: // it is gone, or another one now
		return
	case err != nil:
		x.fail(fmt.Errorf("scrub blob %s: %w", d, err))
	case ok:
		x.count(scrubOK)
	default:
		x.count(scrubCorrupt)
		x.corrupt[d], x.blobs = []origin.Repo{}, append(x.blobs, d)
	}
	x.report.Checked++
}

// read compares the bytes of a blob with its digest.
func (x *scrub) read(ctx context.Context, d digest.Digest) (info store.Info, ok bool, err error) {
	b, err := x.registry.Raw(ctx, d)
	if err != nil {
		return info, false, err
	}
	defer b.Body.Close()
	v := d.Verifier()
	buf := make([]byte, 128<<10)
	for {
		n, err := b.Body.Read(buf)
		_, _ = v.Write(buf[:n]) // a hash takes all
		if err := x.pace.wait(ctx, n); err != nil {
			return b.Info, false, err
		}
		if err == io.EOF {
			return b.Info, v.Verified(), nil
		}
		if errors.Is(err, origin.ErrDamaged) {
			return b.Info, false, nil
		}
		if err != nil {
			return b.Info, false, err
		}
	}
}

// allItems reads all records, mends what is derived, and finds who has what is corrupt.
func (x *scrub) allItems(ctx context.Context) error {
	for it, err := range x.registry.Items(ctx) {
		if err != nil {
			return err
		}
		if it.Kind == origin.KindLink && x.corrupt[it.Digest] != nil {
			x.corrupt[it.Digest] = append(x.corrupt[it.Digest], it.Repo)
		}
		if it.Kind == origin.KindDeleted || it.Kind == origin.KindNote {
			continue // they say nothing but that they are there
		}
		const record = 4 << 10 // about what reading one costs
		if err := x.pace.wait(ctx, record); err != nil {
			return err
		}
		mended, err := x.registry.Mend(ctx, it)
		x.report.Checked++
		switch {
		case errors.Is(err, origin.ErrDamaged):
			d := it.Digest
			if lost, ok := errors.AsType[*origin.LostError](err); ok {
				d = lost.Digest
			} else if it.Kind != origin.KindManifest {
				x.fail(err)
				continue
			}
			x.manifest(it.Repo, d)
		case err != nil:
			x.fail(err)
		case mended:
			x.report.Mended++
			x.opts.Log.WarnContext(ctx, "record was missing, damaged or left over, and is put right", "repository", it.Repo.String(), "tag", it.Tag, "digest", it.Digest.String())
			x.count(scrubRepaired)
		default:
			x.count(scrubOK)
		}
	}
	return nil
}

// ofRepo is a manifest in a repository.
type ofRepo struct {
	repo   origin.Repo
	digest digest.Digest
}

// manifest takes note that a manifest is damaged, or gone.
func (x *scrub) manifest(repo origin.Repo, d digest.Digest) {
	if n := (ofRepo{repo, d}); !slices.Contains(x.manifests, n) {
		x.manifests = append(x.manifests, n)
		x.corrupt[d] = append(x.corrupt[d], repo)
		x.count(scrubCorrupt)
	}
}

// allRemembered reads what a mirror remembers.
func (x *scrub) allRemembered(ctx context.Context) error {
	if x.opts.Remembered == nil {
		return nil
	}
	for it, err := range x.opts.Remembered(ctx) {
		if err != nil {
			return err
		}
		const record = 4 << 10 // as above
		if err := x.pace.wait(ctx, record); err != nil {
			return err
		}
		x.report.Checked++
		switch {
		case it.Damaged && it.Digest != "":
			x.manifest(it.Repo, it.Digest)
		case it.Damaged:
			x.report.Mended++
			x.opts.Log.WarnContext(ctx, "what a mirror remembers was damaged, and is forgotten", "repository", it.Repo.String())
			x.count(scrubRepaired)
		default:
			x.count(scrubOK)
		}
	}
	return nil
}

// pace keeps reading to a rate.
type pace struct {
	rate  int64
	begun time.Time
	n     int64
}

// wait takes note that n bytes were read, and waits until that is no more than the rate.
func (p *pace) wait(ctx context.Context, n int) error {
	p.n += int64(n)
	if p.rate <= 0 {
		return ctx.Err()
	}
	due := time.Duration(float64(p.n) / float64(p.rate) * float64(time.Second))
	ahead := due - time.Since(p.begun)
	const little = 5 * time.Millisecond
	if ahead < little {
		if ahead < -time.Second {
			p.begun, p.n = time.Now(), 0 // what was not read then is not read faster now
		}
		return ctx.Err()
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
