package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// bucketCPU is what the S3 server spends meanwhile.
const bucketCPU = "S3 server's CPU"

// onS3 are the servers that are measured on S3.
func onS3() []string { return []string{dockerRegistry, weir} }

func bucketRows() []row {
	measures := func() []measure {
		return []measure{
			{name: throughput, unit: "MB/s", goals: []goal{atLeastTimes(1, dockerRegistry)}},
			{name: cpu, unit: "s/GB", goals: []goal{atMostTimes(1, dockerRegistry)}},
			{name: peak, unit: "MB", beside: dockerRegistry},
			{name: bucketCPU, unit: "s/GB", beside: dockerRegistry},
		}
	}
	pull := func(name, work string, redirect bool) row {
		return row{
			name: name, work: fmt.Sprintf("%d clients, each of which pulls 64 blobs of 1 MiB from a registry on S3, %s", bucketClients, work),
			servers: onS3(), measures: measures(),
			run: onBucket(redirect, func(ctx context.Context, t *trial) (values, error) { return pullBucket(ctx, t, redirect) }),
		}
	}
	return []row{
		{
			name: "s3-push-small", work: "push-small on S3 (versitygw on the same machine)",
			servers: onS3(), measures: measures(), run: onBucket(false, pushSmall),
		},
		{
			name: "s3-push-large", work: "push-large on S3",
			servers: onS3(), measures: measures(), run: onBucket(false, pushLarge),
		},
		pull("s3-pull", "which sends the bytes itself", false),
		pull("s3-pull-redirect", "which redirects them", true),
	}
}

// bucketClients is how many clients pull from a registry on S3 at once.
const bucketClients = 16

// pullBucket has each client pull all blobs, none of them in the order of another. That
// the registry redirects, and only where it is to, is part of what must be right.
func pullBucket(ctx context.Context, t *trial, redirect bool) (values, error) {
	i, err := t.data.image(0, miB, 64)
	if err != nil {
		return nil, err
	}
	if err := t.filled(ctx, "app", "v1", i); err != nil {
		return nil, err
	}
	c := newClient(t.running.addr)
	defer c.close()
	var redirects atomic.Int64
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error {
		redirects.Add(1)
		return nil
	}
	layers := i.layers()
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		clients, ctx := errgroup.WithContext(ctx)
		for n := range bucketClients {
			clients.Go(func() error {
				for k := range layers {
					b := layers[(k+n*len(layers)/bucketClients)%len(layers)]
					if _, err := c.blob(ctx, "app", b.digest, b.n); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return clients.Wait()
	})
	if err != nil {
		return nil, err
	}
	pulls := int64(bucketClients * len(layers))
	want := int64(0)
	if redirect {
		want = pulls
	}
	if got := redirects.Load(); got != want {
		return nil, fmt.Errorf("%d of %d pulls were redirected, want %d", got, pulls, want)
	}
	return spent.on(pulls * miB), nil
}
