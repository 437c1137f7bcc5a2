package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

func budgetRows() []row {
	return []row{{
		name: "evict", work: "8 cold images of 4 layers of 16 MiB, 2 at once, into a cache that 4 fill already, while images of 4 layers of 1 MiB are pushed; and the same without a budget",
		servers: []string{weir},
		measures: []measure{
			{name: "fills at budget", unit: "MB/s"},
			{name: "beside no budget", unit: "×"},
			{name: "pushes", unit: "MB/s"},
			{name: "pushes beside no budget", unit: "×"},
		},
		run: atBudget,
	}}
}

func atBudget(ctx context.Context, t *trial) (values, error) {
	freeFills, freePushes, err := t.fillsUnder(ctx, "0")
	if err != nil {
		return nil, err
	}
	fills, pushes, err := t.fillsUnder(ctx, "256MiB")
	if err != nil {
		return nil, err
	}
	return values{
		"fills at budget":         number(fills),
		"beside no budget":        number(fills / freeFills),
		"pushes":                  number(pushes),
		"pushes beside no budget": number(pushes / freePushes),
	}, nil
}

// fillsUnder gives the rates, in MB/s, of cold fills and of the pushes beside them, with
// a cache of that size.
func (t *trial) fillsUnder(ctx context.Context, size string) (fills, pushes float64, err error) {
	t.config = func(p place) string { return weirConfig(p) + "  cache: {max_size: " + size + ", min_free: 0}\n" }
	if err := t.mirroring(ctx, 0, time.Hour); err != nil {
		return 0, 0, err
	}
	const before, measured = 4, 8
	var pulls []func(ctx context.Context) error
	var bytes int64
	for n := range int64(before + measured) {
		repo, i, err := t.layers(n)
		if err != nil {
			return 0, 0, err
		}
		if n >= before {
			bytes += i.size()
		}
		pulls = append(pulls, func(ctx context.Context) error {
			c := t.puller(repo)
			defer c.close()
			_, _, err := c.pull(ctx, repo, "v1", i)
			return err
		})
	}
	for _, pull := range pulls[:before] {
		if err := pull(ctx); err != nil {
			return 0, 0, err
		}
	}
	var pushed atomic.Int64
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		pushing, stop := context.WithCancel(ctx)
		defer stop()
		var all errgroup.Group
		all.Go(func() error { return t.pushUntil(pushing, &pushed) })
		var pulling errgroup.Group
		pulling.SetLimit(2)
		for _, pull := range pulls[before:] {
			pulling.Go(func() error { return pull(ctx) })
		}
		err := pulling.Wait()
		stop()
		return errors.Join(err, all.Wait())
	})
	if err != nil {
		return 0, 0, err
	}
	seconds := spent.wall.Seconds() * mB
	err = errors.Join(t.up.close(), t.stop(), os.RemoveAll(filepath.Join(t.scratch, "data")))
	t.up = nil
	return float64(bytes) / seconds, float64(pushed.Load()) / seconds, err
}

// pushUntil pushes one image after the other until ctx ends. One that it is in then does
// not count.
func (t *trial) pushUntil(ctx context.Context, pushed *atomic.Int64) error {
	c := newClient(t.running.addr)
	defer c.close()
	for n := int64(0); ; n++ {
		i, err := t.data.image(2000+4*n, 1*miB, 4)
		if err != nil {
			return err
		}
		err = c.push(ctx, "team/app", fmt.Sprint("v", n), i)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		pushed.Add(i.size())
	}
}
