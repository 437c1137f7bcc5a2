package main

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// newUpstreams makes the upstreams of a configuration.
func newUpstreams(list []config.Upstream, metrics *observe.Metrics, log *slog.Logger) ([]*mirror.Upstream, error) {
	var upstreams []*mirror.Upstream
	for _, c := range list {
		var endpoints []fanout.Endpoint
		for _, e := range c.Endpoints {
			endpoint, err := newEndpoint(c, e, metrics, log)
			if err != nil {
				return nil, fmt.Errorf("upstream %s: endpoint %s: %w", c.Name, e.URL, err)
			}
			endpoints = append(endpoints, endpoint)
		}
		upstreams = append(upstreams, &mirror.Upstream{
			Name:    c.Name,
			Aliases: c.Aliases,
			Reader: fanout.New(c.Name, endpoints, fanout.Options{
				HedgeAfter: c.HedgeAfter.Std(),
				Budget:     budget(c.Timeouts.Header.Std()),
			}, metrics),
			Tags: mirror.Tags{
				TTL:          c.Tags.TTL.Std(),
				Immutable:    whole(c.Tags.Immutable, c.Tags.ImmutableExcept),
				StaleIfError: c.Tags.StaleIfError.Std(),
				StaleIfGone:  c.Tags.StaleIfGone,
				NegativeTTL:  c.Tags.NegativeTTL.Std(),
			},
			ReferrersTTL: c.ReferrersTTL.Std(),
			Allow:        anyOf(c.Allow),
			Writable:     c.Writable,
			Prefetch:     c.Prefetch.Platforms,
		})
	}
	return upstreams, nil
}

// budget is how long endpoints are asked, all together, of which each may take header
// to answer: so much less that the client, whose answer should be there by then, is
// told in time.
func budget(header time.Duration) time.Duration { return header - header/15 }

// anyOf reports for a repository whether one of the patterns matches it; nil where one
// matches every repository, which then costs no request anything.
func anyOf(patterns []origin.Glob) func(origin.Repo) bool {
	if slices.ContainsFunc(patterns, func(g origin.Glob) bool { return g.String() == "**" }) {
		return nil
	}
	return func(repo origin.Repo) bool {
		return slices.ContainsFunc(patterns, func(g origin.Glob) bool { return g.Match(repo) })
	}
}

// newEndpoint makes the client of one endpoint.
func newEndpoint(u config.Upstream, e config.Endpoint, metrics *observe.Metrics, log *slog.Logger) (fanout.Endpoint, error) {
	files, err := egress.OpenFiles(e.CA, e.Certificate, e.Key, func(err error) {
		log.Warn("changed files not taken up", "upstream", u.Name, "endpoint", e.URL.Host, "error", err)
	})
	if err != nil {
		return fanout.Endpoint{}, err
	}
	limits := &fanout.Limits{}
	like := egress.Options{
		URL:        &e.URL.URL,
		TokenHosts: e.RealmHosts,
		Trust:      files.Trust,
		Timeouts: egress.Timeouts{
			Connect: u.Timeouts.Connect.Std(),
			Header:  u.Timeouts.Header.Std(),
			Stall:   u.Timeouts.Stall.Std(),
		},
		UserAgent: "weir/" + version,
	}
	reader, err := remote.New(remote.Options{
		URL:            like.URL,
		Login:          newLogin(e, like),
		TokenHosts:     like.TokenHosts,
		Trust:          like.Trust,
		Timeouts:       like.Timeouts,
		MaxConnections: e.MaxConnections,
		UserAgent:      like.UserAgent,
		OnRequest:      func(status int) { metrics.UpstreamRequest(u.Name, e.URL.Host, status) },
		OnLimit:        limits.Told,
		OnBytes:        func(n int64) { metrics.UpstreamBytes(u.Name, n) },
	})
	return fanout.Endpoint{Host: e.URL.Host, Reader: reader, Limits: limits}, err
}
