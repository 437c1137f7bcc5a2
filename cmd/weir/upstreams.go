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
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// ways is what a configuration says of how an upstream is reached. While that stays, what
// was learnt of its endpoints stays known, with their connections and tokens.
type ways struct {
	name      string
	endpoints []config.Endpoint
	hedge     time.Duration
	timeouts  config.UpstreamTimeouts
}

// newUpstreams makes the upstreams of a configuration.
func (a *app) newUpstreams(list []config.Upstream, log *slog.Logger) ([]*mirror.Upstream, error) {
	var upstreams []*mirror.Upstream
	for _, c := range list {
		to := ways{c.Name, c.Endpoints, c.HedgeAfter.Std(), c.Timeouts}
		reader, release, err := a.upstreams.take(to, func() (*fanout.Fanout, func(), error) { return a.reach(to, log) })
		if err != nil {
			return nil, err
		}
		a.closers = append(a.closers, func() error { release(); return nil })
		upstreams = append(upstreams, &mirror.Upstream{
			Name:    c.Name,
			Aliases: c.Aliases,
			Reader:  reader,
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

// reach makes what reads from the endpoints of an upstream, and what ends it: a download
// that runs reads on.
func (k *kept) reach(to ways, log *slog.Logger) (*fanout.Fanout, func(), error) {
	var (
		endpoints []fanout.Endpoint
		readers   []*remote.Registry
	)
	for _, e := range to.endpoints {
		endpoint, reader, err := newEndpoint(to, e, k.meter(), log)
		if err != nil {
			return nil, nil, fmt.Errorf("upstream %s: endpoint %s: %w", to.name, e.URL, err)
		}
		endpoints, readers = append(endpoints, endpoint), append(readers, reader)
	}
	f := fanout.New(to.name, endpoints, fanout.Options{
		HedgeAfter: to.hedge,
		Budget:     budget(to.timeouts.Header.Std()),
	}, k.metrics)
	return f, func() {
		f.Close()
		for _, r := range readers {
			r.Close()
		}
		for _, e := range endpoints {
			if !k.upstreams.any(func(of any) bool { return of.(ways).has(to.name, e.Host) }) {
				k.metrics.EndpointGone(to.name, e.Host)
			}
		}
	}, nil
}

// has reports whether it leads to an endpoint of an upstream.
func (w ways) has(upstream, host string) bool {
	return w.name == upstream && slices.ContainsFunc(w.endpoints, func(e config.Endpoint) bool { return e.URL.Host == host })
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
func newEndpoint(u ways, e config.Endpoint, metrics remembered, log *slog.Logger) (fanout.Endpoint, *remote.Registry, error) {
	files, err := egress.OpenFiles(e.CA, e.Certificate, e.Key, func(err error) {
		log.Warn("changed files not taken up", "upstream", u.name, "endpoint", e.URL.Host, "error", err)
	})
	if err != nil {
		return fanout.Endpoint{}, nil, err
	}
	limits := &fanout.Limits{}
	like := egress.Options{
		URL:        &e.URL.URL,
		TokenHosts: e.RealmHosts,
		Trust:      files.Trust,
		Timeouts: egress.Timeouts{
			Connect: u.timeouts.Connect.Std(),
			Header:  u.timeouts.Header.Std(),
			Stall:   u.timeouts.Stall.Std(),
		},
		UserAgent: "weir/" + version,
		Network:   network("upstream"),
	}
	reader, err := remote.New(remote.Options{
		URL:            like.URL,
		Login:          newLogin(e, like),
		TokenHosts:     like.TokenHosts,
		Trust:          like.Trust,
		Timeouts:       like.Timeouts,
		MaxConnections: e.MaxConnections,
		UserAgent:      like.UserAgent,
		Network:        like.Network,
		OnRequest:      func(status int) { metrics.UpstreamRequest(u.name, e.URL.Host, status) },
		OnLimit:        limits.Told,
		OnBytes:        func(n int64) { metrics.UpstreamBytes(u.name, n) },
	})
	return fanout.Endpoint{Host: e.URL.Host, Reader: reader, Limits: limits, Fallback: e.Fallback}, reader, err
}
