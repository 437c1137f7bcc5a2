package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// observedRows say what it costs to be seen: an access log, traces of one request in a
// hundred to a receiver, and metrics that are scraped, beside none of that.
func observedRows() []row {
	return []row{
		{
			name: "observed", work: "a manifest by tag, 32 connections: with access log, scraped metrics and 1 % traced, beside without",
			servers: []string{weir},
			measures: []measure{
				{name: "rate beside unseen", unit: "×", goals: []goal{atLeast(0.95)}},
				{name: cpu, unit: "µs/req"},
				{name: "CPU beside unseen", unit: "×", goals: []goal{atMost(1.05)}},
			},
			run: func(ctx context.Context, t *trial) (values, error) {
				return observed(ctx, t, 64*kB, 4, 32, func(image) []string { return []string{"/v2/app/manifests/v1"} }, cost.perRequestOf)
			},
		},
		{
			name: "observed-blobs", work: "64 clients over 64 blobs of 1 MiB: the same",
			servers: []string{weir},
			measures: []measure{
				{name: "rate beside unseen", unit: "×", goals: []goal{atLeast(0.98)}},
				{name: cpu, unit: "s/GB"},
				{name: "CPU beside unseen", unit: "×", goals: []goal{atMost(1.02)}},
			},
			run: func(ctx context.Context, t *trial) (values, error) {
				return observed(ctx, t, miB, 64, 64, func(i image) (paths []string) {
					for _, b := range i.layers() {
						paths = append(paths, "/v2/app/blobs/"+b.digest.String())
					}
					return paths
				}, cost.perGBOf)
			},
		},
	}
}

func (c cost) perRequestOf(l load) value { return c.perRequest(l.requests) }
func (c cost) perGBOf(l load) value      { return c.perGB(l.bytes) }

func observed(ctx context.Context, t *trial, size int64, layers, connections int, paths func(image) []string, of func(cost, load) value) (values, error) {
	i, err := t.data.image(0, size, layers)
	if err != nil {
		return nil, err
	}
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	spans := receiver()
	defer spans.Close()
	go func() { _ = spans.Serve(sink) }() // until it is closed
	unseen := way{config: func(p place) string {
		return strings.Replace(weirConfig(p), "log: {", "log: {level: error, ", 1)
	}}
	seen := way{
		config: func(p place) string {
			return weirConfig(p) + fmt.Sprintf("tracing: {endpoint: 'http://%s', sampling: 0.01}\n", sink.Addr())
		},
		round: func(ctx context.Context, t *trial) error { return scrape(ctx, t.running.admin) },
	}
	c, err := beside(ctx, t, unseen, seen, i, paths(i), connections, of)
	return values{"rate beside unseen": c.rate, cpu: c.cost, "CPU beside unseen": c.cpu}, err
}

// receiver takes spans by OTLP over gRPC, and forgets them: a message of no bytes is its
// answer, and the status of success.
func receiver() *http.Server {
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // whoever broke off hears nothing
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, 5))
		w.Header().Set("Grpc-Status", "0")
	}), Protocols: &http.Protocols{}}
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// scrape reads metrics once: in so short a time, that is often.
func scrape(ctx context.Context, admin string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
