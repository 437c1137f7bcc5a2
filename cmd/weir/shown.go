package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/ui/view"
)

// newView makes what is shown of an app, to whoever g lets see it.
func (a *app) newView(g *guard.Guard, fills *fill.Group, uploads *observe.Uploads, space func() (free, total int64, err error), c *config.Config) *view.View {
	here := shownHere{a.mirror.Here(), a.registry, a.pulls, a.cache}
	return view.New(view.Options{
		Here:  here,
		Guard: a.rights.around(here, here.Locate),
		Locate: func(ctx context.Context, repo origin.Repo) (origin.Repo, string, error) {
			return a.mirror.Locate(ctx, repo, false)
		},
		Activity: activity{fills, uploads, a, space, int64(c.Mirror.Cache.MaxSize)},
		History:  a.history,
		Events:   shownEvents{a.outbox},
		Deleter:  g,
		Deletes:  c.Origin.Delete,
		Config:   c.Effective,
		Explain: func(ctx context.Context, image string) (origin.Explanation, error) {
			return explain(ctx, image, a.mirror, g, a.rights, a.table, c)
		},
	})
}

// shownHere is what is here: see view.Here.
type shownHere struct {
	*mirror.Here
	registry *local.Registry // nil: another one is used instead
	pulls    *lifetime.Pulls // nil then
	cache    *evict.Cache    // nil: nothing is evicted
}

// Tagged implements view.Here.
func (s shownHere) Tagged(ctx context.Context, repo origin.Repo, tag string) (pushed, checked time.Time, err error) {
	if checked, err = s.Checked(ctx, repo, tag); err != nil || s.registry == nil {
		return pushed, checked, err
	}
	t, err := s.registry.Tagged(ctx, repo, tag)
	if origin.Unknown(err) {
		err = nil
	}
	return t.PushedAt, checked, err
}

// Pulled implements view.Here. Of what is mirrored the cache knows when it was used.
func (s shownHere) Pulled(ctx context.Context, repo origin.Repo) (func(origin.Ref, origin.Manifest, origin.Content) time.Time, error) {
	var known map[string]time.Time
	if s.pulls != nil {
		last, err := s.pulls.Last(ctx, repo)
		if err != nil && !errors.Is(err, origin.ErrDamaged) { // of pulls: then they are not known
			return nil, err
		}
		known = last
	}
	_, upstream, err := s.Locate(ctx, repo, false)
	if err != nil {
		return nil, err
	}
	return func(tag origin.Ref, m origin.Manifest, c origin.Content) time.Time {
		last := known[tag.String()]
		if at := known[m.Digest.String()]; at.After(last) {
			last = at
		}
		if upstream == "" {
			return last
		}
		for _, b := range c.Blobs {
			if at, ok := s.cache.LastUse(b.Digest); ok && at.After(last) {
				last = at
			}
		}
		return last
	}, nil
}

// activity is what goes on: see view.Activity.
type activity struct {
	fills   *fill.Group
	uploads *observe.Uploads
	app     *app
	space   func() (free, total int64, err error) // where the blobs are; nil: that is not known
	most    int64                                 // bytes that the cache may have; 0: no limit
}

// State implements view.Activity.
func (a activity) State() view.State {
	c := &view.Cache{Known: a.app.cache != nil, Bytes: a.app.cache.Bytes(), Most: a.most}
	if a.space != nil {
		if free, total, err := a.space(); err == nil {
			c.Disk = &view.Disk{Free: free, Total: total}
		}
	}
	s := view.State{Version: version, Cache: c, Replica: view.Replica{Alone: a.app.replicas == nil}}
	if r := a.app.replicas; r != nil {
		s.Replica.Current, s.Replica.Others = r.current(), a.app.presence.list()
		if r.hops != nil {
			s.Replica.Advertise = r.hops.own
		}
	}
	return s
}

// Fills implements view.Activity.
func (a activity) Fills() []view.Fill {
	var list []view.Fill
	for _, f := range a.fills.Running() {
		full, err := a.app.table.Name("", f.Key.Upstream, f.Key.Repo)
		if err != nil {
			continue // of an upstream that there is no more
		}
		x := view.Fill{
			Upstream: f.Key.Upstream, Endpoint: f.Upstream, Repository: full.String(),
			Digest: f.Key.Digest, Received: f.Received, Followers: f.Followers,
		}
		if f.Size >= 0 {
			x.Size = &f.Size
		}
		list = append(list, x)
	}
	return list
}

// Uploads implements view.Activity.
func (a activity) Uploads() []view.Upload {
	var list []view.Upload
	for _, u := range a.uploads.Open() {
		list = append(list, view.Upload{Repository: u.Repo.String(), Received: u.Size, StartedAt: u.Begun.UTC(), UpdatedAt: u.Updated.UTC()})
	}
	return list
}

// Upstreams implements view.Activity.
func (a activity) Upstreams(ctx context.Context) []view.Upstream {
	list, who := []view.Upstream{}, guard.Who(ctx)
	for _, u := range a.app.table.Upstreams() {
		if !a.app.rights.mayPull(who, u.Name) {
			continue
		}
		x := view.Upstream{Name: u.Name, Aliases: append([]string{}, u.Aliases...), Default: a.app.table.Default(u), Endpoints: []view.Endpoint{}}
		for _, e := range u.Reader.Endpoints() {
			x.Endpoints = append(x.Endpoints, describeEndpoint(e))
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b view.Upstream) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func describeEndpoint(e fanout.Status) view.Endpoint {
	x := view.Endpoint{Host: e.Host, Up: e.Up, Latency: float64(e.Latency.Microseconds()) / 1000}
	if !e.LimitedUntil.IsZero() {
		x.LimitedUntil = &e.LimitedUntil
	}
	if e.Limit >= 0 {
		x.Limit, x.Remaining = &e.Limit, &e.Remaining
	}
	return x
}
