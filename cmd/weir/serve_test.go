package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

func requests(t *testing.T, u *remotetest.Upstream, want ...string) {
	t.Helper()
	if got := u.Take(); !slices.Equal(got, want) {
		t.Errorf("the upstream was asked\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// pull pulls an image by tag as containerd does, one request after the other.
func pull(t *testing.T, r *running, img remotetest.Image, repo, tag string) {
	t.Helper()
	head := r.do(http.MethodHead, "/v2/"+repo+"/manifests/"+tag, nil)
	if head.status != 200 || head.header.Get("Docker-Content-Digest") != img.Digest.String() || head.header.Get("Content-Length") != fmt.Sprint(img.Size) {
		t.Fatalf("HEAD %s: %d %v", tag, head.status, head.header)
	}
	if man := r.get("/v2/" + repo + "/manifests/" + img.Digest.String()); man.status != 200 || !bytes.Equal(man.body, img.Bytes) {
		t.Errorf("manifest: %d %q", man.status, man.body)
	}
	for _, b := range append([]string{img.Config.Digest.String()}, digests(img)...) {
		if a := r.get("/v2/" + repo + "/blobs/" + b); a.status != 200 || a.err != nil || a.header.Get("Docker-Content-Digest") != b {
			t.Errorf("blob %s: %d %v %v", b, a.status, a.header, a.err)
		}
	}
}

func digests(img remotetest.Image) []string {
	var list []string
	for _, l := range img.Layers {
		list = append(list, l.Digest.String())
	}
	return list
}

func fourLayers(u *remotetest.Upstream) remotetest.Image {
	return u.AddImage("library/nginx", "1.27",
		origintest.Bytes(1, 3000), origintest.Bytes(2, 300<<10), origintest.Bytes(3, 70<<10), origintest.Bytes(4, 5))
}

// The whole list of what a cold pull of an image of four layers asks of an upstream
// with tokens and a CDN, and of what warm ones ask: nothing, within the TTL.
func TestUpstreamRequests(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{})
	u.CDN()
	img := fourLayers(u)
	r := start(t, "", hub(u, ""))
	pull(t, r, img, "docker.io/library/nginx", "1.27")
	const at = "/v2/library/nginx/"
	want := []string{
		"GET /v2/ 401",
		"GET token:/token?scope=" + url.QueryEscape("repository:library/nginx:pull") + "&service=remotetest 200",
		"HEAD " + at + "manifests/1.27 200",
		"GET " + at + "manifests/" + img.Digest.String() + " 200",
	}
	for _, b := range append([]string{img.Config.Digest.String()}, digests(img)...) {
		want = append(want, "GET "+at+"blobs/"+b+" 307", "GET cdn:/library/nginx/"+b+"?signature=s3cr3t 200")
	}
	requests(t, u, want...)
	for _, l := range u.Log() {
		if l.Server == "cdn" && l.Header.Get("Authorization") != "" {
			t.Error("the CDN was given a token")
		}
	}
	for range 2 {
		pull(t, r, img, "docker.io/library/nginx", "1.27")
	}
	requests(t, u)

	// Over a restart, and with the upstream away, too.
	r.end()
	undo := u.Fault("/v2/", remotetest.Status(503))
	r = start(t, r.data, hub(u, ""))
	pull(t, r, img, "docker.io/library/nginx", "1.27")
	undo()
	requests(t, u)
}

// Twenty clients pull at once; each thing is asked for once, the token too.
func TestUpstreamRequestsOfMany(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{})
	img := fourLayers(u)
	r := start(t, "", hub(u, ""))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { pull(t, r, img, "docker.io/library/nginx", "1.27") })
	}
	all.Wait()
	if got := u.Take(); len(got) != 2+1+1+5 {
		t.Errorf("%d requests:\n\t%s", len(got), strings.Join(got, "\n\t"))
	}
}

