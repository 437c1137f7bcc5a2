//go:build chaos

package conformance

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
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

	// The network is well again. weir finds that out as soon as somebody asks for a tag: an
	// endpoint that answered a probe, and then no question, is tried with one. Then everything
	// can be had at once, and is right.
	until(t, "the endpoint is known to be well", func() bool {
		_, _, wrong := c.ask(t.Context(), http.MethodGet, c.parts[0], "", -1, func() {})
		now := c.weir.gauges(t)
		// A fill of before may yet find that its connection is broken, and the endpoint down.
		return wrong == nil && now["weir_mirror_endpoint_up"] == 1 && now["weir_fills_active"] == 0
	})
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
