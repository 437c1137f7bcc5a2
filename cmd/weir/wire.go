package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

// spoolDir is where running fills are kept, below the root of the blobs: there a
// finished one becomes a blob without a copy.
const spoolDir = "spool"

// spoolAge is how long what is left of a download that broke off, or was cut by the end
// of the process, waits for somebody to ask for the same blob again.
const spoolAge = time.Hour

// app is everything that a configuration composes.
type app struct {
	public http.Handler
	admin  http.Handler
	ready  *readiness

	secured *mtls.Server // nil: clients connect in plain text
	rights  *rights

	registry *local.Registry // nil: another one is used instead
	cache    *evict.Cache    // nil then
	mirror   *mirror.Mirror
	spools   *fill.Spools
	stores   []*disk.Store
	drains   []func(context.Context) // what goes on behind the mirror, and ends after it
	closers  []func() error          // in the order in which they are called
	log      *slog.Logger
}

// compose makes what c says. It asks nobody over the network: weir starts while
// every upstream is down.
func compose(c *config.Config, logs logs) (_ *app, err error) {
	a := &app{log: logs.room("origin")}
	defer func() {
		if err != nil {
			a.drain(context.Background()) // nothing has begun
			err = errors.Join(err, a.release())
		}
	}()

	if a.secured, err = openTLS(c.Server, logs.room("server")); err != nil {
		return nil, err
	}
	blobs, records, space, err := a.openStore(c.Store)
	if err != nil {
		return nil, err
	}

	gatherer := prometheus.NewRegistry()
	gatherer.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := observe.NewMetrics(gatherer)
	metrics.Build(version, commit)

	if a.rights, err = newRights(c, a.secured, records, metrics, logs); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, a.rights.close)
	upstreams, err := newUpstreams(c.Mirror.Upstreams, metrics, logs.room("mirror"))
	if err != nil {
		return nil, err
	}
	for _, u := range upstreams {
		a.closers = append(a.closers, func() error { u.Reader.Close(); return nil })
	}
	table, err := mirror.NewTable(upstreams, c.Mirror.Default, c.Server.ExternalURL.Host)
	if err != nil {
		return nil, err
	}
	registry, err := a.openOrigin(c, blobs, records, table, logs)
	if err != nil {
		return nil, err
	}
	spools, err := fill.OpenSpools(filepath.Join(c.Store.Blobs.Filesystem.Root, spoolDir))
	if err != nil {
		return nil, err
	}
	a.spools = spools
	a.closers = append(a.closers, spools.Close)
	if a.registry != nil {
		// Nothing that comes after it fails: close ends it.
		a.cache = evict.New(a.registry, records, evict.Options{
			MaxSize: int64(c.Mirror.Cache.MaxSize),
			MinFree: c.Mirror.Cache.MinFree.Of,
			Space:   space,
			Meter:   metrics,
			Log:     logs.room("mirror"),
		})
	}
	fills := fill.NewGroup(spools, fill.Options{
		Linger:      linger(c.Mirror.Fills.Linger),
		Concurrency: c.Mirror.Fills.Concurrency,
		Streams:     c.Mirror.Fills.Streams,
		PartSize:    int64(c.Mirror.Fills.PartSize),
		Budget:      a.cache,
		Meter:       metrics,
		Log:         logs.room("mirror"),
	})
	var guarded *guard.Guard
	a.mirror = mirror.New(registry, records, fills, table, mirror.Options{
		Delete: c.Origin.Delete,
		Cache:  a.cache,
		Meter:  metrics,
		Log:    logs.room("mirror"),

		Claims: a.rights.policy.Claimable(),
		Reads: func(ctx context.Context, full origin.Repo) bool {
			return guarded.May(ctx, full, authz.Access{Action: authz.Pull, Operation: "get-blob"})
		},
	})
	guarded = a.rights.guard(a.mirror, a.mirror.Locate)

	options := serve.Options{
		Names:           table,
		MaxManifestSize: int64(c.Origin.MaxManifestSize),
		Logger:          logs.room("server"),
		Stall:           c.Server.Timeouts.Stall.Std(),
		Base:            a.rights.base,
		Ext:             extensions(a.mirror, guarded, a.rights, fills, table, c),
	}
	if !c.Server.ExternalURL.IsZero() {
		options.ExternalURL = &c.Server.ExternalURL.URL
	}
	public := a.rights.identify(serve.New(guarded, options))
	public = framed(public, a.rights.peers)
	public = queue(public, c.Server.MaxConcurrentRequests, c.Server.QueueTimeout.Std())
	a.public = observe.HTTP(public, metrics, logs.room("server"))

	a.ready = &readiness{probe: func(ctx context.Context) error { return probe(ctx, a.stores, blobs, records) }}
	a.admin = admin(gatherer, a.ready)
	return a, nil
}

