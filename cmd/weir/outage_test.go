package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// wanted is a request to a weir, and what it gets.
type wanted struct {
	method, path, span string
	body               []byte
	cache              string // Weir-Cache, "" = whatever
	status             int
}

func (w wanted) String() string { return strings.TrimSpace(w.method + " " + w.path + " " + w.span) }

// gets wants that answer.
func (p *process) gets(when string, w wanted) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), w.method, "http://"+p.public+w.path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if w.span != "" {
		req.Header.Set("Range", w.span)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Errorf("%s, %s: %v", when, w, err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	warned := strings.HasPrefix(resp.Header.Get("Warning"), `299 - "stale: upstream docker.io `)
	if err != nil || resp.StatusCode != w.status || w.status < 300 && !bytes.Equal(b, w.body) ||
		w.cache != "" && resp.Header.Get("Weir-Cache") != w.cache || warned != (w.cache == "stale") {
		p.t.Errorf("%s, %s: %d, %d bytes, %v, %v; want %d, %d bytes, %s", when, w, resp.StatusCode, len(b), resp.Header, err, w.status, len(w.body), w.cache)
	}
}

// The binary, as an operator runs it: whatever happens to its upstream, all that was
// pulled is served, stale where it may be, also after a restart while it lasts; what
// was not pulled is an error that says which.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, o := range remotetest.Outages() {
		t.Run(o.Name, func(t *testing.T) {
			t.Parallel()
			u, ca := remotetest.New(t), ""
			if o.TLS {
				u = remotetest.NewTLS(t)
				ca = filepath.Join(t.TempDir(), "ca.pem")
				if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: u.Certificate().Raw}), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			const repo = "library/nginx"
			layers := [][]byte{origintest.Bytes(1, 3000), origintest.Bytes(2, 300<<10), origintest.Bytes(3, 4<<20)}
			img := u.AddImage(repo, "1.27", layers...)
			other := u.AddImage(repo, "other", origintest.Bytes(4, 1000))
			index := u.AddIndex(repo, "latest", img.Descriptor, other.Descriptor)
			p := newProcess(t, t.TempDir(), fmt.Sprintf("  default: docker.io\n  upstreams:\n    - name: docker.io\n"+
				"      tags: {ttl: 0s, negative_ttl: 10m}\n      timeouts: {header: 3s}\n      endpoints: [{url: '%s', ca: '%s'}]\n", u.URL(), ca))
			p.start()

			// Every spelling of a name, every way to ask; all by tag is stale.
			var cached, fresh []wanted
			for _, prefix := range []string{"/v2/docker.io/" + repo, "/v2/" + repo, "/docker.io/v2/" + repo} {
				for _, ref := range []string{"1.27", img.Digest.String(), "latest", index.Digest.String()} {
					w := wanted{http.MethodHead, prefix + "/manifests/" + ref, "", nil, "hit", 200}
					if !strings.Contains(ref, ":") {
						w.cache = "stale"
					}
					cached = append(cached, w)
					w.method, w.body = http.MethodGet, img.Bytes
					if ref == "1.27" || ref == img.Digest.String() {
						cached = append(cached, w)
					}
				}
				for i, l := range img.Layers {
					path := prefix + "/blobs/" + l.Digest.String()
					cached = append(cached,
						wanted{http.MethodGet, path, "", layers[i], "hit", 200}, wanted{http.MethodHead, path, "", nil, "hit", 200},
						wanted{http.MethodGet, path, "bytes=100-199", layers[i][100:200], "hit", 206})
				}
			}
			status := http.StatusBadGateway
			switch {
			case o.Gone:
				status = http.StatusNotFound
			case o.Limited:
				status = http.StatusServiceUnavailable
			case o.Silent:
				status = http.StatusGatewayTimeout
			}
			for _, path := range []string{"/manifests/other", "/manifests/" + other.Digest.String(), "/blobs/" + digests(other)[0]} {
				for _, prefix := range []string{"/v2/docker.io/", "/v2/", "/docker.io/v2/"} {
					fresh = append(fresh, wanted{http.MethodGet, prefix + repo + path, "", nil, "", status},
						wanted{http.MethodHead, prefix + repo + path, "", nil, "", status})
				}
			}
			for _, path := range []string{
				"/manifests/1.27", "/manifests/latest",
				"/blobs/" + img.Config.Digest.String(), "/blobs/" + digests(img)[0], "/blobs/" + digests(img)[1], "/blobs/" + digests(img)[2],
			} {
				resp, err := p.client.Get("http://" + p.public + "/v2/docker.io/" + repo + path)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s: %v, %v", path, resp, err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			p.stop() // all is kept then
			p.start()

			o.Begin(u)
			for _, life := range []string{"running", "restarted"} {
				if life == "restarted" {
					p.stop()
					p.start()
				}
				var all sync.WaitGroup
				for _, w := range cached {
					all.Go(func() { p.gets(life+", first", w) })
				}
				all.Wait()
				if o.Silent && u.Count(" -") == 0 {
					t.Errorf("%s: nothing is waiting for the upstream: %v", life, u.Requests())
				}
				u.Take()
				for _, w := range cached {
					p.gets(life+", then", w)
				}
				// Whether it is back may be asked at any time: that costs it nothing.
				probe := func(r string) bool { return strings.HasPrefix(r, "GET /v2/ ") }
				if again := slices.DeleteFunc(u.Take(), probe); len(again) > 0 {
					t.Errorf("%s: the upstream was asked again: %v", life, again)
				}
				for _, w := range fresh {
					all.Go(func() { p.gets(life, w) })
				}
				all.Wait()
			}
			p.saidNothingBad()
		})
	}
}
