package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

func pushRows() []row {
	// Where zot is not to be had: what it reached beside docker-registry.
	zotSmall := standIn{dockerRegistry, 2.19} // 205 / 91 and 220 / 103 MB/s
	zotLarge := standIn{dockerRegistry, 2.73} // 449 / 174 and 455 / 157 MB/s
	return []row{
		{
			name: "push-small", work: "20 images of 4 layers of 4 MiB, 4 at once: HEAD, POST, PUT for each blob, then the manifest",
			servers: registries(),
			measures: []measure{
				{name: throughput, unit: "MB/s", goals: []goal{atLeastTimes(1.3, zot, zotSmall)}},
				{name: cpu, unit: "s/GB", goals: []goal{atMost(2)}, beside: dockerRegistry},
				{name: peak, unit: "MB", beside: dockerRegistry},
				{name: "syncs", unit: "a blob", goals: []goal{atMost(3.3)}},
			},
			run: pushSmall,
		},
		{
			name: "push-large", work: "one layer of 512 MiB by HEAD, POST, PUT",
			servers: registries(), measures: pushLargeMeasures(zotLarge), run: pushLarge,
		},
		{
			name: "push-chunked", work: "one layer of 512 MiB in PATCHes of 16 MiB",
			servers: registries(), measures: pushLargeMeasures(zotLarge), run: pushChunked,
		},
		{
			name: "slow-uploads", work: "200 uploads of 1 MiB at 256 KiB/s, all at once",
			servers:  registries(),
			measures: []measure{{name: peak, unit: "MB", goals: []goal{atMost(100)}, beside: dockerRegistry}, {name: cpu, unit: "s/GB", beside: dockerRegistry}},
			run:      slowUploads,
		},
	}
}

func pushLargeMeasures(zotLarge standIn) []measure {
	return []measure{
		{name: throughput, unit: "MB/s", goals: []goal{atLeastTimes(1, zot, zotLarge)}},
		{name: cpu, unit: "s/GB", beside: dockerRegistry},
		{name: peak, unit: "MB", beside: dockerRegistry},
	}
}

func pushSmall(ctx context.Context, t *trial) (values, error) {
	var (
		images []image
		total  int64
		blobs  int
	)
	for n := range int64(20) {
		i, err := t.data.image(n*4, 4*miB, 4)
		if err != nil {
			return nil, err
		}
		images = append(images, i)
		total += i.size()
		blobs += len(i.blobs)
	}
	if err := t.start(ctx, "", 0); err != nil {
		return nil, err
	}
	c := newClient(t.running.addr)
	defer c.close()
	var before, after float64
	var err error
	counted := t.name == weir && t.bucket == nil // who has no disk syncs none
	if counted {
		if before, err = readSyncs(ctx, t.running.admin); err != nil {
			return nil, err
		}
	}
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		pushes, ctx := errgroup.WithContext(ctx)
		pushes.SetLimit(4)
		for n, i := range images {
			pushes.Go(func() error { return c.push(ctx, fmt.Sprintf("app%d", n), "v1", i) })
		}
		return pushes.Wait()
	})
	if err != nil {
		return nil, err
	}
	v := spent.on(total)
	if counted {
		if after, err = readSyncs(ctx, t.running.admin); err != nil {
			return nil, err
		}
		v["syncs"] = number((after - before) / float64(blobs))
	}
	for _, n := range []int{0, len(images) - 1} {
		if _, _, err := c.pull(ctx, fmt.Sprintf("app%d", n), "v1", images[n]); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func pushLarge(ctx context.Context, t *trial) (values, error) {
	b, err := t.data.chunk(0, 512*miB)
	if err != nil {
		return nil, err
	}
	return t.pushOne(ctx, b.digest, b.n, func(ctx context.Context, c *client) error { return c.pushBlob(ctx, "app", b) })
}

func pushChunked(ctx context.Context, t *trial) (values, error) {
	parts, err := t.data.chunks(0, 16*miB, 32)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	var n int64
	for _, p := range parts {
		text, err := os.ReadFile(p.file)
		if err != nil {
			return nil, err
		}
		hash.Write(text)
		n += p.n
	}
	d := digest.NewDigest(digest.SHA256, hash)
	return t.pushOne(ctx, d, n, func(ctx context.Context, c *client) error { return c.pushChunked(ctx, "app", parts, d) })
}

// pushOne measures a push of one blob and reads it back.
func (t *trial) pushOne(ctx context.Context, d digest.Digest, n int64, push func(context.Context, *client) error) (values, error) {
	if err := t.start(ctx, "", 0); err != nil {
		return nil, err
	}
	c := newClient(t.running.addr)
	defer c.close()
	spent, err := t.clock(ctx, func(ctx context.Context) error { return push(ctx, c) })
	if err != nil {
		return nil, err
	}
	if _, err := c.blob(ctx, "app", d, n); err != nil {
		return nil, err
	}
	return spent.on(n), nil
}

// slowUploads lets all uploads begin before the first may end.
func slowUploads(ctx context.Context, t *trial) (values, error) {
	const (
		uploads = 200
		size    = miB
		rate    = 256 << 10
	)
	shared, err := t.data.chunk(0, size)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(shared.file)
	if err != nil {
		return nil, err
	}
	if err := t.start(ctx, "", 0); err != nil {
		return nil, err
	}
	c := newClient(t.running.addr)
	defer c.close()
	bodies := make([][]byte, uploads)
	digests := make([]digest.Digest, uploads)
	for n := range bodies {
		bodies[n] = append(fmt.Appendf(nil, "%04d", n), text...)
		digests[n] = digest.FromBytes(bodies[n])
	}
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		var begun sync.WaitGroup
		begun.Add(uploads)
		all, ctx := errgroup.WithContext(ctx)
		for n, body := range bodies {
			all.Go(func() error {
				at, err := c.begin(ctx, fmt.Sprintf("app%d", n))
				begun.Done()
				if err != nil {
					return err
				}
				begun.Wait()
				slow := &slowReader{from: bytes.NewReader(body), pace: newPace(rate)}
				return c.commit(ctx, at, digests[n], slow, int64(len(body)))
			})
		}
		return all.Wait()
	})
	if err != nil {
		return nil, err
	}
	if _, err := c.blob(ctx, "app7", digests[7], int64(len(bodies[7]))); err != nil {
		return nil, err
	}
	return values{peak: spent.memory(), cpu: spent.perGB(uploads * size)}, nil
}

// A slowReader gives what it reads at a pace, in small pieces.
type slowReader struct {
	from io.Reader
	pace *pace
}

func (r *slowReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p[:min(len(p), 8<<10)])
	time.Sleep(r.pace.reserve(time.Now(), n))
	return n, err
}
