package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// What was deleted under one name is gone there, whoever reads it under another one
// meanwhile, and over a restart (CVE-2026-35172: a shared cache brought it back).
func TestDeletedStaysDeleted(t *testing.T) {
	for _, prefix := range []string{"team/", "ghcr.io/acme/"} {
		t.Run(prefix, func(t *testing.T) {
			ghcr, hub := remotetest.New(t), remotetest.New(t)
			ghcr.Basic("bot", "hunter2")
			layer, config := origintest.Bytes(1, 200<<10), []byte(`{"architecture":"amd64","os":"linux"}`)
			img := ghcr.AddImage("acme/a", "1", layer)
			ghcr.AddImage("acme/b", "1", layer)
			data := t.TempDir()
			more := fmt.Sprintf("  upstreams:\n    - name: docker.io\n      endpoints: [{url: '%s'}]\n    - name: ghcr.io\n      public: true\n"+
				"      tags: {negative_ttl: 0s}\n      endpoints: [{url: '%s', username: bot, password: hunter2}]\n", hub.URL(), ghcr.URL())
			r := start(t, data, more)

			local := origintest.Image(config, layer)
			for _, repo := range []string{"team/a", "team/b"} {
				for _, b := range local.Blobs {
					r.push(repo, b.Bytes)
				}
				if a := r.do(http.MethodPut, "/v2/"+repo+"/manifests/1", bytes.NewReader(local.Manifest.Bytes), "Content-Type", local.Manifest.MediaType); a.status != 201 {
					t.Fatalf("%d %s", a.status, a.body)
				}
			}
			manifest := local.Manifest.Digest
			if prefix != "team/" {
				manifest = img.Digest
			}
			repoA, repoB := prefix+"a", prefix+"b"
			rest := []string{"/manifests/1", "/manifests/" + manifest.String(), "/blobs/" + digests(img)[0]}
			for _, repo := range []string{repoA, repoB} {
				for _, at := range rest {
					if a := r.get("/v2/" + repo + at); a.status != 200 {
						t.Fatalf("%s%s: %d %s", repo, at, a.status, a.body)
					}
				}
			}
			r.settled()
			// The upstream has it no more either: nothing but a memory could give it.
			ghcr.Remove("acme/a", "1")
			ghcr.Remove("acme/a", img.Digest.String())
			ghcr.Remove("acme/a", digests(img)[0])
			for _, at := range rest {
				if a := r.do(http.MethodDelete, "/v2/"+repoA+at, nil); a.status != http.StatusAccepted && a.status != http.StatusNotFound {
					t.Errorf("DELETE %s: %d %s", at, a.status, a.body)
				}
			}
			for life := range 2 {
				if life == 1 {
					r.end()
					r = start(t, data, more)
				}
				for range 2 {
					for _, at := range rest {
						if a := r.get("/v2/" + repoB + at); a.status != 200 {
							t.Errorf("life %d, %s%s: %d %s", life, repoB, at, a.status, a.body)
						}
						for _, method := range []string{http.MethodGet, http.MethodHead} {
							if a := r.do(method, "/v2/"+repoA+at, nil); a.status != 404 {
								t.Errorf("life %d, %s %s%s: %d", life, method, repoA, at, a.status)
							}
						}
					}
				}
			}
		})
	}
}

// A blob that several repositories have is read whole under one name, whatever happens
// under the others: deleted there, fetched anew, pushed again, its tag expiring all the
// time (distribution#2367: 200, and a body that ends too early).
func TestSharedBlobIsReadWhole(t *testing.T) {
	const pulls, readers = 1000, 4
	ghcr, hub := remotetest.New(t), remotetest.New(t)
	layer := origintest.Bytes(1, 200<<10)
	ghcr.AddImage("acme/a", "1", layer)
	img := hub.AddImage("library/b", "1", layer)
	r := start(t, "", fmt.Sprintf("  upstreams:\n    - name: docker.io\n      endpoints: [{url: '%s'}]\n      tags: {ttl: 0s}\n    - name: ghcr.io\n"+
		"      endpoints: [{url: '%s'}]\n      tags: {ttl: 0s, negative_ttl: 0s}\n", hub.URL(), ghcr.URL()))
	path := "/blobs/" + digests(img)[0]
	want := func(repo string) {
		if a := r.get("/v2/" + repo + path); a.status != 200 || a.err != nil || !bytes.Equal(a.body, layer) {
			t.Errorf("%s: %d, %d bytes, %v", repo, a.status, len(a.body), a.err)
		}
	}
	want("docker.io/library/b")
	r.settled()

	done := make(chan struct{})
	var churn sync.WaitGroup
	until := func(do func()) {
		churn.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					do()
				}
			}
		})
	}
	until(func() { // a mirrored one: from the cache it is dropped, and comes again
		want("ghcr.io/acme/a")
		r.get("/v2/ghcr.io/acme/a/manifests/1")
		for _, at := range []string{path, "/manifests/1", "/manifests/" + img.Digest.String()} {
			if a := r.do(http.MethodDelete, "/v2/ghcr.io/acme/a"+at, nil); a.status != 202 && a.status != 404 {
				t.Errorf("DELETE %s: %d %s", at, a.status, a.body)
			}
		}
	})
	until(func() { // a local one
		r.push("team/a", layer)
		if a := r.do(http.MethodDelete, "/v2/team/a"+path, nil); a.status != 202 {
			t.Errorf("DELETE: %d %s", a.status, a.body)
		}
	})
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: readers}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			for range pulls / readers {
				resp, err := client.Get(r.url + "/v2/docker.io/library/b" + path)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != 200 || !bytes.Equal(b, layer) {
					t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(b), err)
				}
				_ = resp.Body.Close()
				if a := r.do(http.MethodHead, "/v2/docker.io/library/b/manifests/1", nil); a.status != 200 {
					t.Errorf("tag: %d", a.status)
				}
			}
		})
	}
	all.Wait()
	close(done)
	churn.Wait()
	if n := hub.Count("GET /v2/library/b" + path); n != 1 {
		t.Errorf("it was fetched %d times", n)
	}
}
