package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
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
	if err := trust(&options, e.CA, e.Certificate, e.Key); err != nil {
		return nil, err
	}
	return remote.New(options)
}

// trust reads the files that say whom o believes, and who it is itself; "" = none.
func trust(o *remote.Options, ca, certificate, key string) error {
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		// Redirects lead to CDNs, whose certificates are the public ones.
		if o.CA, err = x509.SystemCertPool(); err != nil {
			return err
		}
		if !o.CA.AppendCertsFromPEM(pem) {
			return errors.New(ca + " has no certificate in it")
		}
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return err
		}
		o.Certificate = &pair
	}
	return nil
}
