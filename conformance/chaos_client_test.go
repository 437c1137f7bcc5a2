//go:build chaos

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pull pulls at random until running ends. What it has begun then goes on in life.
func (c *chaos) pull(running, life context.Context, random *rand.Rand) {
	for running.Err() == nil {
		p := c.parts[random.IntN(len(c.parts))]
		n := len(p.want)
		switch random.IntN(10) {
		case 0, 1: // an image, one part after the other
			for _, p := range c.images[random.IntN(len(c.images))] {
				c.get(life, http.MethodGet, p, "", -1)
			}
		case 2: // the rest of a broken download
			c.get(life, http.MethodGet, p, fmt.Sprintf("bytes=%d-", random.IntN(n)), -1)
		case 3:
			from := random.IntN(n)
			c.get(life, http.MethodGet, p, fmt.Sprintf("bytes=%d-%d", from, from+random.IntN(n-from)), -1)
		case 4: // one that leaves
			c.get(life, http.MethodGet, p, "", random.IntN(n))
		case 5:
			c.get(life, http.MethodHead, p, "", -1)
		case 6, 7:
			c.drop(life, p)
		default:
			c.get(life, http.MethodGet, p, "", -1)
		}
	}
}

// get asks for a part, and leaves after so many bytes unless that is -1.
func (c *chaos) get(ctx context.Context, method string, p *part, byteRange string, leave int) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	last := time.Now()
	limit := time.AfterFunc(stuck+slowest, func() { cancel(errStuck) })
	defer limit.Stop()
	moved := func() {
		limit.Reset(stuck + slowest)
		c.mu.Lock()
		c.idle = max(c.idle, time.Since(last))
		c.mu.Unlock()
		last = time.Now()
	}
	outcome, n, err := c.ask(ctx, method, p, byteRange, leave, moved)
	moved()
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(context.Cause(ctx), errStuck) {
		err = errStuck
	}
	c.counts[outcome]++
	c.bytes += n
	if err != nil {
		c.wrong = append(c.wrong, fmt.Sprintf("%s %s %s: after %d bytes of %d: %v", method, p.path, byteRange, n, len(p.want), err))
	}
}

var errStuck = errors.New("no byte and no error came for too long")

// ask gives what became of a request, and what is wrong with that, if anything is.
func (c *chaos) ask(ctx context.Context, method string, p *part, byteRange string, leave int, moved func()) (outcome string, n int64, wrong error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.weir.addr+"/v2/docker.io/"+p.path, nil)
	if err != nil {
		return "", 0, err
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return "no answer", 0, fmt.Errorf("weir is away: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // what counts was read
	moved()
	from, to := 0, len(p.want)-1
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent:
		var whole int
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &whole); err != nil || whole != len(p.want) || from > to || to >= whole {
			return "206", 0, fmt.Errorf("Content-Range: %s", resp.Header.Get("Content-Range"))
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return resp.Status, 0, nil
	default: // what the upstream has is never "not there", and no client is at fault
		return resp.Status, 0, fmt.Errorf("status %s", resp.Status)
	}
	if method == http.MethodHead {
		if resp.ContentLength != int64(len(p.want)) {
			return "HEAD", 0, fmt.Errorf("Content-Length: %d", resp.ContentLength)
		}
		return "HEAD", 0, nil
	}
	want := p.want[from : to+1]
	buf := make([]byte, 32<<10)
	for {
		got, err := resp.Body.Read(buf)
		if got > 0 {
			moved()
			if n+int64(got) > int64(len(want)) || !bytes.Equal(buf[:got], want[n:n+int64(got)]) {
				return "wrong", n, errors.New("other bytes than the upstream's")
			}
			n += int64(got)
		}
		switch {
		case leave >= 0 && n >= int64(leave):
			return "left", n, nil
		case err == io.EOF && n < int64(len(want)):
			return "short", n, errors.New("the body ends early, and cleanly")
		case err == io.EOF:
			return "complete", n, nil
		case err != nil:
			return "cut", n, nil
		}
	}
}

// drop drops a part from the cache if it is kept there.
func (c *chaos) drop(ctx context.Context, p *part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	head, err := c.call(ctx, http.MethodHead, p)
	if err != nil || head.Header.Get("Weir-Cache") != "hit" {
		return
	}
	if resp, err := c.call(ctx, http.MethodDelete, p); err != nil || resp.StatusCode != http.StatusAccepted {
		return
	}
	if _, hex, blob := strings.Cut(p.path, "/blobs/sha256:"); blob {
		// Its bytes stay for a day, for whoever asks for them again. They are to be
		// fetched again now.
		if err := removeBlob(c.weir.data, hex); err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.wrong = append(c.wrong, fmt.Sprintf("%s was kept: %v", p.path, err))
			return
		}
	}
	p.dropped += int64(len(p.want))
}

// removeBlob takes the file of a blob out of weir's store; it, or its folder, is
// called by the digest's hex.
func removeBlob(data, hex string) error {
	found := false
	err := filepath.WalkDir(filepath.Join(data, "blobs"), func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(name) != hex {
			return err
		}
		found = true
		if err := os.RemoveAll(name); err != nil {
			return err
		}
		return fs.SkipAll
	})
	if err == nil && !found {
		return fs.ErrNotExist
	}
	return err
}

func (c *chaos) call(ctx context.Context, method string, p *part) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.weir.addr+"/v2/docker.io/"+p.path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

// pullAll pulls everything; what is wrong with any of it ends the test.
func (c *chaos) pullAll(t *testing.T) {
	t.Helper()
	for _, p := range c.parts {
		if outcome, n, err := c.ask(t.Context(), http.MethodGet, p, "", -1, func() {}); outcome != "complete" || err != nil {
			t.Errorf("%s over a network that is well: %s after %d bytes of %d, %v", p.path, outcome, n, len(p.want), err)
		}
	}
}

// newChaosClient makes a client whose connections are used again, as real ones'.
func newChaosClient(t *testing.T) *http.Client {
	transport := &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: chaosClients,
		DialContext: (&net.Dialer{Timeout: stuck}).DialContext,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
