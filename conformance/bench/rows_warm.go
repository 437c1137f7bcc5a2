package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	patience = 8 * time.Second  // a client's, with an upstream that is in trouble
	shortTTL = time.Second      // for weir to believe a tag, where it is to ask again
	memory   = 11 * time.Second // longer than a failed check is remembered by default
)

func warmRows() []row {
	caches := mirrors()[1:]
	trouble := func(name, work string, m mode, goals [2]float64) row {
		return row{
			name: name, work: "a cached tag past its time while the upstream " + work,
			servers: caches,
			measures: []measure{
				{name: "first", unit: "ms", goals: []goal{atMost(goals[0])}},
				{name: "then", unit: "ms", goals: []goal{atMost(goals[1])}},
				{name: "later", unit: "ms", goals: []goal{atMost(goals[1])}},
			},
			run: func(ctx context.Context, t *trial) (values, error) { return warmTrouble(ctx, t, m) },
		}
	}
	return []row{
		{
			name: "warm", work: "a cached tag within its time",
			servers: caches,
			measures: []measure{
				{name: "upstream requests", goals: []goal{atMost(0)}},
				{name: "time", unit: "ms", beside: dockerRegistry},
			},
			run: warmTag,
		},
		trouble("warm-hang", "hangs", hanging, [2]float64{2000, 50}),
		trouble("warm-429", "answers 429 with Retry-After 30", limiting, [2]float64{50, 50}),
		{
			name: "upstream-down", work: "a start in front of an upstream that is not there: the cached image",
			servers: caches,
			measures: []measure{
				{name: "ready", unit: "ms", goals: []goal{atMost(1000)}},
				{name: "pull", unit: "ms", goals: []goal{atMost(2000)}},
			},
			run: upstreamDown,
		},
		{
			name: "leaver", work: "the first client of a layer of 16 MiB leaves after 1 MiB: what the next pull costs the upstream",
			servers:  caches,
			measures: []measure{{name: "upstream bytes", unit: "× layer", goals: []goal{atMost(0)}}},
			run:      leaver,
		},
	}
}

// warmed starts the server and pulls an image through it until all of it is there.
func (t *trial) warmed(ctx context.Context, ttl time.Duration) (c *client, repo string, i image, err error) {
	if err := t.mirroring(ctx, 0, ttl); err != nil {
		return nil, "", i, err
	}
	repo = "lib/warm"
	if i, err = t.data.image(200, miB, 4); err != nil {
		return nil, "", i, err
	}
	t.up.put(repo, "v1", i)
	c = t.puller(repo)
	if _, _, err = c.pull(ctx, repo, "v1", i); err == nil {
		err = t.up.quiet(ctx)
	}
	t.up.forget()
	return c, repo, i, err
}

func warmTag(ctx context.Context, t *trial) (values, error) {
	c, repo, i, err := t.warmed(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer c.close()
	began := time.Now()
	if err := c.manifest(ctx, repo, "v1", i); err != nil {
		return nil, err
	}
	took := time.Since(began)
	if err := t.up.quiet(ctx); err != nil {
		return nil, err
	}
	requests, _, _ := t.up.counts()
	return values{"upstream requests": number(float64(requests)), "time": milliseconds(took)}, nil
}

func warmTrouble(ctx context.Context, t *trial, m mode) (values, error) {
	c, repo, i, err := t.warmed(ctx, shortTTL)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := pause(ctx, shortTTL+shortTTL/2); err != nil {
		return nil, err
	}
	t.up.become(m)
	ask := func(ctx context.Context) error { return c.manifest(ctx, repo, "v1", i) }
	v := values{"first": timed(ctx, ask), "then": slowest(ctx, 5, ask)}
	// Whoever remembers for a while that the upstream is in trouble has forgotten it.
	if err := pause(ctx, memory); err != nil {
		return nil, err
	}
	v["later"] = slowest(ctx, 5, ask)
	return v, nil
}

func upstreamDown(ctx context.Context, t *trial) (values, error) {
	c, repo, i, err := t.warmed(ctx, shortTTL)
	if err != nil {
		return nil, err
	}
	c.close()
	if err := errors.Join(t.stop(), t.up.close(), pause(ctx, shortTTL+shortTTL/2)); err != nil {
		return nil, err
	}
	if err := t.start(ctx, t.up.url, shortTTL); errors.Is(err, errEnded) {
		return values{"ready": {Text: "ends"}, "pull": {Text: "none"}}, nil
	} else if err != nil {
		return nil, err
	}
	c = t.puller(repo)
	defer c.close()
	return values{"ready": milliseconds(t.running.ready), "pull": timed(ctx, func(ctx context.Context) error {
		_, _, err := c.pull(ctx, repo, "v1", i)
		return err
	})}, nil
}

func leaver(ctx context.Context, t *trial) (values, error) {
	if err := t.mirroring(ctx, 0, 0); err != nil {
		return nil, err
	}
	repo, i, err := t.layers(0)
	if err != nil {
		return nil, err
	}
	layer := i.layers()[0]
	first := t.puller(repo)
	if err := first.manifest(ctx, repo, "v1", i); err != nil {
		return nil, err
	}
	leaves, leave := context.WithCancel(ctx)
	defer leave()
	resp, err := first.do(leaves, http.MethodGet, first.path(repo, "blobs/"+layer.digest.String()), nil, 0, http.StatusOK)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, resp.Body, miB); err != nil {
		return nil, err
	}
	leave()
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	if err := t.up.quiet(ctx); err != nil {
		return nil, err
	}
	t.up.forget()
	next := t.puller(repo)
	defer next.close()
	if _, err := next.blob(ctx, repo, layer.digest, layer.n); err != nil {
		return nil, err
	}
	if err := t.up.quiet(ctx); err != nil {
		return nil, err
	}
	_, _, sent := t.up.counts()
	return values{"upstream bytes": number(float64(sent) / float64(layer.n))}, nil
}

// timed gives how long work takes, or in words what it got instead of an answer.
func timed(ctx context.Context, work func(ctx context.Context) error) value {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	err := work(ctx)
	took := time.Since(began)
	if status, ok := errors.AsType[*statusError](err); ok {
		return value{Text: fmt.Sprintf("%d after %d ms", status.got, took.Milliseconds())}
	}
	switch {
	case ctx.Err() != nil:
		return value{Text: "none in " + patience.String()}
	case err != nil:
		return value{Text: err.Error()}
	}
	return milliseconds(took)
}

// slowest gives the longest time of n times the same work, or what came instead of
// the first answer that there was none of.
func slowest(ctx context.Context, n int, work func(ctx context.Context) error) (worst value) {
	for range n {
		v := timed(ctx, work)
		if v.Text != "" {
			return v
		}
		worst.Number = max(worst.Number, v.Number)
	}
	return worst
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
