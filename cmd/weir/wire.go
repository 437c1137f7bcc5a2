package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/ui"
)

// spoolAge is how long what is left of a download that broke off, or was cut by the end
// of the process, waits for somebody to ask for the same blob again.
const spoolAge = time.Hour

// app is everything that a configuration composes, over what is kept. It does not change:
// another configuration makes another app over the same.
type app struct {
	*kept
	use use // by requests and jobs

	public  http.Handler
	secured *mtls.Server // nil: clients connect in plain text
	rights  *rights
	tracing *observe.Tracing // nil: there is none
	access  *access          // to the registry that is used instead of weir's own; nil: it is not

	config    *config.Config
	table     *mirror.Table
	garbage   *lifetime.Collector
	retainer  *lifetime.Retainer
	scrubber  *lifetime.Scrubber
	mirror    *mirror.Mirror
	receivers []events.Receiver
	pages     *ui.UI         // nil: there are none
	closers   []func() error // in the order in which they are called
}

// compose makes what c says. It asks nobody over the network: weir starts while
// every upstream is down.
func compose(c *config.Config, logs logs) (*app, error) {
	return composeOf(parts{open: (*kept).openStore}, c, logs)
}

// parts are what does not follow from a configuration, or what tests have others of.
type parts struct {
	// open opens the stores of blobs and of records. space tells how much is free where
	// the blobs are.
	open     func(k *kept, c config.Store, metrics *observe.Metrics, log *slog.Logger) (b store.Blobs, r store.Records, space func() (free, total int64, err error), err error)
	ids      []string      // the names of the stores that the directories must be, in the order of openStore; nil: any
	patience time.Duration // with Redis; 0: coord's
}

func composeOf(p parts, c *config.Config, logs logs) (*app, error) {
	k, err := open(p, c, logs)
	if err != nil {
		return nil, err
	}
	a, err := k.compose(c, logs)
	if err == nil {
		if err = k.configure(a); err == nil {
			return a, nil
		}
		err = errors.Join(err, a.release())
	}
	return nil, errors.Join(err, k.close(context.Background(), k.memory)) // nothing has begun
}

// compose makes what c says over what is kept, and changes nothing there: whoever has it
// serve from now on calls configure.
func (k *kept) compose(c *config.Config, logs logs) (_ *app, err error) {
	a := &app{kept: k, config: c, use: newUse()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.release())
		}
	}()
	if a.tracing, err = a.openTracing(c.Tracing, logs.room("server")); err != nil {
		return nil, err
	}
	if a.secured, err = a.openTLS(c.Server, logs.room("server")); err != nil {
		return nil, err
	}
	if a.rights, err = a.newRights(c, logs); err != nil {
		return nil, err
	}
	if a.receivers, err = a.newReceivers(c.Events, logs.room("origin")); err != nil {
		return nil, err
	}
	upstreams, err := a.newUpstreams(c.Mirror.Upstreams, logs.room("mirror"))
	if err != nil {
		return nil, err
	}
	if a.table, err = mirror.NewTable(upstreams, c.Mirror.Default, c.Server.ExternalURL.Host); err != nil {
		return nil, err
	}
	if a.registry == nil {
		if a.access, err = newAccess(c.Origin, logs.room("origin")); err != nil {
			return nil, err
		}
	} else {
		a.garbage = a.kept.garbage.With(lifetime.CollectOptions{
			Grace:        c.Origin.GC.Grace.Std(),
			UploadExpiry: c.Origin.UploadExpiry.Std(),
			Shared:       !a.sole,
			Meter:        a.metrics,
		})
		a.retainer = a.newRetainer(c)
		a.scrubber = a.newScrubber(c)
	}
	var guarded *guard.Guard
	a.mirror = a.memory.With(a.origin, a.table, mirror.Options{
		Delete: c.Origin.Delete,
		Cache:  a.cache,

		Redirect:    redirects(c),
		RedirectTTL: redirectTTL(c.Store.Blobs.S3),

		Claims: a.rights.policy.Claimable(),
		Reads: func(ctx context.Context, full origin.Repo) bool {
			return guarded.Can(ctx, full, authz.Access{Action: authz.Pull, Operation: "get-blob"})
		},
		Pushes: func(ctx context.Context, repo origin.Repo, manifest origin.Ref) bool {
			return a.rights.mightPush(ctx, guarded, repo, manifest)
		},
	})
	var places origin.Redirector
	if c.Store.Blobs.S3.Redirecting() {
		places = a.mirror
	}
	uploads := observe.NewUploads(&a.uploads, a.limited(c), func(ctx context.Context, repo origin.Repo) (origin.Repo, error) {
		full, _, err := a.mirror.Locate(ctx, repo, true)
		return full, err
	}, c.Origin.UploadExpiry.Std())
	guarded = a.rights.guard(a.tracing.Registry(uploads), a.mirror.Locate, places)
	shown := a.newView(guarded, a.fills, uploads, a.space, c)

	options := serve.Options{
		Names:           a.table,
		Parse:           parser(a.tracing),
		MaxManifestSize: int64(c.Origin.MaxManifestSize),
		Logger:          logs.room("server"),
		Stall:           c.Server.Timeouts.Stall.Std(),
		Base:            a.rights.base,
		Ext:             extensions(shown),
	}
	if a.replicas.fills() != nil {
		options.Fill = a.replicas.hops.serve
	}
	if !c.Server.ExternalURL.IsZero() {
		options.ExternalURL = &c.Server.ExternalURL.URL
	}
	if a.pages, err = a.newUI(shown, a.records, c, logs.room("ui")); err != nil {
		return nil, err
	}
	public := a.rights.identify(faced(serve.New(counted{guarded, a.pulls, a.outbox, a.mirror.Locate}, options), a.pages))
	public = framed(public, a.rights.peers)
	public = serve.Paced(a.turns.queue(public), c.Server.Timeouts.Stall.Std())
	if a.pages != nil {
		public = ui.Headers(public)
	}
	a.public = a.tracing.HTTP(public, a.metrics, logs.room("server"))
	return a, nil
}

// close waits for running fills until ctx ends, and lets go of everything, what is kept
// too. Its error says that fills were cut.
func (a *app) close(ctx context.Context) error {
	err := a.kept.close(ctx, a.mirror)
	if released := a.release(); released != nil {
		a.log.Error("not closed", "error", released)
	}
	return err
}

// retire waits until nobody uses the app any more, in whose place another one serves over
// what is kept, and ends what is its own. When ctx ends, that is cut.
func (a *app) retire(ctx context.Context) {
	a.use.end(ctx)
	a.mirror.Retire(ctx)
	if err := a.release(); err != nil {
		a.log.Error("not closed", "error", err)
	}
}

// release lets go of what is the app's own.
func (a *app) release() error { return releaseAll(a.closers) }

// sweep drops downloads that broke off and nobody asked for again, what processes have
// left in buckets, and who signed out so long ago that it says nothing any more.
func (a *app) sweep(ctx context.Context) {
	if err := a.spools.Sweep(time.Now().Add(-spoolAge)); err != nil {
		a.log.Error("what is left of downloads not swept", "error", err)
	}
	a.sweepBuckets(ctx)
	if err := (endedSessions{a.records}).sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
		a.log.Error("sessions that were ended not swept", "error", err)
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
