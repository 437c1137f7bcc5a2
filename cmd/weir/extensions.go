package main

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
)

// extension answers one address below /v2/_ext/ with what is encoded as JSON.
type extension = func(ctx context.Context, q url.Values) (any, error)

// extensions are the addresses below /v2/_ext/. What whoever asks may not pull is not in
// what they show.
func extensions(m *mirror.Mirror, g *guard.Guard, a *rights, fills *fill.Group, table *mirror.Table, c *config.Config) map[string]extension {
	listed := func(name string, answer extension) extension {
		return func(ctx context.Context, q url.Values) (any, error) {
			if err := g.Allow(ctx, origin.Repo{}, authz.Access{Action: authz.List, Operation: "list-" + name}); err != nil {
				return nil, err
			}
			return answer(ctx, q)
		}
	}
	return map[string]extension{
		"explain": listed("explain", func(ctx context.Context, q url.Values) (any, error) {
			return explain(ctx, q.Get("image"), m, g, a, table, c)
		}),
		"fills": listed("fills", func(ctx context.Context, _ url.Values) (any, error) {
			return runningFills(ctx, fills, table, g), nil
		}),
		"upstreams": listed("upstreams", func(ctx context.Context, _ url.Values) (any, error) {
			return describeUpstreams(ctx, table, a), nil
		}),
	}
}

// explain says where an image comes from, and what of it is here. Of one that may not be
// pulled it says what it says of one of which nothing is here.
func explain(
	ctx context.Context, image string, m *mirror.Mirror, g *guard.Guard, a *rights, table *mirror.Table, c *config.Config,
) (any, error) {
	repo, ref, err := findImage(image, table, c)
	if err != nil {
		return nil, err
	}
	var x mirror.Explanation
	if g.May(ctx, repo, authz.Access{
		Action: authz.Pull, Operation: "get-manifest", Tag: ref.Tag(), Digest: ref.Digest().String(),
	}) {
		x, err = m.Explain(ctx, repo, ref)
	} else {
		x, err = m.ExplainNothing(ctx, repo, ref)
	}
	if x.Upstream != "" && !a.mayPull(guard.Who(ctx), x.Upstream) {
		x.Endpoints = nil
	}
	x.Image = image
	return x, err
}

// findImage reads an image's name as people write it.
func findImage(name string, table *mirror.Table, c *config.Config) (origin.Repo, origin.Ref, error) {
	x, err := parseImage(name)
	if err != nil {
		return origin.Repo{}, origin.Ref{}, err
	}
	if ours(x.host, c) {
		x.host = ""
	}
	repo, err := table.Name("", x.host, x.repo)
	return repo, x.ref, err
}

// ours reports whether host is one that weir itself is known by.
func ours(host string, c *config.Config) bool {
	return host == c.Server.ExternalURL.Host ||
		slices.ContainsFunc(c.Server.Listen, func(a config.Address) bool { return a.Addr == host })
}

type fillJSON struct {
	Upstream   string `json:"upstream"`
	Endpoint   string `json:"endpoint,omitempty"` // host of the one that answered
	Repository string `json:"repository"`         // its full name
	Digest     string `json:"digest"`
	Size       *int64 `json:"size,omitempty"` // bytes, if the upstream said
	Received   int64  `json:"received"`       // bytes
	Followers  int    `json:"followers"`
}

// mostShown is how many fills are decided on for one answer.
const mostShown = 200

// runningFills gives the fills of what may be pulled.
func runningFills(ctx context.Context, fills *fill.Group, table *mirror.Table, g *guard.Guard) any {
	list := []fillJSON{}
	running := fills.Running()
	for _, f := range running[:min(len(running), mostShown)] {
		x := fillJSON{
			Upstream: f.Key.Upstream, Endpoint: f.Upstream, Repository: f.Key.Repo.String(),
			Digest: f.Key.Digest.String(), Received: f.Received, Followers: f.Followers,
		}
		if full, err := table.Name("", f.Key.Upstream, f.Key.Repo); err == nil {
			x.Repository = full.String()
			if !g.May(ctx, full, authz.Access{Action: authz.Pull, Operation: "get-blob", Digest: x.Digest}) {
				continue
			}
		}
		if f.Size >= 0 {
			x.Size = &f.Size
		}
		list = append(list, x)
	}
	return map[string]any{"fills": list}
}

type upstreamJSON struct {
	Name      string         `json:"name"`
	Aliases   []string       `json:"aliases"`
	Default   bool           `json:"default"`
	Endpoints []endpointJSON `json:"endpoints"`
}

type endpointJSON struct {
	Host         string     `json:"host"`
	Up           bool       `json:"up"`
	Latency      float64    `json:"latency,omitempty"`       // ms, a mean of the last answers
	LimitedUntil *time.Time `json:"limited_until,omitempty"` // it is left alone until then
	Limit        *int       `json:"ratelimit_limit,omitempty"`
	Remaining    *int       `json:"ratelimit_remaining,omitempty"`
}

func describeEndpoint(e fanout.Status) endpointJSON {
	x := endpointJSON{Host: e.Host, Up: e.Up, Latency: float64(e.Latency.Microseconds()) / 1000}
	if !e.LimitedUntil.IsZero() {
		x.LimitedUntil = &e.LimitedUntil
	}
	if e.Limit >= 0 {
		x.Limit, x.Remaining = &e.Limit, &e.Remaining
	}
	return x
}

// describeUpstreams gives the upstreams that something may be pulled from.
func describeUpstreams(ctx context.Context, table *mirror.Table, a *rights) any {
	list, who := []upstreamJSON{}, guard.Who(ctx)
	for _, u := range table.Upstreams() {
		if !a.mayPull(who, u.Name) {
			continue
		}
		x := upstreamJSON{Name: u.Name, Aliases: append([]string{}, u.Aliases...), Default: table.Default(u), Endpoints: []endpointJSON{}}
		for _, e := range u.Reader.Endpoints() {
			x.Endpoints = append(x.Endpoints, describeEndpoint(e))
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b upstreamJSON) int { return strings.Compare(a.Name, b.Name) })
	return map[string]any{"upstreams": list}
}
