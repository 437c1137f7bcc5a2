package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
)

// gate opens when all have come to it. It reads as nothing then, so that it may stand
// between two pieces of a body.
type gate struct {
	ctx  context.Context // of all who come
	left atomic.Int64
	open chan struct{}
}

func (g *gate) Read([]byte) (int, error) {
	if g.left.Add(-1) == 0 {
		close(g.open)
	}
	select {
	case <-g.open:
		return 0, io.EOF
	case <-g.ctx.Done():
		return 0, g.ctx.Err()
	}
}

// uploadAtOnce pushes so many blobs of that size, all of which are on their way at the same
// time: each sends a piece when all have sent the piece before.
func (p *process) uploadAtOnce(uploads, size int) {
	const piece = 256 << 10
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	content := origintest.Bytes(1, size-16) // of each, before its own number
	var gates []*gate
	for range size/piece - 1 {
		g := &gate{ctx: ctx, open: make(chan struct{})}
		g.left.Store(int64(uploads))
		gates = append(gates, g)
	}
	before := sha256.New()
	before.Write(content)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	push := func(i int) error {
		own := fmt.Sprintf("%016d", i)
		var pieces []io.Reader
		for n, g := range gates {
			pieces = append(pieces, bytes.NewReader(content[n*piece:(n+1)*piece]), g)
		}
		pieces = append(pieces, bytes.NewReader(content[len(gates)*piece:]), strings.NewReader(own))
		h, err := before.(hash.Cloner).Clone()
		if err != nil {
			return err
		}
		_, _ = io.WriteString(h, own)
		url := fmt.Sprintf("http://%s/v2/team/app%d/blobs/uploads/?digest=%s", p.public, i%10, digest.NewDigest(digest.SHA256, h))
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.MultiReader(pieces...))
		if err != nil {
			return err
		}
		req.ContentLength = int64(size)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusCreated {
			said, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("%s %s", resp.Status, said)
		}
		return nil
	}
	var all sync.WaitGroup
	for i := range uploads {
		all.Go(func() {
			if err := push(i); err != nil && ctx.Err() == nil {
				p.t.Errorf("upload %d: %v", i, err)
				cancel() // or the others wait for it
			}
		})
	}
	all.Wait()
}

// uploads runs p for so many uploads of that size, all under way at once, and wants that
// they are taken in 512 MiB of memory, of which each has no more than 256 KiB.
func (p *process) uploads(uploads, size int) (before, peak int64) {
	p.t.Helper()
	const most, each, least = 512 << 20, 256 << 10, 32 << 20
	p.program = unraced(p.t)
	p.start()
	before = p.memory("VmRSS")
	p.uploadAtOnce(uploads, size)
	peak = p.memory("VmHWM")
	p.t.Logf("%d KiB before, %d KiB at most: %d for each upload", before>>10, peak>>10, (peak-before)>>10/int64(uploads))
	if peak > most || peak-before > max(int64(uploads)*each, least) {
		p.t.Errorf("%d bytes before, %d at most: %d for each upload", before, peak, (peak-before)/int64(uploads))
	}
	p.stop()
	p.saidNothingBad()
	return before, peak
}

// unraced gives a weir without the race detector, whose own memory is that of weir many times
// over. It is built as by `make build`, so that its packages need not be compiled again.
func unraced(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "weir")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "grpcnotrace", "-trimpath", "-buildvcs=false", "-o", name, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return name
}

// TestUploads: 128 uploads of 4 MiB that are all under way at the same time are taken without
// an error, in little memory (trust D-4). Of fewer each would have more than its share: see
// least.
func TestUploads(t *testing.T) {
	newProcess(t, t.TempDir(), "").uploads(128, 4<<20)
}
