package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// endpoints is the configuration of docker.io with those, and more keys of it.
func endpoints(more string, urls ...string) string {
	return "  upstreams:\n    - name: docker.io\n      endpoints: [{url: '" + strings.Join(urls, "'}, {url: '") + "'}]\n" + more
}

// dead closes each connection without an answer.
func dead() remotetest.Fault {
	return remotetest.Hook(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
}

// content gives what was asked of an upstream, but for questions whether it is there.
func content(u *remotetest.Upstream) []string {
	return slices.DeleteFunc(u.Requests(), func(line string) bool { return strings.HasPrefix(line, "GET /v2/ ") })
}

// listed is an endpoint in /v2/_ext/upstreams.
type listed struct {
	Host         string     `json:"host"`
	Up           bool       `json:"up"`
	Latency      float64    `json:"latency"`
	LimitedUntil *time.Time `json:"limited_until"`
	Limit        *int       `json:"ratelimit_limit"`
	Remaining    *int       `json:"ratelimit_remaining"`
}

// endpoints gives those of docker.io, as weir describes them.
func (r *running) endpoints() []listed {
	r.t.Helper()
	var list struct {
		Upstreams []struct{ Endpoints []listed }
	}
	a := r.get("/v2/_ext/upstreams")
	if err := json.Unmarshal(a.body, &list); err != nil || len(list.Upstreams) != 1 {
		r.t.Fatalf("%s: %v", a.body, err)
	}
	return list.Upstreams[0].Endpoints
}

// metric gives the lines of a metric.
func (r *running) metric(name string) string {
	r.t.Helper()
	resp, err := http.Get(r.admin + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// A first endpoint that swallows all that it is sent costs one pull its share of the
// time, and the others nothing. When it answers again it is the first again.
func TestBlackHoledEndpoint(t *testing.T) {
	t.Parallel()
	first, second := remotetest.New(t), remotetest.New(t)
	for i := range 30 {
		img := fmt.Sprintf("library/image-%d", i)
		first.AddImage(img, "1", []byte(img))
		second.AddImage(img, "1", []byte(img))
	}
	const share = 14 * time.Second // of 30 s
	r := start(t, "", endpoints("      timeouts: {header: 30s}\n", first.URL().String(), second.URL().String()))
	undo := first.Fault("", remotetest.Hang())

	begin := time.Now()
	pull := func(i int) string {
		a := r.get(fmt.Sprintf("/v2/docker.io/library/image-%d/manifests/1", i))
		if a.status != 200 {
			t.Errorf("image %d: %d %s", i, a.status, a.body)
		}
		return a.header.Get("Weir-Upstream")
	}
	pull(0)
	if took := time.Since(begin); took < share {
		t.Errorf("the first pull took %v", took)
	}
	if e := r.endpoints(); e[0].Up || !e[1].Up || e[1].Latency <= 0 {
		t.Errorf("%+v", e)
	}
	want := fmt.Sprintf("weir_mirror_endpoint_up{endpoint=%q,upstream=\"docker.io\"} 0", first.Host())
	if got := r.metric("weir_mirror_endpoint_up"); !strings.Contains(got, want) {
		t.Errorf("metrics:\n%s\nwant\n%s", got, want)
	}
	begin = time.Now()
	for i := 1; i < 20; i++ {
		pull(i)
	}
	if took := time.Since(begin); took > 10*share {
		t.Errorf("19 more pulls took %v", took)
	}
	if asked := content(first); len(asked) > 0 {
		t.Errorf("the first was asked for %q", asked)
	}
	undo()
	eventually(t, "the first is asked again", func() bool { return r.endpoints()[0].Up })
	if by := pull(20); by != first.Host() {
		t.Errorf("%s answers, although the first does again", by)
	}
}

// While all endpoints are away, one pull finds that out, and the others are told at once:
// 502, never 404. A second after they are back, pulls work.
func TestAllEndpointsDown(t *testing.T) {
	t.Parallel()
	first, second := remotetest.New(t), remotetest.New(t)
	var undo []func()
	for _, u := range []*remotetest.Upstream{first, second} {
		u.AddImage("library/nginx", "1", []byte("layer"))
		undo = append(undo, u.Fault("", dead()))
	}
	r := start(t, "", endpoints("", first.URL().String(), second.URL().String()))
	for range 10 {
		if a := r.get("/v2/docker.io/library/nginx/manifests/1"); a.status != 502 || a.code() != "UNAVAILABLE" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	for _, u := range []*remotetest.Upstream{first, second} {
		if asked := content(u); len(asked) > 0 {
			t.Errorf("asked for %q", asked)
		}
	}
	for _, f := range undo {
		f()
	}
	eventually(t, "pulls work", func() bool { return r.get("/v2/docker.io/library/nginx/manifests/1").status == 200 })
	if asked := content(second); len(asked) > 0 && len(content(first)) > 0 {
		t.Errorf("both were asked: %q", asked)
	}
}

// A client never sees a 429. The endpoint is not asked before its Retry-After is over,
// whatever is wanted, and then it is.
func TestLimitedEndpoint(t *testing.T) {
	t.Parallel()
	u := remotetest.New(t)
	layer := digests(u.AddImage("library/nginx", "1", []byte("layer")))[0]
	undo := u.Fault("/manifests/", remotetest.Status(429, "Retry-After", "30",
		"Ratelimit-Limit", "100;w=21600", "Ratelimit-Remaining", "0;w=21600"))
	r := start(t, "", endpoints("", u.URL().String()))
	paths := []string{
		"/v2/docker.io/library/nginx/manifests/1", "/v2/docker.io/library/nginx/blobs/" + layer,
		"/v2/docker.io/library/nginx/manifests/2", "/v2/docker.io/library/nginx/tags/list",
	}
	begin := time.Now()
	var clients sync.WaitGroup
	for range 10 { // some at the same time
		clients.Go(func() {
			if a := r.get(paths[0]); a.status != 503 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	clients.Wait()
	for _, path := range paths {
		if a := r.get(path); a.status != 503 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	e := r.endpoints()[0]
	if !e.Up || e.LimitedUntil == nil || e.Remaining == nil || *e.Remaining != 0 || *e.Limit != 100 {
		t.Errorf("%+v", e)
	}
	if got := r.metric("weir_mirror_upstream_ratelimit_remaining"); !strings.HasSuffix(got, "} 0") {
		t.Errorf("metrics: %s", got)
	}
	undo()
	eventually(t, "it is asked again", func() bool { return r.get(paths[0]).status == 200 })
	if took := time.Since(begin); took < 30*time.Second {
		t.Errorf("asked again after %v", took)
	}
	if a := r.get(paths[1]); a.status != 200 || string(a.body) != "layer" {
		t.Errorf("%d %s", a.status, a.body)
	}
	want := []string{
		"GET /v2/library/nginx/manifests/1 429", "GET /v2/library/nginx/manifests/1 200",
		"GET /v2/library/nginx/blobs/" + layer + " 200",
	}
	if got := content(u); !slices.Equal(got, want) {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// With hedge_after a slow first endpoint does not hold a pull up, and is not left out
// for it.
func TestHedgedPull(t *testing.T) {
	t.Parallel()
	first, second := remotetest.New(t), remotetest.New(t)
	data := origintest.Bytes(1, 300<<10)
	layer := digests(first.AddImage("library/nginx", "1", data))[0]
	second.AddImage("library/nginx", "1", data)
	first.Fault("/library/", remotetest.Latency(time.Hour))
	r := start(t, "", endpoints("      hedge_after: 50ms\n      timeouts: {header: 600s}\n", first.URL().String(), second.URL().String()))
	begin := time.Now()
	for _, path := range []string{"manifests/1", "blobs/" + layer} {
		a := r.get("/v2/docker.io/library/nginx/" + path)
		if a.status != 200 || a.err != nil || a.header.Get("Weir-Upstream") != second.Host() {
			t.Errorf("%s: %d %v %v", path, a.status, a.header, a.err)
		}
	}
	if took := time.Since(begin); took > 2*time.Minute {
		t.Errorf("it took %v", took)
	}
	if e := r.endpoints(); !e[0].Up {
		t.Errorf("%+v", e)
	}
	if n := len(content(first)); n != 2 {
		t.Errorf("the first was asked %d things, want each once", n)
	}
}

// The ranges of a long blob come from all endpoints that have it, no byte twice. One
// that has it not is asked once.
func TestRangesFromSeveral(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	data := origintest.Bytes(1, size)
	a, b, without, prefixed := remotetest.New(t), remotetest.New(t), remotetest.New(t), remotetest.New(t)
	layer := digests(a.AddImage("library/big", "1", data))[0]
	b.AddImage("library/big", "1", data)
	prefixed.AddImage("proxy/hub/library/big", "1", data)
	var at []string
	for _, u := range []*remotetest.Upstream{a, without, b} {
		at = append(at, u.URL().String())
		u.Fault("/blobs/", remotetest.Rate(16<<20))
	}
	r := start(t, "", "  fills: {streams: 4, part_size: 2MiB}\n"+endpoints("", append(at, prefixed.URL().String()+"/proxy/hub")...))
	if got := r.get("/v2/docker.io/library/big/manifests/1"); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := r.get("/v2/docker.io/library/big/blobs/" + layer); got.status != 200 || got.err != nil || !bytes.Equal(got.body, data) {
		t.Fatalf("%d, %d bytes, %v", got.status, len(got.body), got.err)
	}
	var sum int64
	for _, u := range []*remotetest.Upstream{a, b, prefixed} {
		sent := u.Sent("/blobs/" + layer)
		sum += sent
		if sent < 2<<20 {
			t.Errorf("%s gave %d bytes", u.Host(), sent)
		}
	}
	if sum != size {
		t.Errorf("%d bytes came, the blob has %d", sum, size)
	}
	// Ranges are asked for at the same time: each may be told so, before any is known to be.
	if n := without.Count("/blobs/"); n < 1 || n > 4 {
		t.Errorf("who has it not was asked %d times", n)
	}
	for _, line := range content(prefixed) {
		if !strings.HasPrefix(line, "GET /v2/proxy/hub/library/big/blobs/"+layer+" bytes=") {
			t.Errorf("by prefix: %s", line)
		}
	}
}

// No more connections than max_connections are made, and who waits for one is not
// given up while the others get something, however short the times are.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	u := remotetest.New(t)
	layers := [][]byte{origintest.Bytes(1, 1<<20), origintest.Bytes(2, 1<<20), origintest.Bytes(3, 1<<20), origintest.Bytes(4, 1<<20)}
	img := u.AddImage("library/nginx", "1", layers...)
	u.Fault("/blobs/", remotetest.Link(256<<10)) // sixteen seconds for all
	r := start(t, "", "  upstreams:\n    - name: docker.io\n      timeouts: {header: 6s}\n      endpoints: [{url: '"+u.URL().String()+"', max_connections: 1}]\n")
	var pulls sync.WaitGroup
	for i, d := range digests(img) {
		pulls.Go(func() {
			if a := r.get("/v2/docker.io/library/nginx/blobs/" + d); a.status != 200 || a.err != nil || !bytes.Equal(a.body, layers[i]) {
				t.Errorf("%d: %d %v %.100s", i, a.status, a.err, a.body)
			}
		})
	}
	pulls.Wait()
	if n := u.Connections("/blobs/"); n != 1 {
		t.Errorf("%d connections", n)
	}
	if e := r.endpoints(); !e[0].Up {
		t.Errorf("%+v", e)
	}
}
