package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// Policies, upstreams and timeouts change under load, with mistakes in between: no request
// fails, what runs goes on, each change is there for the next request, and nothing of what
// served before is left. (C-3)
func TestReloadUnderLoad(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var left error
		for range 150 { // a minute: each looks for 0.4 s
			if left = goleak.Find(ignore); left == nil {
				return
			}
		}
		t.Error(left)
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	u := remotetest.New(t)
	long := origintest.Bytes(1, 1<<20)
	img := u.AddImage("library/nginx", "1.27", long, origintest.Bytes(2, 3000))
	u.AddImage("secret/app", "1", []byte("layer"))
	layer := digests(img)[0]
	gate := u.GateAt("/blobs/"+layer, 512<<10)
	text := func(i int) string {
		// Each other one has other ways to the upstream, other timeouts, and another policy.
		deny := ""
		if i%2 == 1 {
			deny = `, deny: ["request.repository == 'docker.io/secret/app'"]`
		}
		return fmt.Sprintf("server: {listen: '127.0.0.1:0', drain: 20s, timeouts: {idle: %ds, stall: 10m}}\n"+
			"authz: {policy: {allow: ['true']%s}}\nmirror:\n  well_known: false\n%s", 60+i%3, deny, hub(u, fmt.Sprintf("      timeouts: {stall: %ds}\n", 600+i%2)))
	}
	r := startReloading(t, text(0))
	pull(t, r.running, remotetest.Image{Descriptor: img.Descriptor, Bytes: img.Bytes, Config: img.Config, Layers: img.Layers[1:]}, "docker.io/library/nginx", "1.27")
	secret := "/v2/docker.io/secret/app/manifests/1"
	if a := r.get(secret); a.status != http.StatusOK {
		t.Fatalf("before: %d %s", a.status, a.body)
	}

	var running sync.WaitGroup
	running.Go(func() {
		if a := r.get("/v2/docker.io/library/nginx/blobs/" + layer); a.status != http.StatusOK || !bytes.Equal(a.body, long) {
			t.Errorf("the download that ran: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	})
	half, rest := io.Pipe()
	pushed := origintest.NewBlob("application/octet-stream", origintest.Bytes(3, 100<<10))
	running.Go(func() {
		if a := r.do(http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+pushed.Digest.String(), half); a.status != http.StatusCreated {
			t.Errorf("the upload that ran: %d %s %v", a.status, a.body, a.err)
		}
	})
	if _, err := rest.Write(pushed.Bytes[:50<<10]); err != nil {
		t.Fatal(err)
	}
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()

	over := make(chan struct{})
	var load sync.WaitGroup
	var asked atomic.Int64
	for i := range 4 {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i == 0}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-over:
					return
				default:
				}
				resp, err := client.Get(r.url + "/v2/docker.io/library/nginx/blobs/" + digests(img)[1])
				if err != nil {
					t.Errorf("request %d: %v", asked.Load(), err)
					return
				}
				n, err := io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK || n != 3000 || err != nil {
					t.Errorf("request %d: %d, %d bytes, %v", asked.Load(), resp.StatusCode, n, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	reload := func(text, result string) {
		t.Helper()
		before := r.reloads(result)
		r.put(r.head + text)
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the configuration is "+result, func() bool { return r.reloads(result) > before })
	}
	const reloads = 24
	for i := 1; i <= reloads; i++ {
		if i%4 == 0 {
			reload("server: {listen: '127.0.0.1:0'}\nauthz: {policy: {allow: ['nonsense(']}}\n", "rejected")
		}
		reload(text(i), "applied")
		want := http.StatusOK
		if i%2 == 1 {
			want = http.StatusForbidden
		}
		if a := r.get(secret); a.status != want {
			t.Errorf("after reload %d: %d %s, want %d", i, a.status, a.body, want)
		}
	}
	close(over)
	load.Wait()
	if asked.Load() < reloads {
		t.Errorf("only %d requests in %d reloads", asked.Load(), reloads)
	}
	t.Logf("%d requests in %d reloads", asked.Load(), reloads)
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "what served before has ended", func() bool {
		http.DefaultClient.CloseIdleConnections()
		return runtime.NumGoroutine() <= before+10
	})

	if _, err := rest.Write(pushed.Bytes[50<<10:]); err != nil {
		t.Error(err)
	}
	_ = rest.Close()
	gate.Open()
	running.Wait()
	if n := u.Count("/blobs/" + layer); n != 1 {
		t.Errorf("the layer was fetched %d times", n)
	}
	if a := r.do(http.MethodHead, "/v2/team/app/blobs/"+pushed.Digest.String(), nil); a.status != http.StatusOK {
		t.Errorf("what was pushed: %d", a.status)
	}
}
