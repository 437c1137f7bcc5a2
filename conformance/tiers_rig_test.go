//go:build clients

package conformance

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weir-registry/weir/deploy/alonetest"
)

// Where the three tiers are: the upstream at the far end of a slow link, the centre
// between that and the nodes' network.
const (
	upstreamAddr = "10.71.1.2:5000"
	centreAddr   = "10.71.2.1:5000"
	linkRate     = 25_000_000 // bytes a second of the upstream's link, all headers included
	linkDelay    = 50 * time.Millisecond
	tierNodes    = 5
)

// tiers are nodes that pull from a centre, which pulls from an upstream.
type tiers struct {
	dir      string
	far      *host     // where the upstream is
	upstream *upstream // it listens on far's loopback; the way to it is as slow as an ocean
	middle   *host
	lan      *host
	centre   *weir
	nodes    []*tierNode
}

// tierNode is a machine with a weir, which clients of the same machine ask.
type tierNode struct {
	*host
	weir   *weir
	client *http.Client
}

func newTiers(t *testing.T) *tiers {
	t.Helper()
	s := &tiers{dir: workDir(t), far: newHost(t, "upstream"), middle: newHost(t, "centre"), lan: newSwitch(t, "lan")}
	plug(t, s.far, s.middle)
	s.far.address(t, s.middle, "10.71.1.2/24")
	s.middle.address(t, s.far, "10.71.1.1/24")
	s.middle.join(t, s.lan, "10.71.2.1/24")
	run(t, nil, "tc", "-n", s.far.name, "qdisc", "add", "dev", s.middle.name, "root", "tbf",
		"rate", fmt.Sprintf("%dbit", linkRate*8), "burst", "256kb", "latency", "400ms")

	s.far.must(t, func() {
		s.upstream = startUpstream(t, s.dir)
		p := start(t, "toxiproxy", []string{
			alonetest.Inside + "=", // in a /run and with processes of its own
			networkRole + "=" + strings.Join([]string{upstreamAddr, s.upstream.addr, linkDelay.String()}, " "),
		}, os.Args[0], "-test.run=^TestAsNetwork$", "-test.timeout=10m")
		p.ready(t, listens("tcp", upstreamAddr))
	})
	s.startCentre(t)
	for i := range tierNodes {
		n := &tierNode{host: newHost(t, fmt.Sprintf("node%d", i+1))}
		n.join(t, s.lan, fmt.Sprintf("10.71.2.%d/24", 11+i))
		n.client = n.host.client(t)
		s.startNode(t, n)
		s.nodes = append(s.nodes, n)
	}
	return s
}

// networkRole tells the test binary to be the way to an upstream: where it listens,
// where it leads, and how long an answer takes.
const networkRole = "WEIR_CONFORMANCE_NETWORK"

// TestAsNetwork is no test of its own: TestTiers starts it on another host.
func TestAsNetwork(t *testing.T) {
	role := strings.Fields(os.Getenv(networkRole))
	if len(role) != 3 {
		t.Skip("a part of TestTiers")
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	delay, err := time.ParseDuration(role[2])
	if err != nil {
		t.Fatal(err)
	}
	startNetworkAt(t, role[0], role[1]).poison(t, "latency", map[string]any{"latency": delay.Milliseconds()})
	<-ended
}

func (s *tiers) startCentre(t *testing.T) {
	t.Helper()
	s.middle.must(t, func() {
		s.centre = startWeirAt(t, centreAddr, filepath.Join(s.dir, "centre"), fmt.Sprintf(`
mirror:
  well_known: false
  upstreams:
    - name: docker.io
      endpoints: [{url: "http://%s"}]
`, upstreamAddr))
	})
	s.centre.client = *s.middle.client(t)
}

func (s *tiers) startNode(t *testing.T, n *tierNode) {
	t.Helper()
	n.must(t, func() {
		n.weir = startWeirAt(t, "127.0.0.1:5000", filepath.Join(s.dir, n.name), fmt.Sprintf(`
mirror:
  well_known: false
  upstreams:
    - name: docker.io
      endpoints: [{url: "http://%s/docker.io"}]
`, centreAddr))
	})
	n.weir.client = *n.client
}

// tierImage is an image that the upstream has.
type tierImage struct {
	repo     string // below docker.io
	manifest string // its digest
	blobs    map[string]int64
	size     int64  // of all blobs
	largest  string // digest of the largest blob
	end      []byte // of that one
}

// put pushes an image of random layers to the upstream, from beside it.
func (s *tiers) put(t *testing.T, repo string, seed uint64, layers ...int) *tierImage {
	t.Helper()
	i := &tierImage{repo: repo, blobs: map[string]int64{}}
	random := rand.NewChaCha8([32]byte{byte(seed)})
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, size := range layers {
		text := make([]byte, size)
		_, _ = random.Read(text) // it never fails
		layer := static.NewLayer(text, types.OCIUncompressedLayer)
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
		if i.blobs[digest.String()] = int64(size); int64(size) > i.blobs[i.largest] {
			i.largest, i.end = digest.String(), text[size-1<<20:]
		}
		i.size += int64(size)
	}
	config, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	text, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	i.blobs[config.String()] = int64(len(text))
	i.size += int64(len(text))
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	i.manifest = digest.String()
	ref, err := name.ParseReference(s.upstream.addr+"/"+repo+":1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithTransport(s.far.client(t).Transport)); err != nil {
		t.Fatal(err)
	}
	return i
}
