package main

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/foreign"
	"github.com/weir-registry/weir/origin"
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
func (a *app) openOrigin(c *config.Config, blobs store.Blobs, records store.Records, t *mirror.Table, logs logs) (origin.Registry, error) {
	if !c.Origin.URL.IsZero() {
		return a.openForeign(c.Origin, records, t, logs)
	}
	r, err := local.New(blobs, records, local.Options{
		Delete:              c.Origin.Delete,
		MaxManifestSize:     int64(c.Origin.MaxManifestSize),
		MaxBlobSize:         int64(c.Origin.MaxBlobSize),
		UploadExpiry:        c.Origin.UploadExpiry.Std(),
		ImmutableTags:       expressions(c.Origin.ImmutableTags),
		ImmutableTagsExcept: expressions(c.Origin.ImmutableTagsExcept),
		Pushed:              func(d digest.Digest) { a.cache.Pushed(d) },
		Logger:              logs.room("origin"),
	})
	if err != nil {
		return nil, err
	}
	a.registry = r
	return r, nil
}

// openForeign makes the registry that is somebody else's.
func (a *app) openForeign(c config.Origin, records store.Records, t *mirror.Table, logs logs) (origin.Registry, error) {
	log := logs.room("origin")
	files, err := egress.OpenFiles(c.CA, c.Certificate, c.Key, func(err error) {
		log.Warn("changed files not taken up", "key", "origin", "error", err)
	})
	if err != nil {
		return nil, err
	}
	base := c.Base()
	options := remote.Options{
		URL:       &base.URL,
		Trust:     files.Trust,
		Timeouts:  remote.Timeouts{Header: originHeader},
		UserAgent: "weir/" + version,
	}
	if c.Username != "" {
		options.Login = login.Static(c.Username, c.Password.Value)
	}
	r, err := remote.NewOrigin(options)
	if err != nil {
		return nil, err
	}
	f := foreign.New(r, records, foreign.Options{Mirrored: t.Mirrored, Log: log})
	a.drains = append(a.drains, func(ctx context.Context) {
		f.Close(ctx)
		r.Close()
	})
	return f, nil
}
