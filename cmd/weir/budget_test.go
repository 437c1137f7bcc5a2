package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

const mebibyte = 1 << 20

// budgeted is a weir that keeps 4 MiB of what it mirrors, and images of 1.5 MiB.
type budgeted struct {
	*running
	up     *remotetest.Upstream
	images []remotetest.Image
	layers [][]byte
}

func (b *budgeted) start(data string) {
	b.running = start(b.t, data, "  cache: {max_size: 4MiB, min_free: 0}\n"+hub(b.up, ""))
	eventually(b.t, "the cache is listed", func() bool { return strings.Contains(b.log.String(), "cache listed") })
}

func newBudgeted(t *testing.T, images int) *budgeted {
	b := &budgeted{running: &running{t: t}, up: remotetest.New(t)}
	for i := range images {
		layer := origintest.Bytes(uint64(i), 3*mebibyte/2)
		b.images = append(b.images, b.up.AddImage(fmt.Sprint("library/image", i), "1", layer))
		b.layers = append(b.layers, layer)
	}
	b.start("")
	return b
}

// pull pulls an image by its tag, and gives how its layer came.
func (b *budgeted) pull(i int) (cache string) {
	b.t.Helper()
	repo := fmt.Sprint("/v2/docker.io/library/image", i)
	b.get(repo + "/manifests/1")
	b.get(repo + "/blobs/" + b.images[i].Config.Digest.String())
	a := b.get(repo + "/blobs/" + b.images[i].Layers[0].Digest.String())
	if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, b.layers[i]) {
		b.t.Errorf("image %d: %d, %d bytes, %v", i, a.status, len(a.body), a.err)
	}
	b.settled()
	return a.header.Get("Weir-Cache")
}

// metric gives the value of a metric as it is written.
func (b *budgeted) metric(name string) string {
	for line := range strings.Lines(b.metrics()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "none"
}

// The image that was used least recently leaves, and its layer alone is asked for again;
// what was pushed stays; and a restart changes nothing.
func TestBudget(t *testing.T) {
	b := newBudgeted(t, 4)
	if b.pull(0) != "fill" || b.pull(1) != "fill" || b.pull(0) != "hit" {
		t.Error("not kept within the budget")
	}
	// Of a mirrored layer, too, what a client pushes is its own.
	pushed := b.layers[0]
	at := "/v2/team/app/blobs/"
	d := digest.FromBytes(pushed)
	if a := b.do(http.MethodPost, at+"uploads/?digest="+d.String(), bytes.NewReader(pushed)); a.status != http.StatusCreated {
		t.Fatalf("push: %d", a.status)
	}
	// Now 1.5 MiB are counted, of image 1.
	if b.pull(2) != "fill" || b.pull(1) != "hit" || b.pull(3) != "fill" {
		t.Error("not kept within the budget")
	}
	// 2 has left, and not 1.
	eventually(t, "image 2 leaves", func() bool { return b.metric("weir_cache_evicted_bytes_total") != "0" })
	before := len(b.up.Requests())
	if got := b.pull(1); got != "hit" {
		t.Errorf("image 1: %s", got)
	}
	if asked := b.up.Requests()[before:]; len(asked) != 0 {
		t.Errorf("asked for what is kept: %v", asked)
	}
	data := b.data
	b.end()
	b.start(data)
	before = len(b.up.Requests())
	if got := b.pull(2); got != "fill" {
		t.Errorf("image 2: %s", got)
	}
	// The manifest is a record, and stays; its tag is fresh.
	for _, line := range b.up.Requests()[before:] {
		if strings.Contains(line, "/manifests/") {
			t.Errorf("asked for more than blobs: %s", line)
		}
	}
	eventually(t, "image 3 leaves", func() bool { return b.metric("weir_cache_evicted_bytes_total") != "0" })
	if got := b.pull(1); got != "hit" {
		t.Errorf("image 1, which was used after image 3: %s", got)
	}
	if a := b.get(at + d.String()); a.status != http.StatusOK || !bytes.Equal(a.body, pushed) {
		t.Errorf("what was pushed: %d, %d bytes", a.status, len(a.body))
	}
	x := string(b.get("/v2/_ext/explain?image=docker.io/library/image1:1").body)
	if !strings.Contains(x, `"last_use":"`) {
		t.Errorf("explained without its use: %s", x)
	}
}

// What the budget has no room for is passed through, whole and right, and displaces
// nothing (D-2).
func TestBudgetPassesThrough(t *testing.T) {
	b := newBudgeted(t, 1)
	b.pull(0)
	large := origintest.Bytes(99, 5*mebibyte)
	d := b.up.AddImage("library/large", "1", large).Layers[0].Digest
	path := "/v2/docker.io/library/large"
	for range 2 {
		b.get(path + "/manifests/1")
		a := b.get(path + "/blobs/" + d.String())
		if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, large) || a.header.Get("Weir-Cache") != "miss" {
			t.Errorf("%d, %d bytes, %v, Weir-Cache %s", a.status, len(a.body), a.err, a.header.Get("Weir-Cache"))
		}
		b.settled()
	}
	if got := b.pull(0); got != "hit" {
		t.Errorf("what was kept: %s", got)
	}
	eventually(t, "no spool is left", func() bool { return len(b.spools()) == 0 })
}
