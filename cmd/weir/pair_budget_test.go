package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// budgetPair is two processes over one bucket and one Redis that together keep 4 MiB of
// what they mirror, and images of half a MiB; and what clients do at them.
type budgetPair struct {
	*pair
	*load
	images []remotetest.Image
	layers [][]byte
	pushed atomic.Pointer[[]origintest.Tree]
	most   int64 // bytes that were in the bucket at once and had not been pushed
}

const (
	pairBudget = 4 << 20
	pairLayer  = 512 << 10
	pairSlack  = 256 << 10 // for configurations, which are small
	pairPushed = 8         // layers that are pushed, too
	pullers    = 2         // at each process
)

func newBudgetPair(t *testing.T) *budgetPair {
	u := remotetest.New(t)
	b := &budgetPair{load: &load{t: t, end: make(chan struct{})}}
	for i := range 48 {
		layer := origintest.Bytes(uint64(100+i), pairLayer)
		b.images = append(b.images, u.AddImage(fmt.Sprint("library/image", i), "1", layer))
		b.layers = append(b.layers, layer)
	}
	b.pushed.Store(&[]origintest.Tree{})
	b.pair = newPair(t, u, fmt.Sprintf("  cache: {max_size: %d, min_free: 0}\n", pairBudget))
	return b
}

// pullOne pulls an image from a process as a client does.
func (b *budgetPair) pullOne(r *running, i int) {
	repo := fmt.Sprint("/v2/docker.io/library/image", i)
	b.pull(r, repo+"/manifests/1", b.images[i].Bytes)
	b.pull(r, repo+"/blobs/"+digests(b.images[i])[0], b.layers[i])
}

// pushOne pushes an image of a layer that upstreams have, too, and of one of its own. The
// former's bytes are there, or are being evicted.
func (b *budgetPair) pushOne(r *running, n int) {
	tree := origintest.Image(fmt.Appendf(nil, `{"n":%d}`, n), b.layers[n%pairPushed])
	if !b.load.pushed(r, "team/app", fmt.Sprint("v", n), tree) {
		return
	}
	all := append(*b.pushed.Load(), tree)
	b.pushed.Store(&all)
	b.pushes.Add(1)
}

// stored gives the bytes in the bucket that were not pushed.
func (b *budgetPair) stored() (n int64) {
	own := map[digest.Digest]int64{}
	for _, tree := range *b.pushed.Load() {
		for _, blob := range tree.Blobs {
			own[blob.Digest] = int64(len(blob.Bytes))
		}
	}
	for _, size := range b.server.Objects(b.t, b.bucket, "weir/data/") {
		n += size
	}
	for _, size := range own {
		n -= size
	}
	return n
}

// evicted gives how much a process has evicted, and kept how much it counts.
func (b *budgetPair) evicted(i int) float64 { return b.metric(i, "weir_cache_evicted_bytes_total") }
func (b *budgetPair) kept(i int) float64    { return b.metric(i, "weir_cache_bytes") }

// metric gives a metric of a process.
func (b *budgetPair) metric(i int, name string) float64 {
	a := (&running{t: b.load.t, url: "http://" + b.each[i].admin}).get("/metrics")
	for line := range bytes.Lines(a.body) {
		if text, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			v, err := strconv.ParseFloat(string(bytes.TrimSpace(text)), 64)
			if err != nil {
				b.load.t.Error(err)
			}
			return v
		}
	}
	return 0
}

// holds wants what was pushed to be there, at each process that is there.
func (b *budgetPair) holds(each ...*running) {
	b.load.t.Helper()
	for _, r := range each {
		for _, tree := range *b.pushed.Load() {
			b.pull(r, "/v2/team/app/manifests/"+tree.Digest().String(), tree.Manifest.Bytes)
			for _, blob := range tree.Blobs {
				b.pull(r, "/v2/team/app/blobs/"+blob.Digest.String(), blob.Bytes)
			}
		}
	}
}

// TestPairBudget: two processes keep one budget over one bucket, under load. Every pull is
// whole and right, nothing that was pushed ever leaves, and what is stored is within the
// budget and what runs. Then the one that evicts is killed, and the other one does; then
// Redis is away, which nobody notices who pulls, and nothing is evicted meanwhile; after that
// all is as before.
func TestPairBudget(t *testing.T) {
	b := newBudgetPair(t)
	var lives [2]sync.RWMutex // held for writing while a process is dead
	for i, r := range b.ask {
		for n := range pullers {
			random := rand.New(rand.NewPCG(uint64(i), uint64(n)))
			b.again(func(int) {
				lives[i].RLock()
				defer lives[i].RUnlock()
				b.pullOne(r, random.IntN(len(b.images)))
			})
		}
	}
	b.again(func(n int) {
		i := n % 2
		lives[i].RLock()
		b.pushOne(b.ask[i], n)
		lives[i].RUnlock()
		most := b.stored()
		if most > b.most {
			b.most = most
		}
		select {
		case <-b.end:
		case <-time.After(200 * time.Millisecond):
		}
	})
	var before [2]float64
	evicts := func(what string, bytes float64, which ...int) {
		t.Helper()
		eventually(t, what, func() bool {
			for _, i := range which {
				if b.evicted(i) >= before[i]+bytes {
					return true
				}
			}
			return false
		})
	}
	note := func(which ...int) {
		for _, i := range which {
			before[i] = b.evicted(i)
		}
	}
	evicts("one of them evicts", 2*pairBudget, 0, 1)
	leader, other := 0, 1
	if b.evicted(1) > 0 {
		leader, other = 1, 0
	}
	if b.evicted(other) > 0 {
		t.Error("both evict")
	}

	lives[leader].Lock()
	b.each[leader].kill()
	note(other)
	evicts("the other one evicts", pairBudget, other)
	b.holds(b.ask[other])
	b.each[leader].start()
	lives[leader].Unlock()
	before[leader] = 0

	b.redis.Stop()
	still := func() (now [2]float64, same bool) {
		note(0, 1)
		pulls := b.pulls.Load()
		eventually(t, "there are more", func() bool { return b.pulls.Load() > pulls+100 })
		now = [2]float64{b.evicted(0), b.evicted(1)}
		return now, now == before
	}
	eventually(t, "what was told in time is removed", func() bool { _, same := still(); return same })
	if now, same := still(); !same {
		t.Errorf("evicted without Redis: %v, then %v", before, now)
	}
	b.redis.Restart()
	evicts("one of them evicts again", pairBudget, 0, 1)

	close(b.end)
	b.running.Wait()
	eventually(t, "what is too much has left", func() bool { return b.kept(0) <= pairBudget && b.kept(1) == b.kept(0) })
	b.holds(b.ask[:]...)
	// What runs is stored behind those who pull, what leaves takes a second, and what the one
	// that was killed had unlinked is garbage. All images are 24 MiB.
	if b.most > 3*pairBudget {
		t.Errorf("%d bytes were stored", b.most)
	}
	for _, process := range b.each {
		process.saidNothingBad()
	}
	t.Logf("evicted %.0f and %.0f, at most %d were stored; %d pulls, %d pushes", b.evicted(0), b.evicted(1), b.most, b.pulls.Load(), b.pushes.Load())
}
