//go:build chaos

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// stuck is how long a client may wait without a byte or an error, beyond what the
	// network itself makes it wait.
	stuck = 30 * time.Second
	// slowest is what the network makes it wait: a range begins to come when what is
	// coming before it has come, at most 1 MiB at 64 KiB a second.
	slowest = 16 * time.Second
	// chaosClients is how many clients pull at a time.
	chaosClients = 8
)

// part is a manifest or a blob of the upstream. Those who pull it hold mu for
// reading; who drops it from the cache holds it for writing.
type part struct {
	mu      sync.RWMutex
	path    string // below /v2/docker.io/
	want    []byte
	dropped int64 // bytes that were kept, and dropped again
}

// chaos is one run: what may be pulled, and what became of it.
type chaos struct {
	weir   *weir
	client *http.Client
	parts  []*part
	images [][]*part // the parts of each image, in the order of a pull

	mu     sync.Mutex
	counts map[string]int
	bytes  int64         // of bodies, at clients
	idle   time.Duration // the longest wait of a client
	wrong  []string
}

// TestChaos pulls random images, blobs and ranges of them through weir for the time
// that $CHAOS says, while the network between weir and a real registry misbehaves in
// every way there is.
func TestChaos(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("CHAOS"))
	if err != nil {
		t.Fatalf("CHAOS, how long it is to last: %v", err)
	}
	seed := rand.Uint64()
	if s := os.Getenv("CHAOS_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CHAOS=%v CHAOS_SEED=%d", length, seed)

	dir := t.TempDir()
	up := startUpstream(t, dir)
	c := &chaos{client: newChaosClient(t), counts: map[string]int{}}
	c.push(t, up.addr, rand.New(rand.NewPCG(seed, 0)))
	network := startNetwork(t, up.addr)
	pushed := len(up.requests(t, 0))
	// Limits are short, so that what hangs is found out many times in a run.
	c.weir = startWeir(t, filepath.Join(dir, "data"), fmt.Sprintf(`
mirror:
  well_known: false
  upstreams:
    - name: docker.io
      endpoints: [{url: "http://%s"}]
      timeouts: {connect: 2s, header: 5s, stall: 5s}
      tags: {ttl: 1s, negative_ttl: 1s}
`, network.addr))
	// The state that it has to come back to is one in which everything was pulled.
	c.pullAll(t)
	before := c.weir.gauges(t)

	running, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var all sync.WaitGroup
	for i := range chaosClients {
		all.Go(func() { c.pull(running, t.Context(), rand.New(rand.NewPCG(seed, uint64(1+i)))) })
	}
	network.misbehave(t, running, max(length/24, 2*time.Second), rand.New(rand.NewPCG(seed, 1<<32)))
	all.Wait() // nobody waits for ever: each has a limit

	// The network is well again: everything can be had at once, and is right.
	c.pullAll(t)
	c.client.CloseIdleConnections()
	until(t, "fills end", func() bool { return c.weir.gauges(t)["weir_fills_active"] == 0 })
	until(t, "no spool is left", func() bool {
		left, err := os.ReadDir(filepath.Join(c.weir.data, "spool"))
		return err == nil && len(left) == 0
	})
	// weir keeps connections to its upstream for a while, each with two goroutines.
	const kept = 64
	until(t, "what was opened is closed", func() bool {
		now := c.weir.gauges(t)
		return now["go_goroutines"] <= before["go_goroutines"]+2*kept && now["process_open_fds"] <= before["process_open_fds"]+kept
	})
	c.report(t, before, up.requests(t, pushed))
}

// push makes images of random layers, and pushes them.
func (c *chaos) push(t *testing.T, addr string, random *rand.Rand) {
	t.Helper()
	for i := range 6 {
		repo := fmt.Sprintf("library/image%d", i)
		image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
		var layers []*part
		for _, most := range []int{1 << 10, 60 << 10, 900 << 10, 5 << 20} {
			layer := make([]byte, 1+random.IntN(most))
			for j := range layer {
				layer[j] = byte(random.Uint32())
			}
			l := static.NewLayer(layer, types.OCIUncompressedLayer)
			digest, err := l.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if image, err = mutate.AppendLayers(image, l); err != nil {
				t.Fatal(err)
			}
			layers = append(layers, &part{path: repo + "/blobs/" + digest.String(), want: layer})
		}
		ref, err := name.ParseReference(addr+"/"+repo+":1", name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image); err != nil {
			t.Fatal(err)
		}
		parts := append(c.describe(t, repo, image), layers...)
		c.images = append(c.images, parts)
		c.parts = append(c.parts, parts...)
	}
}

