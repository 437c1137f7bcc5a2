package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// How far a repository is filled, and how long that may take: a server that has not
// reached the end by then is measured where it is.
const (
	fewTags, peerTags, ourTags                = 500, 8_000, 100_000
	fewReferrers, peerReferrers, ourReferrers = 250, 1_000, 10_000
	peerFill, ourFill                         = 15 * time.Second, 90 * time.Second
	// growers is how many push at once meanwhile: those who come together share a sync.
	growers = 64
)

// growths are the measures of one operation: where there is little, at the end, and
// how many times the first the second is.
func growths(name string, few int, first, last []goal) []measure {
	return []measure{
		{name: fmt.Sprintf("%s at %d", name, few), unit: "ms", goals: first, beside: olareg},
		{name: name + " at the end", unit: "ms", goals: last, beside: olareg},
		{name: name + ", growth", unit: "×", goals: []goal{atMost(1.2)}},
	}
}

// slowest99 is the measure of what 99 of 100 such operations do not exceed at the end.
func slowest99(name string, goals []goal) measure {
	return measure{name: name + " at the end, p99", unit: "ms", goals: goals, beside: olareg}
}

func growthRows() []row {
	// Where zot is not to be had: what it reached beside distribution.
	zotPush := standIn{distribution, 1.25} // 6.9 / 5.5 ms
	tags := []measure{{name: "tags at the end"}}
	tags = append(tags, growths("push", fewTags, []goal{atMostTimes(1, zot, zotPush)}, nil)...)
	tags = append(tags, growths("page of 100", fewTags, nil, []goal{atMost(2)})...)
	tags = append(tags, growths("HEAD by tag", fewTags, nil, []goal{atMost(0.5)})...)
	tags = append(tags, slowest99("page of 100", []goal{atMost(20)}))
	referrers := []measure{{name: "referrers at the end"}}
	referrers = append(referrers, growths("push", fewReferrers, nil, nil)...)
	referrers = append(referrers, growths("page of 250", fewReferrers, nil, nil)...)
	referrers = append(referrers, measure{name: "first page at the end", unit: "ms", goals: []goal{atMost(5)}, beside: olareg})
	referrers = append(referrers, slowest99("first page", nil))
	return []row{
		{
			name: "tags", work: "one repository that gets tags, one client; medians, but where it says p99",
			servers: []string{distribution, olareg, weir}, measures: tags, run: growTags,
		},
		{
			name: "referrers", work: "one image that gets referrers, one client; medians, but where it says p99",
			servers: []string{olareg, weir}, measures: referrers, run: growReferrers,
		},
	}
}

// A garden is one repository that grows.
type garden struct {
	c       *client
	blobs   []chunk
	subject *image // what all manifests refer to; nil makes them images with tags
	grown   int    // manifests so far
	page    []byte // the last one that was listed
}

// push adds the n-th manifest.
func (g *garden) push(ctx context.Context, n int) error {
	i, err := newImage(g.blobs, fmt.Sprint(n), g.subject)
	if err != nil {
		return err
	}
	ref := i.digest.String()
	if g.subject == nil {
		ref = tagName(n)
	}
	return g.c.putManifest(ctx, "app", ref, i)
}

func tagName(n int) string { return fmt.Sprintf("v%06d", n) }

// grow pushes until there are so many, or until the time is over.
func (g *garden) grow(ctx context.Context, until int, within time.Duration) error {
	deadline := time.Now().Add(within)
	for g.grown < until && time.Now().Before(deadline) {
		batch := min(640, until-g.grown)
		pushes, ctx := errgroup.WithContext(ctx)
		pushes.SetLimit(growers)
		for n := range batch {
			pushes.Go(func() error { return g.push(ctx, g.grown+n) })
		}
		if err := pushes.Wait(); err != nil {
			return err
		}
		g.grown += batch
	}
	return nil
}

// often gives the median time of n calls, and what 99 of 100 do not exceed. What each
// call got is checked, if check is not nil, while no clock runs.
func often(ctx context.Context, n int, work func(ctx context.Context, n int) error, check func() error) (mid, p99 time.Duration, err error) {
	var times []time.Duration
	for i := range n {
		began := time.Now()
		if err := work(ctx, i); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(began))
		if check == nil {
			continue
		}
		if err := check(); err != nil {
			return 0, 0, err
		}
	}
	return median(times), percentile(times, 99), nil
}

