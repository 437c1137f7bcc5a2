package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote"
)

// newUpstreams makes the upstreams of a configuration.
func newUpstreams(list []config.Upstream, metrics *observe.Metrics) ([]*mirror.Upstream, error) {
	var upstreams []*mirror.Upstream
	for _, c := range list {
		var endpoints []fanout.Endpoint
		for _, e := range c.Endpoints {
			endpoint, err := newEndpoint(c, e, metrics)
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
		})
	}
	return upstreams, nil
}

// budget is how long endpoints are asked, all together, of which each may take header
// to answer: so much less that the client, whose answer should be there by then, is
// told in time.
func budget(header time.Duration) time.Duration { return header - header/15 }

// newEndpoint makes the client of one endpoint.
func newEndpoint(u config.Upstream, e config.Endpoint, metrics *observe.Metrics) (fanout.Endpoint, error) {
	limits := &fanout.Limits{}
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
		OnLimit:        limits.Told,
		OnBytes:        func(n int64) { metrics.UpstreamBytes(u.Name, n) },
	}
	if !e.Password.IsZero() {
		options.Password = e.Password.Value
	}
	if e.CA != "" {
		pem, err := os.ReadFile(e.CA)
		if err != nil {
			return fanout.Endpoint{}, err
		}
		// Redirects lead to CDNs, whose certificates are the public ones.
		if options.CA, err = x509.SystemCertPool(); err != nil {
			return fanout.Endpoint{}, err
		}
		if !options.CA.AppendCertsFromPEM(pem) {
			return fanout.Endpoint{}, errors.New(e.CA + " has no certificate in it")
		}
	}
	if e.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(e.Certificate, e.Key)
		if err != nil {
			return fanout.Endpoint{}, err
		}
		options.Certificate = &pair
	}
	reader, err := remote.New(options)
	return fanout.Endpoint{Host: e.URL.Host, Reader: reader, Limits: limits}, err
}
