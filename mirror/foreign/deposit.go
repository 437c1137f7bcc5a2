package foreign

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const (
	// round is how often what waits is looked through.
	round = 10 * time.Second
	// settled is how long nothing of a manifest has come before the registry is asked
	// for the rest of it: what is pulled now needs no question.
	settled = 30 * time.Second
	// given is how long a manifest waits for what it names. It is an index, most often,
	// of which some platforms are never pulled.
	given = 7 * 24 * time.Hour
	// retry is the pause after a failure; each one after it is twice as long, up to
	// retryMost.
	retry, retryMost = 10 * time.Second, 10 * time.Minute
	// most is how many wait at a time, and mostNamed for how much in all, at some 250 bytes
	// each. An index names 10 to 20.
	most, mostNamed = 10_000, 200_000
)

// deposits hands mirrored manifests over when the registry has what they name. One
// goroutine does it, in the order in which they became ready.
type deposits struct {
	registry *Registry
	records  store.Records
	wake     chan struct{}
	closing  context.Context // ends when close is called
	end      context.CancelFunc
	cut      context.CancelFunc // ends what runs
	ended    chan struct{}

	mu      sync.Mutex
	waiting map[blobKey]*deposit
	wanted  map[blobKey][]*deposit // by what they name and wait for
	named   int                    // what is missing, of each that waits
	ready   []*deposit
}

// deposit is a manifest that waits. Its fields are guarded by deposits.mu.
type deposit struct {
	key     blobKey
	begun   time.Time
	moved   time.Time                  // when something that it waits for came
	missing map[digest.Digest]manifest // what it names and was not seen there
	looked  bool                       // the registry was asked for all of it since then
	queued  bool
	failed  int       // times in a row
	next    time.Time // not before
}

// manifest says of what is named whether it is one.
type manifest bool

func newDeposits(r *Registry, records store.Records) *deposits {
	d := &deposits{
		registry: r, records: records,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
		waiting: map[blobKey]*deposit{}, wanted: map[blobKey][]*deposit{},
	}
	// It belongs to the registry and to no request.
	d.closing, d.end = context.WithCancel(context.Background())
	running, cut := context.WithCancel(context.Background())
	d.cut = cut
	go d.run(running)
	return d
}

// add keeps a manifest until it can be handed over.
func (d *deposits) add(ctx context.Context, repo origin.Repo, m origin.Manifest) error {
	content, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return nil // the mirror keeps what weir cannot read; a registry may not
	}
	k := blobKey{repo, m.Digest}
	d.mu.Lock()
	_, waits := d.waiting[k]
	d.mu.Unlock()
	if waits {
		return nil
	}
	begun := time.Now()
	if err := d.record(ctx, k, m, begun); err != nil {
		return err
	}
	d.register(ctx, k, content, begun, false)
	return nil
}

// register has a manifest wait that is recorded, and forgets what is too much then.
func (d *deposits) register(ctx context.Context, k blobKey, content origin.Content, begun time.Time, looked bool) {
	d.mu.Lock()
	if _, waits := d.waiting[k]; !waits {
		x := &deposit{key: k, begun: begun, moved: time.Now(), looked: looked}
		d.waiting[k] = x
		d.want(x, content)
	}
	old := d.excess()
	d.mu.Unlock()
	d.forget(ctx, old)
}

// excess lets wait no more what is too much: what has waited longest where too many wait,
// what waits for most where they wait for too much. d.mu is held.
func (d *deposits) excess() (old []*deposit) {
	for {
		var x *deposit
		switch {
		case len(d.waiting) > most:
			x = d.first(func(a, b *deposit) bool { return a.begun.Before(b.begun) })
		case d.named > mostNamed:
			x = d.first(func(a, b *deposit) bool { return len(a.missing) > len(b.missing) })
		default:
			return old
		}
		d.release(x)
		old = append(old, x)
	}
}

// first is the one that waits and comes before all others. d.mu is held.
func (d *deposits) first(before func(a, b *deposit) bool) *deposit {
	var first *deposit
	for _, x := range d.waiting {
		if first == nil || before(x, first) {
			first = x
		}
	}
	return first
}

// forget forgets for good what waits no more.
func (d *deposits) forget(ctx context.Context, old []*deposit) {
	for _, x := range old {
		d.unrecord(ctx, x.key)
	}
}

// want has x wait for what is not known to be there. d.mu is held: what arrives from
// now on is seen after it.
func (d *deposits) want(x *deposit, content origin.Content) {
	d.named -= len(x.missing)
	x.missing = map[digest.Digest]manifest{}
	for _, b := range content.Blobs {
		if _, ok := d.registry.links.held.Peek(blobKey{x.key.repo, b.Digest}); !ok {
			x.missing[b.Digest] = false
		}
	}
	for _, c := range content.Manifests {
		x.missing[c.Digest] = true
	}
	for what := range x.missing {
		k := blobKey{x.key.repo, what}
		d.wanted[k] = append(d.wanted[k], x)
	}
	d.named += len(x.missing)
	d.queue(x)
}

