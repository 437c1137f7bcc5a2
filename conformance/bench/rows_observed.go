package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// observedRounds is how often each side is measured, in turn: the machine changes more from
// one to the next than they differ.
const observedRounds = 9

// observedRows say what it costs to be seen: an access log, traces of one request in a
// hundred to a receiver, and metrics that are scraped, beside none of that.
func observedRows() []row {
	return []row{
		{
			name: "observed", work: "a manifest by tag, 32 connections: with access log, scraped metrics and 1 % traced, beside without",
			servers:  []string{weir},
			measures: []measure{{name: cpu, unit: "µs/req"}, {name: "beside unseen", unit: "×", goals: []goal{atMost(1.05)}}},
			run: func(ctx context.Context, t *trial) (values, error) {
				return observed(ctx, t, 64*kB, 4, 32, func(image) []string { return []string{"/v2/app/manifests/v1"} }, cost.perRequestOf)
			},
		},
		{
			name: "observed-blobs", work: "64 clients over 64 blobs of 1 MiB: the same",
			servers:  []string{weir},
			measures: []measure{{name: cpu, unit: "s/GB"}, {name: "beside unseen", unit: "×", goals: []goal{atMost(1.02)}}},
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

// observed measures both in turn, and compares the least of each: what is above that is the
// machine's other work.
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
	var seen, unseen value
	for n := range observedRounds {
		for _, x := range []struct {
			config func(place) string
			scrape bool
			least  *value
		}{
			{func(p place) string { return strings.Replace(weirConfig(p), "log: {", "log: {level: error, ", 1) }, false, &unseen},
			{func(p place) string {
				return weirConfig(p) + fmt.Sprintf("tracing: {endpoint: 'http://%s', sampling: 0.01}\n", sink.Addr())
			}, true, &seen},
		} {
			t.config = x.config
			if err := t.filled(ctx, "app", "v1", i); err != nil {
				return nil, err
			}
			var l load
			spent, err := t.clock(ctx, func(ctx context.Context) (err error) {
				if x.scrape {
					if err := scrape(ctx, t.running.admin); err != nil {
						return err
					}
				}
				l, err = runWrk(ctx, t.scratch, t.running.addr, paths(i), connections, hotTime)
				return err
			})
			if err = errors.Join(err, t.stop(), os.RemoveAll(filepath.Join(t.scratch, "data"))); err != nil {
				return nil, err
			}
			if v := of(spent, l); n == 0 || v.Number < x.least.Number {
				*x.least = v
			}
		}
	}
	return values{cpu: seen, "beside unseen": number(seen.Number / unseen.Number)}, nil
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