// openStore opens the roots of blobs and records; they may be one. space tells how much
// is free where the blobs are.
func (a *app) openStore(c config.Store) (b store.Blobs, r store.Records, space func() (free, total int64, err error), err error) {
	blobs, err := disk.Open(c.Blobs.Filesystem.Root, disk.Options{})
	if err != nil {
		return nil, nil, nil, err
	}
	a.stores = append(a.stores, blobs)
	a.closers = append(a.closers, blobs.Close)
	if c.Metadata.Filesystem.Root == c.Blobs.Filesystem.Root {
		return blobs.Blobs(), blobs.Records(), blobs.Space, nil
	}
	records, err := disk.Open(c.Metadata.Filesystem.Root, disk.Options{})
	if err != nil {
		return nil, nil, nil, err
	}
	a.stores = append(a.stores, records)
	a.closers = append(a.closers, records.Close)
	return blobs.Blobs(), records.Records(), blobs.Space, nil
}

// close waits for running fills until ctx ends, and lets go of the store. Its error
// says that fills were cut.
func (a *app) close(ctx context.Context) error {
	err := a.mirror.Close(ctx)
	a.drain(ctx)
	if saved := a.cache.Close(ctx); saved != nil {
		a.log.Error("use of the cache not written down", "error", saved)
	}
	if released := a.release(); released != nil {
		a.log.Error("not closed", "error", released)
	}
	return err
}

// drain ends what goes on behind the mirror, until ctx ends.
func (a *app) drain(ctx context.Context) {
	for _, d := range a.drains {
		d(ctx)
	}
	a.drains = nil
}

func (a *app) release() error {
	var err error
	for _, c := range a.closers {
		err = errors.Join(err, c())
	}
	return err
}

// sweep drops uploads that expired, and downloads that broke off and nobody asked for
// again, now and at each interval, until ctx ends.
func (a *app) sweep(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		a.sweepUploads(ctx)
		if err := a.spools.Sweep(time.Now().Add(-spoolAge)); err != nil {
			a.log.Error("what is left of downloads not swept", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (a *app) sweepUploads(ctx context.Context) {
	if a.registry == nil {
		return
	}
	n, err := a.registry.SweepUploads(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Error("expired uploads not swept", "error", err)
	} else if n > 0 {
		a.log.Info("expired uploads dropped", "count", n)
	}
}

// probe writes a little, and reads what does not exist: a store that is full, or away,
// does not answer so.
func probe(ctx context.Context, stores []*disk.Store, blobs store.Blobs, records store.Records) error {
	for _, s := range stores {
		if err := s.Probe(ctx); err != nil {
			return err
		}
	}
	const none = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	if _, err := blobs.Stat(ctx, none); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if _, err := records.Get(ctx, "ready"); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

func linger(l config.Linger) time.Duration {
	if l.Complete {
		return fill.Complete
	}
	return l.For.Std()
}

func expressions(list []config.Regexp) []*regexp.Regexp {
	var compiled []*regexp.Regexp
	for _, re := range list {
		compiled = append(compiled, regexp.MustCompile(re.String())) // config has compiled it before
	}
	return compiled
}

// whole reports for a tag whether one of list matches all of it, and none of except.
func whole(list, except []config.Regexp) func(tag string) bool {
	matches := func(list []config.Regexp, tag string) bool {
		for _, re := range list {
			if re.MatchString(tag) {
				return true
			}
		}
		return false
	}
	return func(tag string) bool { return matches(list, tag) && !matches(except, tag) }
}
