package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

const (
	kills       = 25
	killWorkers = 4
	// readyWithin is how long a start after a kill takes at most, with the race detector in it,
	// and other tests beside it.
	readyWithin = 10 * time.Second
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

// killing is the story of a weir that is killed while workers push, mount, tag, delete and
// pull, it collects garbage and fills its cache from an upstream; and that is started again
// on what is there.
type killing struct {
	t        *testing.T
	p        *process
	requests *deadline
	seed     uint64
	nth      uint64             // of those who share a store
	reg      origin.Registry    // what p serves
	world    *oracletest.World  // of its own
	ledger   *oracletest.Ledger // since the last kill
	kills    int                // are enough
	enough   int                // operations that were answered, or broken off
	within   int                // requests there is a kill
	told     map[string]int     // operations by what became of them
	killed   int                // times
	ready    time.Duration      // it is again within that time
	slowest  time.Duration      // until it was
}

// newKilling is the story of p. Those with the same seed share blobs and images.
func newKilling(t *testing.T, p *process, seed uint64) *killing {
	k := &killing{
		t: t, p: p, seed: seed, requests: &deadline{next: p.client.Transport}, reg: p.registry(),
		world: oracletest.NewWorld(seed, 64<<10), ledger: &oracletest.Ledger{Collects: true},
		kills: kills, enough: 20 * kills, within: 120, ready: readyWithin, told: map[string]int{},
	}
	if testing.Short() {
		k.kills, k.enough = 5, 100
	}
	p.client.Transport = k.requests
	return k
}

// mirrored has clients pull images of u, too.
func (k *killing) mirrored(u *remotetest.Upstream) {
	for i := range uint64(8) {
		// The second layer is one that comes in ranges.
		name := "library/up" + strconv.FormatUint(i, 10)
		img := u.AddImage(name, "1", origintest.Bytes(100+i, 40<<10), origintest.Bytes(200+i, 3<<20))
		m := oracletest.Mirrored{Repo: "docker.io/" + name, Tag: "1", Manifest: img.Digest}
		m.Blobs = append(m.Blobs, img.Config.Digest)
		for _, l := range img.Layers {
			m.Blobs = append(m.Blobs, l.Digest)
		}
		k.world.Mirrored = append(k.world.Mirrored, m)
	}
}

// check wants that all was kept that is to be, and goes on from there.
func (k *killing) check(reg origin.Registry) {
	k.t.Helper()
	k.ledger.Settle()
	for _, o := range []oracletest.Outcome{oracletest.Acked, oracletest.Refused, oracletest.Unknown} {
		k.told[o.String()] += k.ledger.Count(o)
	}
	next, err := oracletest.Checkpoint(k.t.Context(), reg, k.ledger, k.world)
	if err != nil {
		k.t.Errorf("after %d kills: %v", k.killed, err)
		return
	}
	k.ledger = next
}

// operations are those that were answered, or broken off.
func (k *killing) operations() int { return k.told["acked"] + k.told["unknown"] }

// run tells it, from the start of p to its end.
func (k *killing) run() {
	t := k.t
	rnd := rand.New(rand.NewPCG(k.seed, 99+k.nth))
	k.p.start()
	// Workers hold alive for reading while they do one operation.
	var alive sync.RWMutex
	var wg sync.WaitGroup
	stop, broken := make(chan struct{}), make(chan struct{}, killWorkers)
	var workers []*oracletest.Worker
	for n := range uint64(killWorkers) {
		w := oracletest.NewWorker(k.reg, k.ledger, k.world, k.seed, k.nth*killWorkers+n)
		workers = append(workers, w)
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
	// By chance nothing is broken off, or collected: some more of them then.
	few := func() bool { return k.told["unknown"] == 0 || k.p.collections() == 0 }
	for !t.Failed() && (k.killed < k.kills || k.operations() < k.enough || few() && k.killed < 4*k.kills) {
		killed := make(chan struct{})
		process := k.p.cmd.Process
		k.requests.set(20+rnd.IntN(k.within), func() {
			_ = process.Kill()
			close(killed)
		})
		select {
		case <-killed:
		case <-broken:
		}
		k.killed++
		k.p.kill()
		alive.Lock()
		k.slowest = max(k.slowest, k.p.start())
		k.check(k.reg)
		for _, w := range workers {
			w.Use(k.reg, k.ledger)
		}
		alive.Unlock()
	}
	close(stop)
	wg.Wait()

	k.p.kill()
	k.p.start()
	k.check(k.reg)
	if err := oracletest.CheckMirrored(t.Context(), k.reg, k.world); err != nil {
		t.Error(err)
	}
	var scrub scrubbed
	if k.p.command(exitDone, &scrub, "scrub"); len(scrub.Corrupt) > 0 || scrub.Checked == nil || *scrub.Checked == 0 {
		t.Errorf("a scrub found %+v", scrub)
	}
	k.p.stop()
	k.p.saidNothingBad()
	collected := k.p.collections()
	if k.slowest > k.ready {
		t.Errorf("ready after a kill within %v, want %v", k.slowest, k.ready)
	}
	t.Logf("ready after a kill within %v; %v; garbage was collected %d times", k.slowest, k.told, collected)
	if !t.Failed() && (k.told["acked"] < k.enough/2 || k.told["unknown"] == 0 || collected == 0) {
		t.Errorf("too little happened: %v, %d collections", k.told, collected)
	}
}

// collecting is the configuration of who collects garbage all the time. A bucket tells the
// time in whole seconds, and nothing is collected while its clock seems to be a quarter of
// the grace from ours.
const (
	collecting       = "origin: {gc: {interval: 10ms, grace: 1s}}\n"
	collectingBucket = "origin: {gc: {interval: 100ms, grace: 8s}}\n"
)

// collections gives how many times p has collected garbage.
func (p *process) collections() int {
	p.t.Helper()
	return p.times(`"msg":"garbage collected"`)
}

// TestKill kills weir 25 times. Nothing that was acknowledged is lost, nothing is torn, and
// no body is wrong (trust K-1).
func TestKill(t *testing.T) {
	t.Parallel()
	killOn(t, fmt.Sprintf("{blobs: {filesystem: {root: %q}}}", t.TempDir()), collecting)
}

// TestKillOnS3 is the same with all that it keeps in a bucket.
func TestKillOnS3(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	killOn(t, "{blobs: "+bucket(server, server.Bucket(t), ", spool: '"+t.TempDir()+"'")+"}", collectingBucket)
}

func killOn(t *testing.T, store, more string) {
	seed, upstream := oracletest.Seed(t), remotetest.New(t)
	k := newKilling(t, newProcessOn(t, freeAddr(t), store, hub(upstream, more)), seed)
	k.mirrored(upstream)
	k.run()
}
