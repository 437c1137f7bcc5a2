package main

import (
	"context"
	"time"
)

// hotTime is how long stored content is asked for.
const hotTime = 4 * time.Second

func hotRows() []row {
	// Where olareg is not to be had: what it reached beside nginx.
	olaregLarge := standIn{nginx, 0.86}    // 0.42 / 0.49 s/GB
	olaregManifest := standIn{nginx, 0.28} // 10008 / 39037 and 10405 / 35069 requests a second
	manifests := func(name, by string, path func(image) string) row {
		return row{
			name: name, work: "a manifest of 4 layers by " + by + ", 32 connections",
			servers: everyone(),
			measures: []measure{
				{name: throughput, unit: "req/s", goals: []goal{atLeastTimes(1.6, olareg, olaregManifest)}},
				{name: cpu, unit: "µs/req", goals: []goal{atMost(50)}, beside: nginx},
				{name: peak, unit: "MB", beside: nginx},
			},
			run: func(ctx context.Context, t *trial) (values, error) {
				i, err := t.data.image(0, 64*kB, 4)
				if err != nil {
					return nil, err
				}
				l, spent, err := t.hot(ctx, i, []string{path(i)}, 32)
				if err != nil {
					return nil, err
				}
				return values{throughput: number(float64(l.requests) / l.wall.Seconds()), cpu: spent.perRequest(l.requests), peak: spent.memory()}, nil
			},
		}
	}
	return []row{
		{
			name: "hot-small", work: "64 clients over 64 blobs of 1 MiB",
			servers: everyone(),
			measures: []measure{
				{name: throughput, unit: "MB/s", goals: []goal{atLeastTimes(1, nginx)}},
				{name: cpu, unit: "s/GB", goals: []goal{atMost(0.25)}, beside: nginx},
				{name: peak, unit: "MB", goals: []goal{atMost(40)}, beside: nginx},
			},
			run: func(ctx context.Context, t *trial) (values, error) { return hotBlobs(ctx, t, miB, 64, 64) },
		},
		{
			name: "hot-large", work: "4 clients on one blob of 256 MiB",
			servers: everyone(),
			measures: []measure{
				{name: throughput, unit: "MB/s", beside: nginx},
				{name: cpu, unit: "s/GB", goals: []goal{atMostTimes(1, olareg, olaregLarge)}},
				{name: peak, unit: "MB", beside: nginx},
			},
			run: func(ctx context.Context, t *trial) (values, error) { return hotBlobs(ctx, t, 256*miB, 1, 4) },
		},
		manifests("manifest-tag", "tag", func(image) string { return "/v2/app/manifests/v1" }),
		manifests("manifest-digest", "digest", func(i image) string { return "/v2/app/manifests/" + i.digest.String() }),
		{
			name: "head", work: "HEAD of a blob, 32 connections",
			servers: everyone(),
			measures: []measure{
				{name: throughput, unit: "req/s", beside: nginx},
				{name: cpu, unit: "µs/req", goals: []goal{atMost(40)}, beside: nginx},
			},
			run: headBlob,
		},
	}
}

// hot puts an image into the server and asks for paths over so many connections.
func (t *trial) hot(ctx context.Context, i image, paths []string, connections int) (l load, spent cost, err error) {
	if err := t.filled(ctx, "app", "v1", i); err != nil {
		return l, spent, err
	}
	spent, err = t.clock(ctx, func(ctx context.Context) (err error) {
		l, err = runWrk(ctx, t.scratch, t.running.addr, paths, connections, hotTime)
		return err
	})
	return l, spent, err
}

// hotBlobs asks for count layers of n bytes.
func hotBlobs(ctx context.Context, t *trial, n int64, count, connections int) (values, error) {
	i, err := t.data.image(0, n, count)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, b := range i.layers() {
		paths = append(paths, "/v2/app/blobs/"+b.digest.String())
	}
	l, spent, err := t.hot(ctx, i, paths, connections)
	if err != nil {
		return nil, err
	}
	return values{throughput: cost{wall: l.wall}.rate(l.bytes), cpu: spent.perGB(l.bytes), peak: spent.memory()}, nil
}

func headBlob(ctx context.Context, t *trial) (values, error) {
	i, err := t.data.image(0, 64*kB, 4)
	if err != nil {
		return nil, err
	}
	if err := t.filled(ctx, "app", "v1", i); err != nil {
		return nil, err
	}
	path := "/v2/app/blobs/" + i.layers()[0].digest.String()
	var l load
	spent, err := t.clock(ctx, func(ctx context.Context) (err error) {
		l, err = runHead(ctx, t.running.addr, path, 32, hotTime)
		return err
	})
	if err != nil {
		return nil, err
	}
	return values{throughput: number(float64(l.requests) / l.wall.Seconds()), cpu: spent.perRequest(l.requests)}, nil
}