// All ways of naming lead to the same, and a served ns is said.
func TestNaming(t *testing.T) {
	u := remotetest.New(t)
	img := fourLayers(u)
	r := start(t, "", "  default: docker.io\n"+hub(u, "      aliases: [hub.test]\n"))
	for path, ns := range map[string]string{
		"/v2/library/nginx/manifests/1.27?ns=docker.io":           "docker.io",
		"/v2/nginx/manifests/1.27?ns=docker.io":                   "docker.io",
		"/v2/library/nginx/manifests/1.27?ns=hub.test":            "hub.test",
		"/v2/docker.io/library/nginx/manifests/1.27?ns=docker.io": "docker.io",
		"/v2/docker.io/library/nginx/manifests/1.27":              "",
		"/v2/docker.io/nginx/manifests/1.27":                      "",
		"/v2/index.docker.io/library/nginx/manifests/1.27":        "",
		"/docker.io/v2/library/nginx/manifests/1.27":              "",
		"/v2/library/nginx/manifests/1.27":                        "",
		"/v2/nginx/manifests/1.27":                                "",
	} {
		a := r.get(path)
		if a.status != 200 || !bytes.Equal(a.body, img.Bytes) || a.header.Get("OCI-Namespace") != ns {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	if got := u.Take(); len(got) != 2 { // the ping and the manifest
		t.Errorf("asked %v", got)
	}
	for path, code := range map[string]string{
		"/v2/library/nginx/manifests/1.27?ns=evil.example":    "NAME_UNKNOWN",
		"/v2/latest/meta-data/manifests/x?ns=169.254.169.254": "NAME_UNKNOWN",
		"/evil.example/v2/library/nginx/manifests/1.27":       "NAME_UNKNOWN",
	} {
		if a := r.get(path); a.status != 404 || a.code() != code {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	requests(t, u)
}

// An upstream's errors keep their meaning: what it does not say is no "not there",
// and what it refuses weir is not there for anyone. Never 401, 403 or 429.
func TestUpstreamErrors(t *testing.T) {
	for _, x := range []struct {
		fault  remotetest.Fault
		status int
		code   string // of a manifest
	}{
		{remotetest.Status(404), 404, "MANIFEST_UNKNOWN"},
		{remotetest.Status(401), 404, "MANIFEST_UNKNOWN"},
		{remotetest.Status(403), 404, "MANIFEST_UNKNOWN"},
		{remotetest.Status(429, "Retry-After", "30"), 503, "UNAVAILABLE"},
		{remotetest.Status(500), 502, "UNAVAILABLE"},
		{remotetest.Status(503), 502, "UNAVAILABLE"},
		{remotetest.HTML(), 502, "UNAVAILABLE"},
		{remotetest.Flip(10), 502, "UNAVAILABLE"},
		{remotetest.Cut(10), 502, "UNAVAILABLE"},
		{remotetest.Gzip(), 502, "UNAVAILABLE"},
		{remotetest.WrongDigest(), 502, "UNAVAILABLE"},
	} {
		u := remotetest.New(t)
		img := fourLayers(u)
		r := start(t, "", hub(u, ""))
		undo := u.Fault("GET /v2/library/nginx/", x.fault)
		word := "error"
		if x.status == 404 {
			word = "miss"
		}
		for _, ref := range []string{"1.27", img.Digest.String()} {
			if a := r.get("/v2/docker.io/library/nginx/manifests/" + ref); a.status != x.status || a.code() != x.code || a.header.Get("Weir-Cache") != word {
				t.Errorf("status %d for %s: %d %q %s", x.status, ref, a.status, a.header.Get("Weir-Cache"), a.body)
			}
		}
		layer := "/v2/docker.io/library/nginx/blobs/" + digests(img)[1]
		if a := r.get(layer); a.err == nil && a.status == 200 {
			t.Errorf("blob: %d, %d bytes, complete", a.status, len(a.body))
		}
		// A small one is not begun before it is known to be good.
		if a := r.get("/v2/docker.io/library/nginx/blobs/" + digests(img)[0]); a.status != x.status || a.code() == "" {
			t.Errorf("status %d for a small blob: %d, %d bytes, %s", x.status, a.status, len(a.body), a.code())
		}
		undo()
		r.end()

		// Nothing of it is kept.
		if left, err := os.ReadDir(filepath.Join(r.data, "spool")); err != nil || len(left) != 0 {
			t.Errorf("%d spools are left, %v", len(left), err)
		}
		r = start(t, r.data, hub(u, ""))
		pull(t, r, img, "docker.io/library/nginx", "1.27")
		r.end()
	}
}

// While the upstream is away, what is past its TTL is served, and says so.
func TestStaleSaysSo(t *testing.T) {
	u := remotetest.New(t)
	img := fourLayers(u)
	r := start(t, "", hub(u, "      tags: {ttl: 0s}\n"))
	pull(t, r, img, "docker.io/library/nginx", "1.27")
	u.Fault("/v2/", remotetest.Status(503))
	a := r.get("/v2/docker.io/library/nginx/manifests/1.27")
	if a.status != 200 || a.header.Get("Weir-Cache") != "stale" || a.header.Get("Warning") != `299 - "stale: upstream docker.io is not available"` || a.header.Get("Weir-Upstream") != u.Host() {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// Clients share one running fetch: while the first stands in the middle of a layer,
// others read what has come, also by range; nothing is asked for twice.
func TestRunningFillIsShared(t *testing.T) {
	u := remotetest.New(t)
	data := origintest.Bytes(1, 1<<20)
	img := u.AddImage("library/nginx", "1.27", data)
	layer := digests(img)[0]
	gate := u.GateAt("/blobs/"+layer, 512<<10)
	r := start(t, "", hub(u, ""))
	path := "/v2/docker.io/library/nginx/blobs/" + layer

	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if a := r.get(path); a.status != 200 || !bytes.Equal(a.body, data) || a.header.Get("Weir-Cache") != "fill" {
				t.Errorf("whole: %d, %d bytes, %v", a.status, len(a.body), a.header)
			}
		})
	}
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := r.get(path, "Range", "bytes=100-299")
	if a.status != 206 || !bytes.Equal(a.body, data[100:300]) || a.header.Get("Content-Range") != "bytes 100-299/1048576" {
		t.Errorf("range: %d, %d bytes, %v", a.status, len(a.body), a.header)
	}
	if a := r.get("/v2/_ext/fills"); a.status != 200 || !strings.Contains(string(a.body), layer) || !strings.Contains(string(a.body), "docker.io/library/nginx") {
		t.Errorf("fills: %d %s", a.status, a.body)
	}
	eventually(t, "all read from it", func() bool { return r.count("weir_fill_followers") == 5 })
	gate.Open()
	all.Wait()
	if n := u.Count("/blobs/" + layer); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// The first client leaves at its first byte. The layer comes in all the same: the
// next client has it from the store, it was fetched once, and no spool is left.
func TestFirstClientLeaves(t *testing.T) {
	u := remotetest.New(t)
	data := origintest.Bytes(1, 1<<20)
	img := u.AddImage("library/nginx", "1.27", data)
	layer := digests(img)[0]
	gate := u.GateAt("/blobs/"+layer, 512<<10)
	r := start(t, "", hub(u, ""))
	path := "/v2/docker.io/library/nginx/blobs/" + layer

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // the connection goes with it
	eventually(t, "weir saw it leave", func() bool { return strings.Contains(string(r.get("/v2/_ext/fills").body), `"followers":0`) })
	gate.Open()
	eventually(t, "the fill ends", func() bool { return strings.Contains(string(r.get("/v2/_ext/fills").body), `"fills":[]`) })
	if a := r.get(path); a.status != 200 || !bytes.Equal(a.body, data) || a.header.Get("Weir-Cache") != "hit" {
		t.Errorf("the next pull: %d, %d bytes, %v", a.status, len(a.body), a.header)
	}
	if n := u.Count("/blobs/" + layer); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	if left, err := os.ReadDir(filepath.Join(r.data, "spool")); err != nil || len(left) != 0 {
		t.Errorf("%d spools are left, %v", len(left), err)
	}
}

// A drain lets running pulls, pushes and fills end first, and takes no new ones.
func TestDrain(t *testing.T) {
	u := remotetest.New(t)
	data := origintest.Bytes(1, 1<<20)
	img := u.AddImage("library/nginx", "1.27", data)
	layer := digests(img)[0]
	gate := u.GateAt("/blobs/"+layer, 512<<10)
	r := start(t, "", hub(u, ""))
	path := "/v2/docker.io/library/nginx/blobs/" + layer
	if got := r.adminStatus("/readyz"); got != 200 {
		t.Errorf("ready: %d", got)
	}

	var all sync.WaitGroup
	all.Go(func() {
		if a := r.get(path); a.status != 200 || !bytes.Equal(a.body, data) {
			t.Errorf("the running pull: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	})
	// A push in the middle of its body.
	half, rest := io.Pipe()
	pushed := origintest.NewBlob("application/octet-stream", origintest.Bytes(2, 100<<10))
	began := make(chan struct{})
	all.Go(func() {
		a := r.do(http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+pushed.Digest.String(), half)
		if a.status != 201 {
			t.Errorf("the running push: %d %s %v", a.status, a.body, a.err)
		}
	})
	all.Go(func() {
		_, err := rest.Write(pushed.Bytes[:50<<10])
		close(began)
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A request whose first bytes nobody has read is not running yet: its connection
	// is idle to net/http, and a drain closes it.
	eventually(t, "both are running", func() bool {
		return strings.Contains(r.metrics(), "weir_http_requests_in_flight 2\n")
	})

	r.stop()
	if _, err := r.log.entry(t.Context(), "draining"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready", func() bool { return r.adminStatus("/readyz") == 503 })
	if r.adminStatus("/healthz") != 200 {
		t.Error("not healthy while draining")
	}
	eventually(t, "no new connections", func() bool { return r.get("/v2/").err != nil })
	if _, err := rest.Write(pushed.Bytes[50<<10:]); err != nil {
		t.Error(err)
	}
	_ = rest.Close()
	gate.Open()
	all.Wait()
	r.end()

	r = start(t, r.data, hub(u, ""))
	u.Take()
	if a := r.get(path); a.status != 200 || a.header.Get("Weir-Cache") != "hit" {
		t.Errorf("after the drain: %d %v", a.status, a.header)
	}
	if a := r.do(http.MethodHead, "/v2/team/app/blobs/"+pushed.Digest.String(), nil); a.status != 200 {
		t.Errorf("what was pushed: %d", a.status)
	}
	requests(t, u)
}

// Pushes from a page of another site, through a proxy, or under a foreign name are
// refused; reading is not.
func TestOnlyThisMachineWrites(t *testing.T) {
	r := start(t, "", "  upstreams: []\n")
	for _, h := range [][2]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"X-Forwarded-For", "10.0.0.1"}, {"Via", "1.1 proxy"},
	} {
		if a := r.do(http.MethodPost, "/v2/team/app/blobs/uploads/", nil, h[0], h[1]); a.status != 403 || a.code() != "DENIED" {
			t.Errorf("%v: %d %s", h, a.status, a.body)
		}
		if a := r.get("/v2/", h[0], h[1]); a.status != 200 {
			t.Errorf("reading with %v: %d", h, a.status)
		}
	}
	if a := r.do(http.MethodPost, "/v2/team/app/blobs/uploads/", nil); a.status != 202 {
		t.Errorf("from this machine: %d %s", a.status, a.body)
	}
}
