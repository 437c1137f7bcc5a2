package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

const (
	// besideRounds is how often each of two ways is measured, and besideTime for how long:
	// the machine changes more within a minute than they differ, and less from one round to
	// the next. The median of the rounds is what is compared.
	besideRounds = 20
	besideTime   = 2 * time.Second
)

// A way is one of two in which a server is asked for the same, to be compared.
type way struct {
	config func(place) string
	// begin is done once the server runs; it may give an Authorization header to ask with.
	begin func(context.Context, *trial) (authorization string, err error)
	// round is done at the start of each round, while the clock runs.
	round func(context.Context, *trial) error
}

// A contrast is what one way costs and gives beside another one.
type contrast struct {
	cost      value // of the way itself, the median
	cpu, rate value // medians of the ratios of CPU for each request or byte, and of requests a second
}

// beside runs two processes of the trial's server, one each way, and asks them for paths of an
// image in turn, both in each round; of gives what a load cost. A profile is taken of changed alone.
func beside(ctx context.Context, t *trial, plain, changed way, i image, paths []string, connections int, of func(cost, load) value) (c contrast, err error) {
	var runs []*side
	for n, w := range []way{plain, changed} {
		r, err := t.way(ctx, w, filepath.Join(t.scratch, []string{"plain", "changed"}[n]), i)
		if r != nil {
			defer func() { err = errors.Join(err, r.stop()) }()
		}
		if err != nil {
			return c, err
		}
		runs = append(runs, r)
	}
	if t.seconds > 0 {
		runs[1].seconds, runs[1].profile = t.seconds, t.profile
		_, _, err := runs[1].once(ctx, paths, connections, hotTime)
		return contrast{number(0), number(0), number(0)}, err
	}
	var costs, cpus, rates []float64
	for n := range besideRounds {
		var spent, rate [2]float64
		for k := range runs {
			k ^= n & 1 // who is first has the other one's heat
			paid, l, err := runs[k].once(ctx, paths, connections, besideTime)
			if err != nil {
				return c, err
			}
			spent[k], rate[k] = of(paid, l).Number, float64(l.requests)/l.wall.Seconds()
		}
		costs, cpus, rates = append(costs, spent[1]), append(cpus, spent[1]/spent[0]), append(rates, rate[1]/rate[0])
	}
	t.measured = hotTime // what a profile is to be of
	return contrast{number(median(costs)), number(median(cpus)), number(median(rates))}, nil
}

// A side is a process of a trial's server that runs one way.
type side struct {
	*trial
	way
	authorization string
}

// way starts a server in a directory of its own, with an image. The caller stops it, where it
// is not nil, whatever the error.
func (t *trial) way(ctx context.Context, w way, dir string, i image) (*side, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	s := t.server
	s.config = w.config
	r := &side{trial: &trial{bench: t.bench, server: s, scratch: dir}, way: w}
	if err := r.filled(ctx, "app", "v1", i); err != nil {
		return r, err
	}
	if w.begin == nil {
		return r, nil
	}
	var err error
	r.authorization, err = w.begin(ctx, r.trial)
	return r, err
}

// once asks for paths, and gives what that cost.
func (r *side) once(ctx context.Context, paths []string, connections int, d time.Duration) (cost, load, error) {
	var l load
	spent, err := r.clock(ctx, func(ctx context.Context) (err error) {
		if r.round != nil {
			if err := r.round(ctx, r.trial); err != nil {
				return err
			}
		}
		l, err = runWrkAs(ctx, r.authorization, r.scratch, r.running.addr, paths, connections, d)
		return err
	})
	return spent, l, err
}