// describe gives an image's manifest, by tag and by digest, and its config.
func (c *chaos) describe(t *testing.T, repo string, image v1.Image) []*part {
	t.Helper()
	manifest, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	configName, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return []*part{
		{path: repo + "/manifests/1", want: manifest},
		{path: repo + "/manifests/" + digest.String(), want: manifest},
		{path: repo + "/blobs/" + configName.String(), want: config},
	}
}

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

// report says what happened, and what of it is wrong.
func (c *chaos) report(t *testing.T, before map[string]float64, asked []request) {
	t.Helper()
	var need, sent int64
	for _, p := range c.parts {
		need += p.dropped
		if strings.Contains(p.path, "/blobs/") {
			need += int64(len(p.want))
		}
	}
	for _, r := range asked {
		if r.method == http.MethodGet && r.status < 300 {
			sent += r.bytes
		}
	}
	now := c.weir.gauges(t)
	received := int64(now["weir_mirror_upstream_bytes_total"])
	requests := 0
	for _, n := range c.counts {
		requests += n
	}
	t.Logf("%d requests, %d MiB to clients, the longest wait %v", requests, c.bytes>>20, c.idle.Round(time.Millisecond))
	for _, outcome := range slices.Sorted(maps.Keys(c.counts)) {
		t.Logf("\t%6d %s", c.counts[outcome], outcome)
	}
	t.Logf("from the upstream: needed %d bytes, received %d (%.3f), sent %d (%.3f)", need, received, float64(received)/float64(need), sent, float64(sent)/float64(need))
	for name, v := range now {
		if strings.HasPrefix(name, "weir_fills_total") || name == "go_goroutines" || name == "process_open_fds" || name == "process_resident_memory_bytes" {
			t.Logf("\t%s %.0f (at the start %.0f)", name, v, before[name])
		}
	}
	for _, w := range c.wrong[:min(len(c.wrong), 50)] {
		t.Error(w)
	}
	if c.counts["complete"] == 0 || c.counts["cut"]+c.counts["502 Bad Gateway"]+c.counts["504 Gateway Timeout"] == 0 {
		t.Error("nothing came through, or nothing broke: this was no test")
	}
	// What weir has received it keeps, also of a fill that it gave up: only what was
	// cut off between the upstream and it comes twice. Manifests and errors are small.
	if small := int64(len(asked)) * 2048; received > need+need/50+small {
		t.Errorf("received %d bytes more than needed", received-need)
	}
}

// misbehave makes the network go wrong until ctx ends, each way for about as long,
// and leaves it well.
func (n *network) misbehave(t *testing.T, ctx context.Context, each time.Duration, random *rand.Rand) {
	toxics := []func(context.Context){
		func(ctx context.Context) {
			defer n.poison(t, "latency", map[string]any{"latency": 2000, "jitter": 1000})()
			<-ctx.Done()
		},
		func(ctx context.Context) {
			defer n.poison(t, "bandwidth", map[string]any{"rate": 64})()
			<-ctx.Done()
		},
		func(ctx context.Context) {
			defer n.poison(t, "slicer", map[string]any{"average_size": 200, "size_variation": 100, "delay": 50})()
			<-ctx.Done()
		},
		func(ctx context.Context) {
			for ctx.Err() == nil { // each connection that stands is reset, again and again
				cure := n.poison(t, "reset_peer", map[string]any{"timeout": random.IntN(300)})
				wait(ctx, 300*time.Millisecond)
				cure()
				wait(ctx, time.Duration(random.IntN(500))*time.Millisecond)
			}
		},
		func(ctx context.Context) {
			defer n.poison(t, "timeout", map[string]any{"timeout": 0})()
			<-ctx.Done()
		},
		func(ctx context.Context) {
			for ctx.Err() == nil {
				cure := n.poison(t, "limit_data", map[string]any{"bytes": random.IntN(3 << 20)})
				wait(ctx, each/10)
				cure()
			}
		},
		func(ctx context.Context) {
			for ctx.Err() == nil {
				n.down()
				wait(ctx, min(3*time.Second, each/4))
				n.up(t)
				wait(ctx, min(3*time.Second, each/4))
			}
		},
		func(ctx context.Context) { <-ctx.Done() }, // it is well
	}
	for ctx.Err() == nil {
		for _, i := range random.Perm(len(toxics)) {
			if ctx.Err() != nil {
				return
			}
			turn, stop := context.WithTimeout(ctx, each)
			toxics[i](turn)
			stop()
		}
	}
}

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// until waits for what happens in the end.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	for !so() {
		if wait(ctx, 50*time.Millisecond); ctx.Err() != nil {
			t.Errorf("never: %s", what)
			return
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
