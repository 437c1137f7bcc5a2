package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote"
)

// newUpstreams makes the upstreams of a configuration.
func newUpstreams(list []config.Upstream, metrics *observe.Metrics) ([]*mirror.Upstream, error) {
	var upstreams []*mirror.Upstream
	for _, c := range list {
		u := &mirror.Upstream{
			Name:    c.Name,
			Aliases: c.Aliases,
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
		}
		for _, e := range c.Endpoints {
			reader, err := newEndpoint(c, e, metrics)
			if err != nil {
				return nil, fmt.Errorf("upstream %s: endpoint %s: %w", c.Name, e.URL, err)
			}
			u.Endpoints = append(u.Endpoints, mirror.Endpoint{Host: e.URL.Host, Reader: reader})
		}
		upstreams = append(upstreams, u)
	}
	return upstreams, nil
}

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
func newEndpoint(u config.Upstream, e config.Endpoint, metrics *observe.Metrics) (*remote.Registry, error) {
	options := remote.Options{
		URL:      &e.URL.URL,
		Username: e.Username,
		Timeouts: remote.Timeouts{
			Connect: u.Timeouts.Connect.Std(),
			Header:  u.Timeouts.Header.Std(),
			Stall:   u.Timeouts.Stall.Std(),
		},
		MaxConnections: e.MaxConnections,
		UserAgent:      "weir/" + version,
		OnRequest:      func(status int) { metrics.UpstreamRequest(u.Name, e.URL.Host, status) },
		OnBytes:        func(n int64) { metrics.UpstreamBytes(u.Name, n) },
	}
	if !e.Password.IsZero() {
		options.Password = e.Password.Value
	}
	if e.CA != "" {
		pem, err := os.ReadFile(e.CA)
		if err != nil {
			return nil, err
		}
		// Redirects lead to CDNs, whose certificates are the public ones.
		if options.CA, err = x509.SystemCertPool(); err != nil {
			return nil, err
		}
		if !options.CA.AppendCertsFromPEM(pem) {
			return nil, errors.New(e.CA + " has no certificate in it")
		}
	}
	if e.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(e.Certificate, e.Key)
		if err != nil {
			return nil, err
		}
		options.Certificate = &pair
	}
	return remote.New(options)
}
