package main

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

const (
	kills       = 25
	killWorkers = 4
)

// deadline is a number of requests, at which something happens once.
type deadline struct {
	next http.RoundTripper
	mu   sync.Mutex
	left int
	due  func()
}

func (d *deadline) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	due := d.due
	if d.left--; d.left == 0 && due != nil {
		go due() // while this request runs, and others
	}
	d.mu.Unlock()
	return d.next.RoundTrip(r)
}

func (d *deadline) set(left int, due func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.due = left, due
}

// TestKill kills weir 25 times while several workers push, mount, tag, delete and pull,
// and while it fills its cache from an upstream; and starts it again on what is there.
// Nothing that was acknowledged is lost, nothing is torn, and no body is wrong.
func TestKill(t *testing.T) {
	times := kills
	if testing.Short() {
		times = 5
	}
	seed := oracletest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 99))
	upstream := remotetest.New(t)
	world, ledger := oracletest.NewWorld(seed, 64<<10), new(oracletest.Ledger)
	for i := range uint64(8) {
		// The second layer is one that comes in ranges.
		img := upstream.AddImage("library/up"+strconv.FormatUint(i, 10), "1", origintest.Bytes(100+i, 40<<10), origintest.Bytes(200+i, 3<<20))
		m := oracletest.Mirrored{Repo: "docker.io/library/up" + strconv.FormatUint(i, 10), Tag: "1", Manifest: img.Digest}
		m.Blobs = append(m.Blobs, img.Config.Digest)
		for _, l := range img.Layers {
			m.Blobs = append(m.Blobs, l.Digest)
		}
		world.Mirrored = append(world.Mirrored, m)
	}
	p := newProcess(t, t.TempDir(), hub(upstream, ""))
	requests := &deadline{next: p.client.Transport}
	p.client.Transport = requests
	p.start()

	// Workers hold alive for reading while they do one operation.
	var alive sync.RWMutex
	var wg sync.WaitGroup
	stop, broken := make(chan struct{}), make(chan struct{}, killWorkers)
	for n := range uint64(killWorkers) {
		w := oracletest.NewWorker(p.registry(), ledger, world, seed, n)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				alive.RLock()
				err := w.Step(t.Context())
				alive.RUnlock()
				if err != nil {
					t.Errorf("worker %d: %v", n, err)
					broken <- struct{}{}
					return
				}
			}
		})
	}
	var slowest time.Duration
	for range times {
		killed := make(chan struct{})
		process := p.cmd.Process
		requests.set(20+rnd.IntN(120), func() {
			_ = process.Kill()
			close(killed)
		})
		select {
		case <-killed:
		case <-broken:
			p.kill()
			return
		}
		p.kill()
		alive.Lock()
		ledger.Settle()
		slowest = max(slowest, p.start())
		if err := oracletest.Check(t.Context(), p.registry(), ledger, world); err != nil {
			t.Errorf("after a kill: %v", err)
		}
		alive.Unlock()
		if t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()

	p.kill()
	ledger.Settle()
	p.start()
	if err := oracletest.Check(t.Context(), p.registry(), ledger, world); err != nil {
		t.Error(err)
	}
	if err := oracletest.CheckMirrored(t.Context(), p.registry(), world); err != nil {
		t.Error(err)
	}
	p.stop()
	p.saidNothingBad()
	t.Logf("ready after a kill within %v; %s", slowest, ledger)
	acked, unknown := ledger.Count(oracletest.Acked), ledger.Count(oracletest.Unknown)
	if slowest > 10*time.Second || !t.Failed() && (acked+unknown < 20*times || acked < 10*times || unknown == 0) {
		t.Errorf("too slow, or too little happened: %v, %d acked, %d unknown", slowest, acked, unknown)
	}
}
