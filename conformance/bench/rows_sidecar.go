package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// sidecarRows measure weir in front of another weir beside the same work of one weir:
// what it costs that the origin is behind HTTP.
func sidecarRows() []row {
	return []row{{
		name: "sidecar", work: "an image of 4 layers of 16 MiB through weir in front of a weir, beside one weir; medians of 3",
		servers: []string{weir},
		measures: []measure{
			{name: "cold", unit: "ms"},
			{name: "cold beside one", unit: "×", goals: []goal{atMost(1.25)}},
			{name: "hot", unit: "ms"},
			{name: "hot beside one", unit: "×", goals: []goal{atMost(2.5)}},
			{name: "upstream bytes", unit: "× image", goals: []goal{atMost(1)}},
		},
		run: sidecar,
	}}
}

// pulls are the medians of what was pulled.
type pulls struct {
	cold, hot time.Duration
	sent      float64 // bytes of the upstream, as a multiple of the images
}

func sidecar(ctx context.Context, t *trial) (values, error) {
	var err error
	if t.up, err = newUpstream(0); err != nil {
		return nil, err
	}
	scratch := t.scratch
	defer func() { t.scratch = scratch }()
	if err := t.in(filepath.Join(scratch, "one")); err != nil {
		return nil, err
	}
	if err := t.start(ctx, t.up.url, 0); err != nil {
		return nil, err
	}
	one, err := t.pulls(ctx, "")
	if err = errors.Join(err, t.stop()); err != nil {
		return nil, err
	}

	if err := t.in(filepath.Join(scratch, "behind")); err != nil {
		return nil, err
	}
	p := place{dir: t.scratch}
	if p.addr, err = freeAddr(); err == nil {
		p.admin, err = freeAddr()
	}
	if err != nil {
		return nil, err
	}
	behind, err := start(ctx, t.server, p)
	if err != nil {
		return nil, err
	}
	two, err := t.inFrontOf(ctx, filepath.Join(scratch, "front"), p.addr)
	if err = errors.Join(err, t.stop(), behind.stop()); err != nil {
		return nil, err
	}
	return values{
		"cold":            milliseconds(two.cold),
		"cold beside one": number(two.cold.Seconds() / one.cold.Seconds()),
		"hot":             milliseconds(two.hot),
		"hot beside one":  number(two.hot.Seconds() / one.hot.Seconds()),
		"upstream bytes":  number(max(one.sent, two.sent)),
	}, nil
}

// in has the trial's server live in a directory of its own.
func (t *trial) in(dir string) error {
	t.scratch = dir
	return os.Mkdir(dir, 0o755)
}

// inFrontOf starts weir in front of the one at addr, and pulls.
func (t *trial) inFrontOf(ctx context.Context, dir, addr string) (pulls, error) {
	if err := t.in(dir); err != nil {
		return pulls{}, err
	}
	config := t.config
	t.config = func(p place) string {
		return config(p) + fmt.Sprintf("origin: {url: %q, prefix: mirrored}\n", "http://"+addr)
	}
	defer func() { t.config = config }()
	if err := t.start(ctx, t.up.url, 0); err != nil {
		return pulls{}, err
	}
	return t.pulls(ctx, addr)
}

// pulls pulls three images, and each again when it is stored: behind, at the address of
// the registry there, if that is not "".
func (t *trial) pulls(ctx context.Context, behind string) (p pulls, err error) {
	first, err := t.data.image(900, 10*kB, 1)
	if err != nil {
		return p, err
	}
	t.up.put("lib/first", "v1", first)
	c := t.puller("lib/first")
	defer c.close()
	if _, _, err := c.pull(ctx, "lib/first", "v1", first); err != nil {
		return p, err
	}
	t.up.forget()
	const images = 3
	var cold, hot []time.Duration
	var size int64
	for n := range int64(images) {
		repo, i, err := t.layers(n)
		if err != nil {
			return p, err
		}
		size += i.size()
		_, took, err := c.pull(ctx, repo, "v1", i)
		if err != nil {
			return p, err
		}
		cold = append(cold, took)
		if err := t.up.quiet(ctx); err != nil {
			return p, err
		}
		if behind != "" {
			if err := t.arrived(ctx, behind, "mirrored/"+t.mirrors+repo, i); err != nil {
				return p, err
			}
		}
		if _, took, err = c.pull(ctx, repo, "v1", i); err != nil {
			return p, err
		}
		hot = append(hot, took)
	}
	_, _, sent := t.up.counts()
	return pulls{cold: median(cold), hot: median(hot), sent: float64(sent) / float64(size)}, nil
}

// arrived waits until a registry has an image.
func (t *trial) arrived(ctx context.Context, addr, repo string, i image) error {
	c := newClient(addr)
	defer c.close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := c.do(ctx, http.MethodHead, c.path(repo, "manifests/"+i.digest.String()), nil, 0, http.StatusOK)
		if err = finish(resp, err); err == nil {
			return nil
		}
		if missing, ok := errors.AsType[*statusError](err); !ok || missing.got != http.StatusNotFound {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the image did not arrive behind: %w", ctx.Err())
		}
	}
}
