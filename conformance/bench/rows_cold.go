package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// mirrors are the servers that read through, and pulling without one.
func mirrors() []string { return []string{direct, distribution, dockerRegistry, weir} }

const (
	crowd  = 16      // clients at once
	link50 = 50 * mB // bytes per second of the upstream's link
)

func coldRows() []row {
	return []row{
		{
			name: "cold", work: "an image of 4 layers of 16 MiB that is not there yet; medians of 3 images",
			servers: append([]string{directAnew}, mirrors()...),
			measures: []measure{
				{name: "total", unit: "ms", goals: []goal{atMost(500)}, beside: direct},
				{name: "first layer byte", unit: "ms", goals: []goal{atMost(180), atMostTimes(1, directAnew)}},
				{name: "upstream requests", unit: "", beside: dockerRegistry},
				{name: "without further ranges", unit: "", goals: []goal{atMost(8)}, beside: dockerRegistry},
				{name: "upstream bytes", unit: "× image", goals: []goal{atMost(1)}, beside: dockerRegistry},
				{name: cpu, unit: "s/GB", beside: dockerRegistry},
			},
			run: cold,
		},
		{
			name: "cold-16", work: "the same, 16 clients at once",
			servers: mirrors()[1:],
			measures: []measure{
				{name: "upstream bytes", unit: "× image", goals: []goal{atMost(1)}, beside: dockerRegistry},
				{name: "total", unit: "s", beside: dockerRegistry},
				{name: cpu, unit: "s/GB", beside: dockerRegistry},
				{name: peak, unit: "MB", beside: dockerRegistry},
			},
			run: func(ctx context.Context, t *trial) (values, error) { return coldCrowd(ctx, t, 0) },
		},
		{
			name: "cold-link50", work: "the same, and the upstream's link is limited to 50 MB/s in all",
			servers: mirrors(),
			measures: []measure{
				{name: "upstream bytes", unit: "× image", goals: []goal{atMost(1)}, beside: direct},
				{name: "total", unit: "s", goals: []goal{atMost(2.2)}, beside: direct},
			},
			run: func(ctx context.Context, t *trial) (values, error) { return coldCrowd(ctx, t, link50) },
		},
	}
}

// mirroring gives the trial an upstream, and starts its server in front of it. A
// small image of another repository is pulled first, so that what a process does once
// (a ping, a challenge) is not part of the first pull that counts; tokens are, as they
// are per repository.
func (t *trial) mirroring(ctx context.Context, link float64, ttl time.Duration) error {
	var err error
	if t.up, err = newUpstream(link); err != nil {
		return err
	}
	i, err := t.data.image(900, 10*kB, 1)
	if err != nil {
		return err
	}
	t.up.put("lib/first", "v1", i)
	if t.mirrored() {
		if err := t.start(ctx, t.up.url, ttl); err != nil {
			return err
		}
	}
	c := t.puller("lib/first")
	defer c.close()
	if _, _, err := c.pull(ctx, "lib/first", "v1", i); err != nil {
		return err
	}
	err = t.up.quiet(ctx)
	t.up.forget()
	return err
}

// mirrored reports whether clients pull through a server, and not from the upstream.
func (t *trial) mirrored() bool { return t.name != direct && t.name != directAnew }

// puller is a client that pulls through the server, or, without one, from the upstream.
func (t *trial) puller(repo string) *client {
	if !t.mirrored() {
		c := newClient(t.up.url[len("http://"):])
		c.anew = t.name == directAnew
		if !c.anew {
			c.token = tokenFor(repo)
		}
		return c
	}
	c := newClient(t.running.addr)
	c.prefix = t.mirrors
	return c
}

// layers is an image of 4 layers of 16 MiB, in a repository of its own.
func (t *trial) layers(n int64) (repo string, i image, err error) {
	repo = fmt.Sprintf("lib/app%d", n)
	if i, err = t.data.image(100+4*n, 16*miB, 4); err != nil {
		return "", i, err
	}
	t.up.put(repo, "v1", i)
	return repo, i, nil
}

func cold(ctx context.Context, t *trial) (values, error) {
	if err := t.mirroring(ctx, 0, 0); err != nil {
		return nil, err
	}
	const images = 3
	var (
		firsts, totals []time.Duration
		size           int64
		pulls          []func(ctx context.Context) error
	)
	for n := range int64(images) {
		repo, i, err := t.layers(n)
		if err != nil {
			return nil, err
		}
		size += i.size()
		pulls = append(pulls, func(ctx context.Context) error {
			c := t.puller(repo)
			defer c.close()
			first, total, err := c.pull(ctx, repo, "v1", i)
			firsts, totals = append(firsts, first), append(totals, total)
			return err
		})
	}
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		for _, pull := range pulls {
			if err := pull(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := t.up.quiet(ctx); err != nil {
		return nil, err
	}
	requests, further, sent := t.up.counts()
	v := values{
		"total":                  milliseconds(median(totals)),
		"first layer byte":       milliseconds(median(firsts)),
		"upstream requests":      number(float64(requests) / images),
		"without further ranges": number(float64(requests-further) / images),
		"upstream bytes":         number(float64(sent) / float64(size)),
	}
	if t.mirrored() {
		v[cpu] = spent.perGB(size)
	}
	return v, nil
}

// coldCrowd lets many clients pull an image at once that is not there yet.
func coldCrowd(ctx context.Context, t *trial, link float64) (values, error) {
	if err := t.mirroring(ctx, link, 0); err != nil {
		return nil, err
	}
	repo, i, err := t.layers(0)
	if err != nil {
		return nil, err
	}
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		clients, ctx := errgroup.WithContext(ctx)
		for range crowd {
			clients.Go(func() error {
				c := t.puller(repo)
				defer c.close()
				_, _, err := c.pull(ctx, repo, "v1", i)
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
		"upstream bytes": number(float64(sent) / float64(i.size())),
		"total":          number(spent.wall.Seconds()),
	}
	if t.mirrored() {
		v[cpu], v[peak] = spent.perGB(crowd*i.size()), spent.memory()
	}
	return v, nil
}
