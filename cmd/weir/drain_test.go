package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// amid is what a weir is in the middle of when it is told to end.
type amid struct {
	pulls, pushes, fills int // each fill is pulled by as many
	size                 int // of a layer
}

const (
	// heldAt is how much of an answer of the upstream has come; a large layer comes in several.
	heldAt = 512 << 10
	// pushSize is that of a blob that is pushed.
	pushSize = 100 << 10
)

// busy is a weir in the middle of all of that, which goes on when it is let.
type busy struct {
	*process
	data   string
	layers []origintest.Blob
	gates  []*remotetest.Gate
	blobs  []origintest.Blob
	rests  []*io.PipeWriter
	all    sync.WaitGroup

	mu     sync.Mutex
	broken []error // pulls and pushes that were
}

// startBusy runs one, of which more is said in the configuration of the server.
func startBusy(t *testing.T, n amid, more string) *busy {
	t.Helper()
	u := remotetest.New(t)
	b := &busy{data: t.TempDir()}
	for i := range n.fills {
		layer := origintest.NewBlob("application/octet-stream", origintest.Bytes(uint64(i), n.size))
		u.AddBlob("library/nginx", layer.Bytes)
		b.layers, b.gates = append(b.layers, layer), append(b.gates, u.GateAt("/blobs/"+layer.Digest.String(), heldAt))
	}
	b.process = newProcess(t, b.data, hub(u, ""))
	if more != "" {
		b.serves(more)
	}
	b.start()
	t.Cleanup(b.letGo)
	for i := range n.pulls {
		b.does(func() error { return b.pull(b.layers[i%n.fills]) })
	}
	for i := range n.pushes {
		half, rest := io.Pipe()
		blob := origintest.NewBlob("application/octet-stream", origintest.Bytes(uint64(n.fills+i), pushSize))
		b.blobs, b.rests = append(b.blobs, blob), append(b.rests, rest)
		b.does(func() error { return b.push(blob.Digest, half) })
		if _, err := rest.Write(blob.Bytes[:pushSize/2]); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range b.gates {
		if err := g.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are running", func() bool {
		_, text := b.ask("/metrics")
		return strings.Contains(text, fmt.Sprintf("weir_http_requests_in_flight %d\n", n.pulls+n.pushes))
	})
	return b
}

// does does something beside the others.
func (b *busy) does(what func() error) {
	b.all.Go(func() {
		if err := what(); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.broken = append(b.broken, err)
		}
	})
}

// pull wants all of a layer.
func (b *busy) pull(layer origintest.Blob) error {
	resp, err := http.Get("http://" + b.public + "/v2/docker.io/library/nginx/blobs/" + layer.Digest.String())
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	piece, at := make([]byte, 64<<10), 0
	for err == nil {
		var n int
		n, err = resp.Body.Read(piece)
		if !bytes.HasPrefix(layer.Bytes[at:], piece[:n]) {
			return fmt.Errorf("pull: other bytes at %d", at)
		}
		at += n
	}
	if err != io.EOF || at != len(layer.Bytes) {
		return fmt.Errorf("pull: %s, %d bytes, %w", resp.Status, at, err)
	}
	return nil
}

func (b *busy) push(d digest.Digest, body io.Reader) error {
	resp, err := http.Post("http://"+b.public+"/v2/team/app/blobs/uploads/?digest="+d.String(), "application/octet-stream", body)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("push: %s", resp.Status)
	}
	return nil
}

// letGo has all go on, and waits for their ends.
func (b *busy) letGo() {
	for i, rest := range b.rests {
		_, _ = rest.Write(b.blobs[i].Bytes[pushSize/2:]) // who pushes says what went wrong
		_ = rest.Close()
	}
	b.rests = nil
	for _, g := range b.gates {
		g.Open()
	}
	b.all.Wait()
}

// ask asks the admin side.
func (p *process) ask(path string) (status int, body string) {
	resp, err := p.client.Get("http://" + p.admin + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body) // what there is of it
	return resp.StatusCode, string(b)
}

// drains tells it to end, and gives when, and how long it took to be not ready; which it is
// as soon as it says that it drains.
func (p *process) drains() (begun time.Time, unready time.Duration) {
	p.t.Helper()
	begun = p.signal(syscall.SIGTERM)
	eventually(p.t, "it drains", func() bool { return p.said(`"draining"`) })
	if status, _ := p.ask("/readyz"); status != http.StatusServiceUnavailable {
		p.t.Errorf("it drains, and /readyz is %d", status)
	}
	return begun, time.Since(begun)
}

// ends waits for its end, which is to come within most, and gives how long after begun that was.
func (p *process) ends(begun time.Time, most time.Duration) (took time.Duration, err error) {
	p.t.Helper()
	cmd, ended := p.cmd, make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { p.cmd = nil }()
	select {
	case err = <-ended:
		return time.Since(begun), err
	case <-time.After(time.Until(begun.Add(most))):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		p.t.Fatalf("it has not ended in %v", most)
		return 0, nil
	}
}

