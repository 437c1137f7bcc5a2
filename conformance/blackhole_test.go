//go:build clients

package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// TestTiersBlackHole: the first endpoint of an upstream is an address that takes packets
// and gives nothing back, not even that there is nobody: what is sent there goes out to a
// machine that is not there. It costs one request its connect timeout, then nobody; an
// upstream that has no other endpoint is an outage that is told of at once from then on.
func TestTiersBlackHole(t *testing.T) {
	const connect = 5 * time.Second // less than its share of the time
	here, there := newHost(t, "weir"), newHost(t, "hole")
	plug(t, here, there)
	here.address(t, there, "10.71.9.1/24")
	there.address(t, here, "10.71.9.2/24")
	const hole = "10.71.9.9:5000"
	here.ip(t, "neigh", "add", "10.71.9.9", "lladdr", "02:00:00:00:00:09", "dev", there.name, "nud", "permanent")

	var (
		up   *remotetest.Upstream
		weir *weir
	)
	here.must(t, func() {
		up = remotetest.New(t)
		weir = startWeirAt(t, "127.0.0.1:5000", filepath.Join(workDir(t), "data"), fmt.Sprintf(`
mirror:
  well_known: false
  upstreams:
    - {name: docker.io, timeouts: {connect: %[1]s}, endpoints: [{url: "http://%[2]s"}, {url: %[3]q}]}
    - {name: alone.test, timeouts: {connect: %[1]s}, endpoints: [{url: "http://%[2]s"}]}
`, connect, hole, up.URL()))
	})
	weir.client = *here.client(t)
	get := func(path string) (status int, body []byte, took time.Duration) {
		t.Helper()
		began := time.Now()
		resp, err := weir.client.Get("http://127.0.0.1:5000/v2/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err = io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body, time.Since(began)
	}
	_, before := here.traffic(t, there)
	waited := 0
	for i := range 10 {
		repo := fmt.Sprintf("library/app%d", i)
		layer := origintest.Bytes(uint64(i), 3000)
		img := up.AddImage(repo, "1", layer)
		for _, ask := range []struct {
			path string
			want []byte
		}{{"manifests/1", img.Bytes}, {"blobs/" + img.Layers[0].Digest.String(), layer}} {
			status, body, took := get("docker.io/" + repo + "/" + ask.path)
			if status != http.StatusOK || !bytes.Equal(body, ask.want) {
				t.Errorf("%s: %d, %d bytes", ask.path, status, len(body))
			}
			if took >= connect {
				waited++
			}
		}
	}
	if _, after := here.traffic(t, there); after == before {
		t.Error("nothing was sent to the black hole")
	}
	if waited != 1 {
		t.Errorf("%d of 20 requests waited for the black hole, want 1", waited)
	}
	gauges := weir.gauges(t)
	for host, want := range map[string]float64{hole: 0, up.Host(): 1} {
		series := fmt.Sprintf("weir_mirror_endpoint_up{endpoint=%q,upstream=%q}", host, "docker.io")
		if got, ok := gauges[series]; !ok || got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	waited = 0
	for range 10 {
		status, _, took := get("alone.test/team/app/manifests/1")
		if status != http.StatusGatewayTimeout || took > time.Minute {
			t.Errorf("%d after %v", status, took)
		}
		if took >= connect {
			waited++
		}
	}
	if waited != 1 {
		t.Errorf("%d of 10 requests waited for an upstream that is a black hole, want 1", waited)
	}
}
