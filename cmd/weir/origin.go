package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/foreign"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/store"
)

// originHeader is how long another registry may take to answer: the last request of a
// push may have it move gigabytes.
const originHeader = time.Minute

// openOrigin makes the registry that takes what is pushed and keeps what is fetched:
// weir's own, or another one.
func (k *kept) openOrigin(c *config.Config, logs logs) (origin.Registry, error) {
	if !c.Origin.URL.IsZero() {
		return k.openForeign(c, logs)
	}
	o := registryOptions(c)
	o.Sole = k.sole
	o.Pushed, o.Watcher = k.watcher.Pushed, &k.watcher
	o.Others = k.replicas.others()
	o.Journal = k.outbox
	o.Logger = logs.room("origin")
	r, err := local.New(k.blobs, k.records, o)
	if err != nil {
		return nil, err
	}
	k.registry = r
	k.linker, _ = k.blobs.(store.Linker)
	return r, nil
}

// registryOptions are what a configuration says of weir's own registry.
func registryOptions(c *config.Config) local.Options {
	return local.Options{
		Delete:              c.Origin.Delete,
		MaxManifestSize:     int64(c.Origin.MaxManifestSize),
		MaxBlobSize:         int64(c.Origin.MaxBlobSize),
		Grace:               c.Origin.GC.Grace.Std(),
		RedirectTTL:         redirectTTL(c.Store.Blobs.S3),
		ImmutableTags:       expressions(c.Origin.ImmutableTags),
		ImmutableTagsExcept: expressions(c.Origin.ImmutableTagsExcept),
		Immutable:           c.Immutable(),
	}
}

// outside is somebody else's registry. What it was given, and what it is still to be
// given, is remembered beyond configurations; how weir is known there, and whose
// repositories are mirrored, is what the present one says.
type outside struct {
	access atomic.Pointer[access]
	table  atomic.Pointer[mirror.Table]
}

// access is how weir is known at another registry, and whom it believes there.
type access struct {
	login.Provider
	files *egress.Files
}

func newAccess(c config.Origin, log *slog.Logger) (*access, error) {
	files, err := egress.OpenFiles(c.CA, c.Certificate, c.Key, func(err error) {
		log.Warn("changed files not taken up", "key", "origin", "error", err)
	})
	if err != nil {
		return nil, err
	}
	a := &access{Provider: nobody{}, files: files}
	if c.Username != "" {
		a.Provider = login.Static(c.Username, c.Password.Value)
	}
	return a, nil
}

// nobody is who asks where there are no credentials.
type nobody struct{}

func (nobody) Login(context.Context) (login.Login, error) { return login.Login{}, nil }

func (nobody) Drop(login.Login) {}

// follow has it known as a says. A nil outside is not there.
func (e *outside) follow(a *app) {
	if e == nil {
		return
	}
	e.access.Store(a.access)
	e.table.Store(a.table)
}

// Login implements [login.Provider].
func (e *outside) Login(ctx context.Context) (login.Login, error) {
	return e.access.Load().Login(ctx)
}

// Drop implements [login.Provider].
func (e *outside) Drop(l login.Login) { e.access.Load().Drop(l) }

func (e *outside) trust() *egress.Trust { return e.access.Load().files.Trust() }

func (e *outside) mirrored(repo origin.Repo) bool { return e.table.Load().Mirrored(repo) }

// openForeign makes the registry that is somebody else's.
func (k *kept) openForeign(c *config.Config, logs logs) (origin.Registry, error) {
	log := logs.room("origin")
	known, err := newAccess(c.Origin, log)
	if err != nil {
		return nil, err
	}
	// What waits to be handed over is looked at before anybody asks: the names are enough.
	var named []*mirror.Upstream
	for _, u := range c.Mirror.Upstreams {
		named = append(named, &mirror.Upstream{Name: u.Name, Aliases: u.Aliases})
	}
	names, err := mirror.NewTable(named, c.Mirror.Default, "")
	if err != nil {
		return nil, err
	}
	e := &outside{}
	e.follow(&app{access: known, table: names})
	base := c.Origin.Base()
	r, err := remote.NewOrigin(remote.Options{
		URL:       &base.URL,
		Login:     e,
		Trust:     e.trust,
		Timeouts:  remote.Timeouts{Header: originHeader},
		UserAgent: "weir/" + version,
		Network:   network("origin"),
	})
	if err != nil {
		return nil, err
	}
	k.outside = e
	f := foreign.New(r, k.records, foreign.Options{Mirrored: e.mirrored, Log: log})
	k.drains = append(k.drains, func(ctx context.Context) {
		f.Close(ctx)
		r.Close()
	})
	return recorded{f, events.Recorded{Journal: k.outbox, Records: k.records}}, nil
}
