package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// fleet is how many distinct images are pulled at once.
const fleet = 64

func fanoutRows() []row {
	return []row{
		{
			name: "cold-64", work: "64 distinct images of 2 layers of 2 MiB that are not there yet, at once; the upstream's link is limited to 50 MB/s in all",
			servers: mirrors(),
			measures: []measure{
				{name: "upstream bytes", unit: "× image", goals: []goal{atMost(1)}, beside: direct},
				{name: "total", unit: "s", goals: []goal{atMostTimes(1.15, direct)}},
				{name: "slowest first layer byte", unit: "ms", beside: direct},
				{name: cpu, unit: "s/GB", beside: dockerRegistry},
				{name: peak, unit: "MB", beside: dockerRegistry},
			},
			run: coldFleet,
		},
		{
			name: "endpoint-dies", work: "a layer of 64 MiB that is not there yet, of an upstream with two endpoints, the first of which dies half-way",
			servers: []string{weir},
			measures: []measure{
				{name: "total, none dying", unit: "ms"},
				{name: "total", unit: "ms"},
				{name: "slower", unit: "×", goals: []goal{atMost(1.5)}},
				{name: "upstream bytes", unit: "× layer", goals: []goal{atMost(1.02)}},
			},
			run: endpointDies,
		},
	}
}

func coldFleet(ctx context.Context, t *trial) (values, error) {
	if err := t.mirroring(ctx, link50, 0); err != nil {
		return nil, err
	}
	var (
		images [fleet]image
		size   int64
	)
	name := func(n int) string { return fmt.Sprintf("lib/fleet%d", n) }
	for n := range images {
		var err error
		if images[n], err = t.data.image(int64(3000+2*n), 2*miB, 2); err != nil {
			return nil, err
		}
		t.up.put(name(n), "v1", images[n])
		size += images[n].size()
	}
	var firsts [fleet]time.Duration
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		clients, ctx := errgroup.WithContext(ctx)
		for n, i := range images {
			clients.Go(func() (err error) {
				c := t.puller(name(n))
				defer c.close()
				firsts[n], _, err = c.pull(ctx, name(n), "v1", i)
				return err
			})
		}
		return clients.Wait()
	})
	if err != nil {
		return nil, err
	}
	if err := t.up.quiet(ctx); err != nil {
		return nil, err
	}
	_, _, sent := t.up.counts()
	v := values{
		"upstream bytes":           number(float64(sent) / float64(size)),
		"total":                    number(spent.wall.Seconds()),
		"slowest first layer byte": milliseconds(slices.Max(firsts[:])),
	}
	if t.mirrored() {
		v[cpu], v[peak] = spent.perGB(size), spent.memory()
	}
	return v, nil
}

// endpointDies pulls one layer while both endpoints are well, and another one of which
// the first endpoint gives half.
func endpointDies(ctx context.Context, t *trial) (values, error) {
	var err error
	if t.second, err = newUpstream(0); err != nil {
		return nil, err
	}
	if err := t.mirroring(ctx, 0, 0); err != nil {
		return nil, err
	}
	pull := func(n int64) (total time.Duration, sent, size int64, err error) {
		i, err := t.data.image(500+n, 64*miB, 1)
		if err != nil {
			return 0, 0, 0, err
		}
		repo := fmt.Sprintf("lib/dies%d", n)
		t.up.put(repo, "v1", i)
		t.second.put(repo, "v1", i)
		c := t.puller(repo)
		defer c.close()
		_, total, err = c.pull(ctx, repo, "v1", i)
		if err := errors.Join(err, t.up.quiet(ctx), t.second.quiet(ctx)); err != nil {
			return 0, 0, 0, err
		}
		for _, u := range []*upstream{t.up, t.second} {
			_, _, n := u.counts()
			sent += n
			u.forget()
		}
		return total, sent, i.size(), nil
	}
	calm, _, size, err := pull(0)
	if err != nil {
		return nil, err
	}
	t.up.dieAfter(size / 2)
	var dying time.Duration
	var sent int64
	_, err = t.clock(ctx, func(context.Context) (err error) {
		dying, sent, size, err = pull(1)
		return err
	})
	if err != nil {
		return nil, err
	}
	return values{
		"total, none dying": milliseconds(calm),
		"total":             milliseconds(dying),
		"slower":            number(dying.Seconds() / calm.Seconds()),
		"upstream bytes":    number(float64(sent) / float64(size)),
	}, nil
}