// planted starts a server with one image, all of whose blobs later manifests name.
func (t *trial) planted(ctx context.Context) (*garden, image, error) {
	i, err := t.data.image(300, kB, 1)
	if err != nil {
		return nil, i, err
	}
	if err := t.start(ctx, "", 0); err != nil {
		return nil, i, err
	}
	g := &garden{c: newClient(t.running.addr), blobs: i.blobs}
	return g, i, g.c.push(ctx, "app", "first", i)
}

// A question is an operation whose time should not depend on how much there is.
type question struct {
	name  string
	times int
	ask   func(ctx context.Context, n int) error
	check func() error // of what the last answer was, if not nil
}

// watch lets a garden grow and asks the questions where it is small and at the end.
func (t *trial) watch(ctx context.Context, g *garden, few, peers, ours int, questions []question) (values, error) {
	until, within := peers, peerFill
	if t.name == weir && t.seconds == 0 { // a profile says as much about less
		until, within = ours, ourFill
	}
	v, early := values{}, map[string]time.Duration{}
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		if err := g.grow(ctx, few, within); err != nil {
			return err
		}
		for _, q := range questions {
			d, _, err := often(ctx, q.times, q.ask, q.check)
			if err != nil {
				return err
			}
			early[q.name] = d
			v[fmt.Sprintf("%s at %d", q.name, few)] = milliseconds(d)
		}
		if err := g.grow(ctx, until, within); err != nil {
			return err
		}
		for _, q := range questions {
			d, p99, err := often(ctx, q.times, q.ask, q.check)
			if err != nil {
				return err
			}
			v[q.name+" at the end"] = milliseconds(d)
			v[q.name+" at the end, p99"] = milliseconds(p99)
			v[q.name+", growth"] = number(d.Seconds() / early[q.name].Seconds())
		}
		return nil
	})
	v[peak] = spent.memory()
	return v, err
}

func growTags(ctx context.Context, t *trial) (values, error) {
	g, _, err := t.planted(ctx)
	if err != nil {
		return nil, err
	}
	defer g.c.close()
	v, err := t.watch(ctx, g, fewTags, peerTags, ourTags, []question{
		{"push", 50, func(ctx context.Context, n int) error {
			g.grown++
			return g.push(ctx, g.grown-1)
		}, nil},
		{"page of 100", 200, func(ctx context.Context, n int) error {
			page := fmt.Sprintf("tags/list?n=100&last=%s", tagName(g.grown/3+n))
			return g.list(ctx, g.c.path("app", page))
		}, func() error { return g.count("tags", 100) }},
		{"HEAD by tag", 100, func(ctx context.Context, n int) error {
			tag := tagName(n * 7919 % g.grown)
			return finish(g.c.do(ctx, http.MethodHead, g.c.path("app", "manifests/"+tag), nil, 0, http.StatusOK, "Accept", manifestType))
		}, nil},
	})
	if v != nil {
		v["tags at the end"] = number(float64(g.grown))
	}
	return v, err
}

func growReferrers(ctx context.Context, t *trial) (values, error) {
	g, subject, err := t.planted(ctx)
	if err != nil {
		return nil, err
	}
	defer g.c.close()
	g.subject = &subject
	all := g.c.path("app", "referrers/"+subject.digest.String())
	v, err := t.watch(ctx, g, fewReferrers, peerReferrers, ourReferrers, []question{
		{"push", 30, func(ctx context.Context, n int) error {
			g.grown++
			return g.push(ctx, g.grown-1)
		}, nil},
		// As many there as here: what a page costs is not to depend on how many there are.
		{"page of 250", 100, func(ctx context.Context, n int) error {
			return g.list(ctx, all+"?n=250")
		}, func() error { return g.count("manifests", 50) }},
		{"first page", 100, func(ctx context.Context, n int) error {
			return g.list(ctx, all)
		}, func() error { return g.count("manifests", 50) }},
	})
	if v != nil {
		v["referrers at the end"] = number(float64(g.grown))
	}
	return v, err
}

// list gets a page of a list.
func (g *garden) list(ctx context.Context, url string) error {
	resp, err := g.c.do(ctx, http.MethodGet, url, nil, 0, http.StatusOK)
	if err != nil {
		return err
	}
	g.page, err = io.ReadAll(resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// count wants that the last page has so many entries at least.
func (g *garden) count(key string, least int) error {
	var list map[string]json.RawMessage
	var entries []json.RawMessage
	err := json.Unmarshal(g.page, &list)
	if err == nil {
		err = json.Unmarshal(list[key], &entries)
	}
	if err == nil && len(entries) < least {
		err = errors.New("too few")
	}
	if err != nil {
		return fmt.Errorf("a page of %d %s: %w: %.300s", len(entries), key, err, g.page)
	}
	return nil
}
