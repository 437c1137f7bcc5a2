package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

const (
	// gcImage is how many blobs an image of that registry has, its config among them.
	gcImage = 10
	// gcRepo is how many of those images a repository has.
	gcRepo = 1000
	// gcGarbage: one image of so many has no manifest, so that nobody needs its blobs.
	gcGarbage = 100
	// gcGrace is how long content is spared: all is older that was there before the start.
	gcGrace = time.Second
	// gcBefore is how many pushes show what one takes with nothing beside it.
	gcBefore = 200

	pushBefore  = "push and pull before, p99"
	pushBeside  = "push and pull beside it, p99"
	pushLongest = "push and pull beside it, longest"
)

func gcRows() []row {
	return []row{{
		name: "gc", work: fmt.Sprintf("a collection over so many small blobs on disk, in images of %d and repositories of %d of them; "+
			"of one image in %d the manifest is not there; the files were put into the store's directory", gcImage, gcRepo, gcGarbage),
		servers: []string{weir},
		measures: []measure{
			{name: "blobs"},
			{name: "time", unit: "s"},
			{name: "freed", unit: "blobs"},
			{name: "more RSS", unit: "MB", goals: []goal{atMost(200 * float64(miB) / mB)}},
			{name: cpu, unit: "s"},
			{name: pushBefore, unit: "ms"},
			{name: pushBeside, unit: "ms", goals: []goal{atMost(500)}},
			{name: pushLongest, unit: "ms", goals: []goal{atMost(1000)}},
		},
		within: 45 * time.Minute,
		run:    collect,
	}}
}

// collect fills a store, starts a server on it, and has that one collect by the command.
func collect(ctx context.Context, t *trial) (values, error) {
	t.config = func(p place) string {
		return weirConfig(p) + fmt.Sprintf("origin: {gc: {interval: 0s, grace: %s}}\n", gcGrace)
	}
	images := t.blobs / gcImage
	if err := t.hoard(ctx, images); err != nil {
		return nil, err
	}
	if err := pause(ctx, 2*gcGrace); err != nil {
		return nil, err
	}
	if err := t.start(ctx, "", 0); err != nil {
		return nil, err
	}
	before, err := readUsage(t.running.pid)
	if err != nil {
		return nil, err
	}
	garbage := int64((images + gcGarbage - 1) / gcGarbage * gcImage)
	o, err := t.onlooker()
	if err != nil {
		return nil, err
	}
	defer o.c.close()
	_, idle, err := often(ctx, gcBefore, o.look, nil)
	if err != nil {
		return nil, err
	}
	var beside []time.Duration
	var freed int64
	spent, err := t.clock(ctx, func(ctx context.Context) (err error) {
		beside, err = o.until(ctx, func(ctx context.Context) (err error) {
			freed, err = t.gc(ctx, garbage)
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return values{
		pushBefore:  milliseconds(idle),
		pushBeside:  milliseconds(percentile(beside, 99)),
		pushLongest: milliseconds(slices.Max(beside)),

		"blobs":    number(float64(images * gcImage)),
		"time":     number(spent.wall.Seconds()),
		"freed":    number(float64(freed)),
		"more RSS": number(float64(spent.peak-before.rss) / mB),
		cpu:        number(spent.cpu.Seconds()),
	}, nil
}

// An onlooker pushes and pulls beside a collection: a layer, which the image that the
// hoard was made after has too, another image of it under a tag, and that image.
type onlooker struct {
	c     *client
	image image
	looks int
}

func (t *trial) onlooker() (*onlooker, error) {
	i, err := t.data.image(patternImage, kB, 1)
	return &onlooker{c: newClient(t.running.addr), image: i}, err
}

func (o *onlooker) look(ctx context.Context, _ int) error {
	o.looks++
	layer := o.image.layers()[0]
	at, err := o.c.begin(ctx, patternRepo)
	if err != nil {
		return err
	}
	f, err := os.Open(layer.file)
	if err != nil {
		return err
	}
	if err := o.c.commit(ctx, at, layer.digest, f, layer.n); err != nil {
		return err
	}
	i, err := newImage(o.image.blobs, fmt.Sprint(o.looks), nil)
	if err != nil {
		return err
	}
	tag := fmt.Sprintf("look%d", o.looks)
	if err := o.c.putManifest(ctx, patternRepo, tag, i); err != nil {
		return err
	}
	_, _, err = o.c.pull(ctx, patternRepo, tag, i)
	return err
}

// until looks again and again, a tenth of a second between, until work is done; and gives
// how long each time took.
func (o *onlooker) until(ctx context.Context, work func(context.Context) error) (times []time.Duration, err error) {
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	for {
		began := time.Now()
		if err := o.look(ctx, 0); err != nil {
			return nil, errors.Join(err, <-done)
		}
		times = append(times, time.Since(began))
		select {
		case err := <-done:
			return times, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// gc runs the command, which has the running server do the work, and checks how much it
// frees: all but what the onlooker kept it from just then, since a push locks some other
// blobs with its own. The next run frees that.
func (t *trial) gc(ctx context.Context, garbage int64) (freed int64, err error) {
	said, err := os.Create(filepath.Join(t.scratch, "gc.log"))
	if err != nil {
		return 0, err
	}
	defer said.Close()
	cmd := exec.CommandContext(ctx, t.program, "gc", "--json", "--config", filepath.Join(t.scratch, "config"))
	cmd.Dir, cmd.Stderr = t.scratch, said
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("gc: %w; it said: %s", err, tail(said.Name(), 5))
	}
	var report struct {
		Freed int64
		Kept  []struct {
			Reason string
			Count  int64
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, fmt.Errorf("gc: %w: %.300s", err, out)
	}
	later := int64(0)
	for _, k := range report.Kept {
		if k.Reason == "in use" {
			later = k.Count
		}
	}
	if report.Freed+later != garbage || later > 1+garbage/100 {
		return 0, fmt.Errorf("gc: %d freed, want %d: %.300s", report.Freed, garbage, out)
	}
	return report.Freed, nil
}
