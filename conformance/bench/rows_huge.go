package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// hugeSize is more than a memory holds that is meant to hold none of it.
const hugeSize = 5 << 30

func hugeRows() []row {
	measures := func(more ...measure) []measure {
		return append([]measure{
			// Resident memory is more than the heap, which is to be within 64 MiB.
			{name: "more RSS", unit: "MB", goals: []goal{atMost(64 * float64(miB) / mB)}},
			{name: throughput, unit: "MB/s"},
			{name: cpu, unit: "s/GB"},
		}, more...)
	}
	const work = "one layer of 5 GiB by POST, PUT, made while it is sent; its length and its end are read back"
	return []row{
		{name: "push-5gib", work: work, servers: []string{weir}, measures: measures(), within: 10 * time.Minute, run: pushHuge},
		{
			name: "s3-push-5gib", work: work + "; on S3", servers: []string{weir},
			measures: measures(
				measure{name: "parts", goals: []goal{atMost(10_000)}},
				measure{name: bucketCPU, unit: "s/GB"}),
			within: 10 * time.Minute, run: onBucket(false, pushHuge),
		},
	}
}

// A stream gives bytes that are nowhere: one block of 1 MiB again and again, which begins
// with its number. What is made as it is read costs the machine next to nothing.
type stream struct {
	block []byte
	at, n int64 // n: where it ends
}

func newStream(n int64) *stream {
	var seed [32]byte
	block := make([]byte, miB)
	rand.NewChaCha8(seed).Read(block) // never fails
	return &stream{block: block, n: n}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.at == s.n {
		return 0, io.EOF
	}
	off := s.at % miB
	binary.BigEndian.PutUint64(s.block, uint64(s.at/miB))
	n := copy(p, s.block[off:min(miB, off+s.n-s.at)])
	s.at += int64(n)
	return n, nil
}

func pushHuge(ctx context.Context, t *trial) (values, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, newStream(hugeSize)); err != nil {
		return nil, err
	}
	d := digest.NewDigest(digest.SHA256, hash)
	if err := t.start(ctx, "", 0); err != nil {
		return nil, err
	}
	c := newClient(t.running.addr)
	defer c.close()
	// What a process takes for its first push of all is not the size's.
	first, err := t.data.chunk(0, 64*kB)
	if err != nil {
		return nil, err
	}
	if err := c.pushBlob(ctx, "app", first); err != nil {
		return nil, err
	}
	before, err := readUsage(t.running.pid)
	if err != nil {
		return nil, err
	}
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		at, err := c.begin(ctx, "app")
		if err != nil {
			return err
		}
		return c.commit(ctx, at, d, newStream(hugeSize), hugeSize)
	})
	if err != nil {
		return nil, err
	}
	if err := c.ending(ctx, "app", d, hugeSize); err != nil {
		return nil, err
	}
	v := spent.on(hugeSize)
	delete(v, peak)
	v["more RSS"] = number(float64(spent.peak-before.rss) / mB)
	if t.bucket != nil {
		parts, err := t.mostParts()
		if err != nil {
			return nil, err
		}
		v["parts"] = number(float64(parts))
	}
	return v, nil
}

// ending checks that a blob which a stream gave is as long, and ends as that does.
func (c *client) ending(ctx context.Context, repo string, d digest.Digest, n int64) error {
	url := c.path(repo, "blobs/"+d.String())
	resp, err := c.do(ctx, http.MethodHead, url, nil, 0, http.StatusOK)
	if err := finish(resp, err); err != nil {
		return err
	}
	if resp.ContentLength != n {
		return fmt.Errorf("%s: %d bytes, want %d", url, resp.ContentLength, n)
	}
	s := newStream(n)
	s.at = n - miB
	want, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	resp, err = c.do(ctx, http.MethodGet, url, nil, 0, http.StatusPartialContent, "Range", fmt.Sprintf("bytes=%d-%d", n-miB, n-1))
	if err != nil {
		return err
	}
	got, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: ends with other bytes than were pushed", url)
	}
	return nil
}
