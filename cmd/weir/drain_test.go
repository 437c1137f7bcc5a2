package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// SIGTERM in the middle of pulls, pushes and fills: at once weir is not ready, what runs
// ends whole, and weir ends as it should. (C-4)
func TestTerminated(t *testing.T) {
	const pulls, pushes, size = 20, 5, 1 << 20 // larger ones come in ranges
	u := remotetest.New(t)
	content := origintest.Bytes(1, size)
	img := u.AddImage("library/nginx", "1", content)
	layer := digests(img)[0]
	gate := u.GateAt("/blobs/"+layer, size/2)
	p := newProcess(t, t.TempDir(), hub(u, ""))
	p.start()
	url := "http://" + p.public

	var all sync.WaitGroup
	for range pulls {
		all.Go(func() {
			resp, err := http.Get(url + "/v2/docker.io/library/nginx/blobs/" + layer)
			if err != nil {
				t.Errorf("pull: %v", err)
				return
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("pull: %d bytes, %v", len(got), err)
			}
		})
	}
	rests := make([]*io.PipeWriter, pushes)
	blobs := make([]origintest.Blob, pushes)
	for i := range pushes {
		half, rest := io.Pipe()
		rests[i], blobs[i] = rest, origintest.NewBlob("application/octet-stream", origintest.Bytes(uint64(i+2), 100<<10))
		all.Go(func() {
			resp, err := http.Post(url+"/v2/team/app/blobs/uploads/?digest="+blobs[i].Digest.String(), "application/octet-stream", half)
			if err != nil {
				t.Errorf("push: %v", err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				t.Errorf("push: %s", resp.Status)
			}
		})
		if _, err := rest.Write(blobs[i].Bytes[:50<<10]); err != nil {
			t.Fatal(err)
		}
	}
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	admin := func(path string) (status int, body string) {
		resp, err := http.Get("http://" + p.admin + path)
		if err != nil {
			return 0, ""
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body) // what there is of it
		return resp.StatusCode, string(b)
	}
	eventually(t, "all are running", func() bool {
		_, text := admin("/metrics")
		return strings.Contains(text, fmt.Sprintf("weir_http_requests_in_flight %d\n", pulls+pushes))
	})
	if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is not ready", func() bool { status, _ := admin("/readyz"); return status == http.StatusServiceUnavailable })
	for i, rest := range rests {
		if _, err := rest.Write(blobs[i].Bytes[50<<10:]); err != nil {
			t.Errorf("push: %v", err)
		}
		_ = rest.Close()
	}
	gate.Open()
	all.Wait()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("weir ended with %v", err)
	}
	p.cmd = nil
	p.saidNothingBad()

	p.start()
	for _, path := range []string{"docker.io/library/nginx/blobs/" + layer, "team/app/blobs/" + blobs[0].Digest.String()} {
		resp, err := http.Get(url + "/v2/" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if cache := resp.Header.Get("Weir-Cache"); resp.StatusCode != http.StatusOK || cache != "" && cache != "hit" {
			t.Errorf("%s after it: %s %s", path, resp.Status, cache)
		}
	}
}

// A second SIGTERM ends weir at once, whatever runs; what was half fetched is left for the
// next life, or nothing is.
func TestTerminatedTwice(t *testing.T) {
	u := remotetest.New(t)
	content := origintest.Bytes(1, 1<<20)
	img := u.AddImage("library/nginx", "1", content)
	layer := digests(img)[0]
	gate := u.GateAt("/blobs/"+layer, 512<<10)
	data := t.TempDir()
	p := newProcess(t, data, hub(u, ""))
	p.start()
	go func() {
		if resp, err := http.Get("http://" + p.public + "/v2/docker.io/library/nginx/blobs/" + layer); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body) // it is cut
			_ = resp.Body.Close()
		}
	}()
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it drains", func() bool {
		said, err := os.ReadFile(p.log)
		return err == nil && bytes.Contains(said, []byte(`"draining"`))
	})
	begun := time.Now()
	if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // it was ended by a signal
	t.Logf("ended after %v", time.Since(begun))
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() {
		t.Errorf("it ended by itself: %v", p.cmd.ProcessState)
	}
	p.cmd = nil
	gate.Open()
	if found, err := filepath.Glob(filepath.Join(data, "blobs", "*", layer[7:])); err != nil || len(found) > 0 {
		t.Errorf("half a blob is stored: %v, %v", found, err)
	}
	p.start()
	resp, err := http.Get("http://" + p.public + "/v2/docker.io/library/nginx/blobs/" + layer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("after it: %d bytes, %v", len(got), err)
	}
}