// queue has x handed over if it waits for nothing more. d.mu is held.
func (d *deposits) queue(x *deposit) {
	if len(x.missing) > 0 || x.queued {
		return
	}
	x.queued = true
	d.ready = append(d.ready, x)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// arrived takes note that a blob or a manifest is there.
func (d *deposits) arrived(k blobKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.wanted[k] {
		if _, missing := x.missing[k.digest]; missing {
			delete(x.missing, k.digest)
			d.named--
		}
		x.moved, x.looked = time.Now(), false
		d.queue(x)
	}
	delete(d.wanted, k)
}

// release lets x wait no more. d.mu is held.
func (d *deposits) release(x *deposit) {
	if d.waiting[x.key] != x {
		return
	}
	delete(d.waiting, x.key)
	d.named -= len(x.missing)
	for what := range x.missing {
		k := blobKey{x.key.repo, what}
		var others []*deposit
		for _, other := range d.wanted[k] {
			if other != x {
				others = append(others, other)
			}
		}
		if d.wanted[k] = others; len(others) == 0 {
			delete(d.wanted, k)
		}
	}
}

// drop forgets a manifest, which nobody wants any more.
func (d *deposits) drop(ctx context.Context, k blobKey) {
	d.mu.Lock()
	x, waits := d.waiting[k]
	if waits {
		d.release(x)
	}
	d.mu.Unlock()
	if waits {
		d.unrecord(ctx, k)
	}
}

// close hands over what is ready, until ctx ends, and then nothing more.
func (d *deposits) close(ctx context.Context) {
	d.end()
	defer context.AfterFunc(ctx, d.cut)()
	<-d.ended
}

// run hands over what is ready, and looks after what waits.
func (d *deposits) run(ctx context.Context) {
	defer close(d.ended)
	defer d.cut()
	d.load(ctx)
	ticker := time.NewTicker(round)
	defer ticker.Stop()
	for {
		d.handOver(ctx)
		select {
		case <-d.wake:
		case <-ticker.C:
			d.look(ctx)
		case <-d.closing.Done():
			d.handOver(ctx)
			return
		}
	}
}

// handOver hands over what is ready.
func (d *deposits) handOver(ctx context.Context) {
	for ctx.Err() == nil {
		d.mu.Lock()
		if len(d.ready) == 0 {
			d.mu.Unlock()
			return
		}
		x := d.ready[0]
		d.ready = d.ready[1:]
		x.queued = false
		waits := d.waiting[x.key] == x
		d.mu.Unlock()
		if waits {
			d.put(ctx, x)
		}
	}
}

// put hands a manifest over.
func (d *deposits) put(ctx context.Context, x *deposit) {
	m, _, err := d.read(ctx, x.key)
	if errors.Is(err, store.ErrNotFound) {
		d.mu.Lock()
		d.release(x)
		d.mu.Unlock()
		return
	}
	if err == nil {
		err = d.registry.writes.ask(ctx, false, func(ctx context.Context) error {
			_, err := d.registry.inner.Push(ctx, x.key.repo, m, origin.PushOptions{})
			return err
		})
	}
	if err != nil {
		d.failed(ctx, x, m, err)
		return
	}
	d.mu.Lock()
	d.release(x)
	d.mu.Unlock()
	d.unrecord(ctx, x.key)
	d.arrived(x.key)
}

// failed has x try again later. If something is missing after all, it waits for that
// anew.
func (d *deposits) failed(ctx context.Context, x *deposit, m origin.Manifest, err error) {
	if ctx.Err() != nil {
		return
	}
	if !errors.Is(err, errSilent) {
		d.registry.log.Warn("a mirrored manifest is not in the registry behind yet",
			"repository", x.key.repo.String(), "digest", x.key.digest.String(), "error", err)
	}
	var content origin.Content
	if errors.Is(err, origin.ErrManifestBlobUnknown) {
		// It was read before it was kept. Whether children are there is not to be seen
		// better than before.
		content, _ = origin.ReadManifest(m.MediaType, m.Bytes)
		content.Manifests = nil
		for _, b := range content.Blobs {
			if err := d.registry.links.drop(ctx, blobKey{x.key.repo, b.Digest}); err != nil {
				d.registry.log.Error("link not dropped", "error", err)
			}
		}
	}
	d.mu.Lock()
	x.next = time.Now().Add(min(retry<<min(x.failed, 10), retryMost))
	x.failed++
	var old []*deposit
	if len(content.Blobs) > 0 && d.waiting[x.key] == x {
		x.looked = false
		d.want(x, content)
		old = d.excess()
	}
	d.mu.Unlock()
	d.forget(ctx, old)
}

// look asks for what did not come by itself, tries again what failed, and gives up
// what waits for too long.
func (d *deposits) look(ctx context.Context) {
	now := time.Now()
	var old, doubtful []*deposit
	d.mu.Lock()
	for _, x := range d.waiting {
		switch {
		case now.Sub(x.begun) > given:
			d.release(x)
			old = append(old, x)
		case now.Before(x.next):
		case len(x.missing) == 0:
			d.queue(x)
		case !x.looked && now.Sub(x.moved) >= settled:
			doubtful = append(doubtful, x)
		}
	}
	d.mu.Unlock()
	d.forget(ctx, old)
	for _, x := range doubtful {
		if ctx.Err() != nil || d.closing.Err() != nil || d.registry.reads.away() {
			return
		}
		d.examine(ctx, x)
	}
}

// examine asks the registry for what x waits for.
func (d *deposits) examine(ctx context.Context, x *deposit) {
	missing := map[digest.Digest]manifest{}
	d.mu.Lock()
	x.looked = true
	maps.Copy(missing, x.missing)
	d.mu.Unlock()
	for what, is := range missing {
		k := blobKey{x.key.repo, what}
		if !is {
			if _, err := d.registry.links.find(ctx, k); err == nil {
				d.arrived(k)
			}
			continue
		}
		err := d.registry.reads.ask(ctx, true, func(ctx context.Context) error {
			_, err := d.registry.inner.Resolve(ctx, x.key.repo, origin.ByDigest(what))
			return err
		})
		if err == nil {
			d.arrived(k)
		}
	}
	d.mu.Lock()
	x.looked = true // what arrived by this look asks for no other one
	d.mu.Unlock()
}
