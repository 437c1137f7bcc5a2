//go:build clients

package conformance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
)

// TestClientsDoctor writes down what weir doctor has to say of a docker-registry, as a
// registry and as a mirror of one, and that it has nothing to say of weir before it.
func TestClientsDoctor(t *testing.T) {
	dir := t.TempDir()
	up := startUpstream(t, filepath.Join(dir, "up"))
	img := origintest.Image([]byte(`{"os":"linux"}`), origintest.Bytes(1, 4<<20))
	img.Push(t, client(t, &url.URL{Scheme: "http", Host: up.addr}), "library/app", "v1")

	const store = "Docker with the containerd image store"
	own := []string{"containerd: referrers: note"}
	if got := doctored(t, up.addr, "library/app:v1"); !slices.Equal(got, own) {
		t.Errorf("docker-registry: %q, want %q", got, own)
	}

	addr := freeAddr(t)
	file := write(t, filepath.Join(dir, "mirror.yml"), fmt.Sprintf(`
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: %q}}
proxy: {remoteurl: "http://%s"}
http: {addr: %q}
`, filepath.Join(dir, "mirror"), up.addr, addr))
	start(t, "mirror", nil, "docker-registry", "serve", file).ready(t, listens("tcp", addr))
	mirror := []string{
		"containerd: registry it does not serve: note",
		"containerd: referrers: note",
		store + ": registry it does not serve: note",
	}
	// While it has not stored a layer it knows no ranges of it: how long that takes is its own affair.
	got := slices.DeleteFunc(doctored(t, addr, "docker.io/library/app:v1"), func(s string) bool { return strings.Contains(s, " layer") })
	if !slices.Equal(got, mirror) {
		t.Errorf("docker-registry as a mirror: %q, want %q", got, mirror)
	}

	w := startWeir(t, filepath.Join(dir, "weir"), fmt.Sprintf(`
mirror:
  default: docker.io
  well_known: false
  upstreams: [{name: docker.io, endpoints: [{url: "http://%s"}]}]
`, up.addr))
	for _, image := range []string{"docker.io/library/app:v1", "docker.io/library/app@" + img.Digest().String()} {
		if got := doctored(t, w.addr, image); len(got) > 0 {
			t.Errorf("weir: %s: %q", image, got)
		}
	}
}

// doctored gives what weir doctor finds, "containerd: tag: note".
func doctored(t *testing.T, addr, image string) []string {
	t.Helper()
	out, err := try(t, nil, binary(t), "doctor", "--server", "http://"+addr, "--image", image, "--json")
	var report struct {
		Clients []struct {
			Name   string
			Checks []struct{ Name, State string }
		}
	}
	if bad := json.Unmarshal([]byte(out), &report); bad != nil {
		t.Fatalf("%v: %v", bad, err)
	}
	var found []string
	for _, c := range report.Clients {
		for _, check := range c.Checks {
			if check.State != "ok" {
				found = append(found, c.Name+": "+check.Name+": "+check.State)
			}
		}
	}
	return found
}
