//go:build nightly

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
)

// memory gives what the system says of the memory of p, in bytes: VmRSS is what it has,
// VmHWM the most that it ever had.
func (p *process) memory(key string) int64 {
	p.t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = status.Close() }()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), key+": %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	p.t.Fatalf("no %s", key)
	return 0
}

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

// 1,000 uploads of 4 MiB that are all under way at the same time, and then of 16 MiB, are
// taken without an error in 512 MiB of memory, of which each has no more than 256 KiB
// (trust D-4).
func TestNightlyUploads(t *testing.T) {
	const most, each, least = 512 << 20, 256 << 10, 32 << 20
	for _, size := range []int{4 << 20, 16 << 20} {
		t.Run(fmt.Sprint(size>>20, "MiB"), func(t *testing.T) {
			rep := oracletest.NewReport(t, "disk", 0)
			defer rep.Keep(t)
			uploads := oracletest.PartOf(t, 1000)
			p := newProcess(t, t.TempDir(), "")
			p.start()
			before := p.memory("VmRSS")
			p.uploadAtOnce(uploads, size)
			peak := p.memory("VmHWM")
			rep.Operations = int64(uploads)
			rep.More["rss_before"], rep.More["rss_peak"] = float64(before), float64(peak)
			if peak > most || peak-before > max(int64(uploads)*each, least) {
				t.Errorf("%d bytes before, %d at most: %d for each upload", before, peak, (peak-before)/int64(uploads))
			}
			p.stop()
			p.saidNothingBad()
		})
	}
}
