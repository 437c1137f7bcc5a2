package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/ui/view"
)

// kept is what outlives a configuration: what is stored, what of it is in memory, what
// runs, and what was learnt of others. Of a configuration it reads only what needs a
// restart; all else is an app's, which is made anew, or is set by configure.
type kept struct {
	metrics *observe.Metrics
	history *view.History
	admin   http.Handler
	ready   *readiness
	log     *slog.Logger

	blobs    store.Blobs
	records  store.Records
	space    func() (free, total int64, err error) // where the blobs are; nil: it has no end
	stores   []*disk.Store
	ids      []string // of the stores, where only these may be opened
	buckets  []*s3.Store
	sole     bool         // no other process uses the store
	replicas *replicas    // nil: this is the only one
	presence *presence    // nil then
	marks    []byte       // the key of guards: a list goes on after a reload, and at another replica
	linker   store.Linker // of the blobs of registry; nil: it has none

	origin   origin.Registry
	registry *local.Registry // it, if it is weir's own
	outside  *outside        // nil then
	garbage  *lifetime.Collector
	retainer *lifetime.Retainer
	scrubber *lifetime.Scrubber
	pulls    *lifetime.Pulls
	quota    *lifetime.Quota
	cache    *evict.Cache // nil: nothing is evicted
	outbox   *events.Outbox
	watcher  cacheWatcher // of it

	spools *fill.Spools
	fills  *fill.Group
	memory *mirror.Mirror // it serves nobody: those that do have its memory

	turns     *turns
	uploads   observe.OpenUploads
	upstreams pool[*fanout.Fanout]
	providers pool[*tokens]
	secured   pool[*mtls.Server]
	traces    pool[*observe.Tracing]

	drains  []func(context.Context) // what goes on behind the mirror, and ends after it
	closers []func() error          // in the order in which they are called
}

// open opens what c keeps things in. It asks nobody over the network but the store.
func open(p parts, c *config.Config, logs logs) (_ *kept, err error) {
	k := &kept{log: logs.room("origin"), ids: p.ids, turns: &turns{}}
	defer func() {
		if err != nil {
			k.drain(context.Background()) // nothing has begun
			err = errors.Join(err, k.release())
		}
	}()
	gatherer := prometheus.NewRegistry()
	gatherer.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	k.metrics, k.history = observe.NewMetrics(gatherer), view.NewHistory()
	k.metrics.Build(version, commit)

	if k.blobs, k.records, k.space, err = p.open(k, c.Store, k.metrics, logs.room("store")); err != nil {
		return nil, err
	}
	if k.replicas, k.records, err = openReplicas(c.Store.Redis, k.records, p.patience, logs); err != nil {
		return nil, err
	}
	k.marks = make([]byte, guard.KeySize)
	_, _ = rand.Read(k.marks) // never fails
	if k.replicas != nil {
		k.marks = k.replicas.marks
		k.closers = slices.Insert(k.closers, 0, k.replicas.close) // before the store that they watch
	}
	k.openOutbox(logs.room("origin"))
	if k.origin, err = k.openOrigin(c, logs); err != nil {
		return nil, err
	}
	if k.spools, err = k.openSpools(c.Store.Blobs); err != nil {
		return nil, err
	}
	if k.registry != nil {
		k.garbage = lifetime.NewCollector(k.registry, k.registry, lifetime.CollectOptions{})
		k.retainer = lifetime.NewRetainer(k.registry, k.registry, lifetime.RetainOptions{})
		k.scrubber = lifetime.NewScrubber(k.registry, lifetime.ScrubOptions{})
		k.pulls = lifetime.NewPulls(k.records, k.registry)
		k.quota = lifetime.NewQuota(nil, k.registry, lifetime.QuotaOptions{})
	}
	if k.registry != nil {
		// Nothing that comes after it fails: close ends it.
		k.cache = evict.New(k.registry, k.records, evict.Options{
			Limits: cacheLimits(c),
			Space:  k.space,
			Shared: k.replicas.evicting(),
			Meter:  k.metrics,
			Log:    logs.room("mirror"),
		})
		k.watcher.cache.Store(k.cache)
	}
	k.fills = fill.NewGroup(k.spools, fill.Options{
		Limits:   fillLimits(c),
		Budget:   cacheBudget{k.cache},
		Replicas: k.replicas.fills(),
		Stored:   k.filled,
		Meter:    k.metrics,
		Log:      logs.room("mirror"),
	})
	if k.replicas.fills() != nil {
		k.replicas.hops.group = k.fills
	}
	k.beginPresence(time.Now())
	k.memory = mirror.New(k.origin, k.records, k.fills, &mirror.Table{}, mirror.Options{
		Shared: k.replicas.shared(),
		Meter:  k.meter(),
		Log:    logs.room("mirror"),
	})
	k.ready = &readiness{probe: func(ctx context.Context) error { return probe(ctx, k.stores, k.blobs, k.records) }}
	k.admin = admin(gatherer, k.ready)
	return k, nil
}

// configure has what is kept follow the app that serves from now on: what limits what
// runs is not the business of one app alone. Errors: then all stays as it was.
func (k *kept) configure(a *app) error {
	c := a.config
	if k.registry != nil {
		if err := k.registry.Configure(registryOptions(c)); err != nil {
			return err
		}
	}
	k.outside.follow(a)
	k.cache.Configure(cacheLimits(c))
	k.fills.Configure(fillLimits(c))
	k.outbox.Receive(eventSource(c), a.receivers)
	k.turns.configure(c.Server.MaxConcurrentRequests, c.Server.QueueTimeout.Std())
	return nil
}

func cacheLimits(c *config.Config) evict.Limits {
	return evict.Limits{MaxSize: int64(c.Mirror.Cache.MaxSize), MinFree: c.Mirror.Cache.MinFree.Of, Quota: quotas(c)}
}

func fillLimits(c *config.Config) fill.Limits {
	return fill.Limits{
		Linger:      linger(c.Mirror.Fills.Linger),
		Concurrency: c.Mirror.Fills.Concurrency,
		Streams:     c.Mirror.Fills.Streams,
		PartSize:    int64(c.Mirror.Fills.PartSize),
	}
}

func linger(l config.Linger) time.Duration {
	if l.Complete {
		return fill.Complete
	}
	return l.For.Std()
}

// close waits for running fills until ctx ends, and lets go of the store; last is the
// mirror that served last. Its error says that fills were cut.
func (k *kept) close(ctx context.Context, last *mirror.Mirror) error {
	err := last.Close(ctx)
	k.drain(ctx)
	if k.pulls != nil {
		// Also where a client has used up all the time that there was.
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		if err := k.pulls.Save(saving); err != nil {
			k.log.Error("pulls not written down", "error", err)
		}
	}
	if saved := k.cache.Close(ctx); saved != nil {
		k.log.Error("use of the cache not written down", "error", saved)
	}
	if released := k.release(); released != nil {
		k.log.Error("not closed", "error", released)
	}
	return err
}

// drain ends what goes on behind the mirror, until ctx ends.
func (k *kept) drain(ctx context.Context) {
	for _, d := range k.drains {
		d(ctx)
	}
	k.drains = nil
}

func (k *kept) release() error { return releaseAll(k.closers) }

func releaseAll(closers []func() error) error {
	var err error
	for _, c := range closers {
		err = errors.Join(err, c())
	}
	return err
}
