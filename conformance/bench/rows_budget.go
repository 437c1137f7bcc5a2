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

// budgetRounds is how often both ways are measured, one after the other, a different one first
// each time. The median of the rounds' ratios is what is compared.
const budgetRounds = 3

// budget is the cache's, of four images.
const budget = 256 * miB

func budgetRows() []row {
	return []row{{
		name: "evict", work: "8 cold images of 4 layers of 16 MiB, 2 at once, into a cache that 4 fill already, while images of 4 layers of 1 MiB are pushed; and the same without a budget",
		servers: []string{weir},
		measures: []measure{
			{name: "fills at budget", unit: "MB/s"},
			{name: "beside no budget", unit: "×", goals: []goal{atLeast(0.8)}},
			{name: "pushes", unit: "MB/s"},
			{name: "pushes beside no budget", unit: "×", goals: []goal{atLeast(0.7)}},
			{name: "most kept", unit: "× budget", goals: []goal{atMost(1)}},
			{name: "upstream bytes", unit: "× image", goals: []goal{atMost(1)}},
		},
		run: atBudget,
	}}
}

// under is what was reached with a cache of some size.
type under struct {
	fills, pushes float64 // MB/s
	kept          float64 // bytes at most
	fetched       float64 // times what was pulled
}

func atBudget(ctx context.Context, t *trial) (values, error) {
	var fills, pushes, fillsBeside, pushesBeside []float64
	var kept, fetched float64
	for n := range budgetRounds {
		var free, full under
		ways := []func() error{
			func() (err error) { free, err = t.fillsUnder(ctx, 0); return err },
			func() (err error) { full, err = t.fillsUnder(ctx, budget); return err },
		}
		for i := range ways {
			if err := ways[(n+i)%len(ways)](); err != nil {
				return nil, err
			}
		}
		fills, pushes = append(fills, full.fills), append(pushes, full.pushes)
		fillsBeside, pushesBeside = append(fillsBeside, full.fills/free.fills), append(pushesBeside, full.pushes/free.pushes)
		kept, fetched = max(kept, full.kept), max(fetched, full.fetched)
	}
	return values{
		"fills at budget":         number(median(fills)),
		"beside no budget":        number(median(fillsBeside)),
		"pushes":                  number(median(pushes)),
		"pushes beside no budget": number(median(pushesBeside)),
		"most kept":               number(kept / budget),
		"upstream bytes":          number(fetched),
	}, nil
}

// fillsUnder measures cold fills, and pushes beside them, with a cache of that many bytes.
func (t *trial) fillsUnder(ctx context.Context, size int64) (u under, err error) {
	t.config = func(p place) string {
		return weirConfig(p) + fmt.Sprintf("  cache: {max_size: %dMiB, min_free: 0}\n", size/miB)
	}
	if err := t.mirroring(ctx, 0, time.Hour); err != nil {
		return u, err
	}
	const before, measured = 4, 8
	var pulls []func(ctx context.Context) error
	var all, bytes int64
	for n := range int64(before + measured) {
		repo, i, err := t.layers(n)
		if err != nil {
			return u, err
		}
		all += i.size()
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
			return u, err
		}
	}
	var pushed atomic.Int64
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		beside, stop := context.WithCancel(ctx)
		defer stop()
		var all errgroup.Group
		all.Go(func() error { return t.pushUntil(beside, &pushed) })
		all.Go(func() (err error) { u.kept, err = t.keptUntil(beside); return err })
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
		return u, err
	}
	seconds := spent.wall.Seconds() * mB
	u.fills, u.pushes = float64(bytes)/seconds, float64(pushed.Load())/seconds
	_, _, sent := t.up.counts()
	u.fetched = float64(sent) / float64(all)
	err = errors.Join(t.up.close(), t.stop(), os.RemoveAll(filepath.Join(t.scratch, "data")))
	t.up = nil
	return u, err
}

// keptUntil gives the most bytes that weir has kept at a time until ctx ends.
func (t *trial) keptUntil(ctx context.Context) (most float64, err error) {
	looking := time.NewTicker(50 * time.Millisecond)
	defer looking.Stop()
	for {
		n, err := readCached(ctx, t.running.admin)
		if ctx.Err() != nil {
			return most, nil
		}
		if err != nil {
			return 0, err
		}
		most = max(most, n)
		select {
		case <-looking.C:
		case <-ctx.Done():
		}
	}
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