// stored gives the files that are kept of what was pulled and pushed.
func (b *busy) stored() (names []string) {
	b.t.Helper()
	for _, blob := range append(b.blobs, b.layers...) {
		found, err := filepath.Glob(filepath.Join(b.data, "blobs", "*", blob.Digest.Encoded()))
		if err != nil {
			b.t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

// next has it live again, and wants all layers whole; what was pushed, too, if it had been.
func (b *busy) next(stored bool) {
	b.t.Helper()
	b.start()
	for _, layer := range b.layers {
		if err := b.pull(layer); err != nil {
			b.t.Errorf("after it: %v", err)
		}
	}
	if !stored {
		return
	}
	paths := []string{"docker.io/library/nginx/blobs/" + b.layers[0].Digest.String()}
	for _, blob := range b.blobs {
		paths = append(paths, "team/app/blobs/"+blob.Digest.String())
	}
	for _, path := range paths {
		resp, err := b.client.Head("http://" + b.public + "/v2/" + path)
		if err != nil {
			b.t.Fatal(err)
		}
		_ = resp.Body.Close()
		if cache := resp.Header.Get("Weir-Cache"); resp.StatusCode != http.StatusOK || cache != "" && cache != "hit" {
			b.t.Errorf("%s after it: %s %s", path, resp.Status, cache)
		}
	}
}

// terminated has a weir be told to end in the middle of that: at once it is not ready, what runs
// ends whole, and weir ends by itself, within most. It gives how long it took to be not ready,
// and to end.
func terminated(t *testing.T, n amid, most time.Duration) (unready, took time.Duration) {
	t.Helper()
	b := startBusy(t, n, "")
	begun, unready := b.drains()
	b.letGo()
	took, err := b.ends(begun, most)
	if err != nil {
		t.Errorf("weir ended with %v", err)
	}
	for _, err := range b.broken {
		t.Error(err)
	}
	if b.said("were cut") {
		t.Error("something was cut")
	}
	if got := b.stored(); len(got) != n.fills+n.pushes {
		t.Errorf("stored: %v", got)
	}
	b.next(true)
	b.stop()
	b.saidNothingBad()
	return unready, took
}

// terminatedTwice has a weir be told to end twice in the middle of that: it does, within most,
// whatever runs; what was half fetched is left for the next life, or nothing is. It gives how
// long the end took.
func terminatedTwice(t *testing.T, n amid, most time.Duration) time.Duration {
	t.Helper()
	b := startBusy(t, n, "")
	b.drains()
	cmd := b.cmd
	took, _ := b.ends(b.signal(syscall.SIGTERM), most)
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() {
		t.Errorf("it ended by itself: %v", cmd.ProcessState)
	}
	if got := b.stored(); len(got) > 0 {
		t.Errorf("half a blob is stored: %v", got)
	}
	b.letGo()
	if len(b.broken) != n.pulls+n.pushes {
		t.Errorf("cut: %v", b.broken)
	}
	b.next(false)
	b.stop()
	b.saidNothingBad()
	return took
}

// SIGTERM in the middle of pulls, pushes and fills. A drain may take 30 s; what comes on top is
// for what else the machine does. (C-4; TestNightlyTerminated has all of it)
func TestTerminated(t *testing.T) {
	unready, took := terminated(t, amid{pulls: 20, pushes: 5, fills: 2, size: 1 << 20}, time.Minute)
	t.Logf("not ready after %v, ended after %v", unready, took)
}

// A second SIGTERM ends weir at once: long before the drain, which nothing would end here.
func TestTerminatedTwice(t *testing.T) {
	took := terminatedTwice(t, amid{pulls: 2, pushes: 1, fills: 1, size: 1 << 20}, 20*time.Second)
	t.Logf("ended after %v", took)
}

// What does not end within the drain is cut, and not before; weir ends by itself, and nothing
// is kept of it that is not whole.
func TestDrainCuts(t *testing.T) {
	const drain = time.Second
	b := startBusy(t, amid{pulls: 2, pushes: 1, fills: 1, size: 1 << 20}, "drain: 1s")
	begun, _ := b.drains()
	// What comes on top is for what else the machine does: nothing would end by itself here.
	took, err := b.ends(begun, drain+30*time.Second)
	if err != nil || took < drain {
		t.Errorf("weir ended after %v with %v", took, err)
	}
	t.Logf("ended after %v", took)
	for _, want := range []string{"requests were cut", "downloads were cut", `"stopped"`} {
		if !b.said(want) {
			t.Errorf("it does not say %s", want)
		}
	}
	if got := b.stored(); len(got) > 0 {
		t.Errorf("half a blob is stored: %v", got)
	}
	b.letGo()
	if len(b.broken) != 3 {
		t.Errorf("cut: %v", b.broken)
	}
	b.next(false)
	b.stop()
	b.saidNothingBad()
}
