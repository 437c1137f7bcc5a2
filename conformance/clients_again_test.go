//go:build clients

package conformance

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// everybody is all clients of a weir, when each has pulled before.
type everybody struct {
	env          []string
	digest       string // of image
	registries   string // of podman and skopeo
	skopeo       func(t *testing.T, args ...string) string
	crane, oras  string
	old, current *containerd
	engine       *docker
	pod          *podman
	pushed       map[string]string // digests by name
}

// pullAgain has every client throw away all that it has, and pull it again; what was
// pushed is pulled by one that checks everything. Their images ran when they came
// first: now it is enough that they are there.
func (e *everybody) pullAgain(t *testing.T, w *weir) {
	resp, err := http.Head(w.url() + "/v2/docker.io/library/debian/manifests/bookworm")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Docker-Content-Digest") != e.digest ||
		resp.Header.Get("Weir-Cache") != "stale" || !strings.HasPrefix(resp.Header.Get("Warning"), "299 - ") {
		t.Errorf("a tag whose upstream is away: %s %v", resp.Status, resp.Header)
	}
	each := func(name string, pull func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pull(t)
		})
	}
	layouts := t.TempDir()
	each("containerd-1.6", func(t *testing.T) { e.old.fetchAnew(t, e.digest, image) })
	each("containerd-2.4", func(t *testing.T) { e.current.fetchAnew(t, e.digest, image, elsewhere) })
	each("docker", func(t *testing.T) { e.engine.pullAnew(t, "debian:bookworm", e.digest) })
	each("podman", func(t *testing.T) { e.pod.pullAnew(t, image, e.digest) })
	each("skopeo", func(t *testing.T) {
		to := filepath.Join(layouts, "skopeo")
		e.skopeo(t, "--registries-conf", e.registries, "copy", "--all", "docker://"+image, "oci:"+to+":bookworm")
		checkLayout(t, to, e.digest)
	})
	each("crane", func(t *testing.T) {
		to := filepath.Join(layouts, "crane")
		run(t, e.env, e.crane, "pull", "--insecure", "--format", "oci", w.addr+"/"+image, to)
		checkLayout(t, to, e.digest)
	})
	each("oras", func(t *testing.T) {
		to := filepath.Join(layouts, "oras")
		run(t, e.env, e.oras, "copy", "--from-plain-http", "--to-oci-layout", w.addr+"/"+image, to+":bookworm")
		checkLayout(t, to, e.digest)
	})
	each("what was pushed", func(t *testing.T) {
		if len(e.pushed) == 0 {
			t.Error("nothing was")
		}
		for target, digest := range e.pushed {
			checkPushed(t, target, digest)
		}
	})
}

// fetchAnew takes all images and their content away, and fetches some again, without
// unpacking them.
func (c *containerd) fetchAnew(t *testing.T, digest string, images ...string) {
	t.Helper()
	if have := strings.Fields(c.do(t, "images", "ls", "--quiet")); len(have) > 0 {
		c.remove(t, have...)
	}
	if left := c.do(t, "content", "ls", "--quiet"); left != "" {
		t.Fatalf("content is left, and would not be fetched: %s", left)
	}
	for _, image := range images {
		c.do(t, "content", "fetch", "--hosts-dir", c.certs, image)
		if list := c.do(t, "images", "ls", "name=="+image); !strings.Contains(list, digest) {
			t.Errorf("%s is not %s:\n%s", image, digest, list)
		}
		if len(images) > 1 {
			c.remove(t, image)
		}
	}
}

// pullAnew takes all images away and pulls one again.
func (d *docker) pullAnew(t *testing.T, image, digest string) {
	t.Helper()
	d.do(t, "image", "prune", "--all", "--force")
	if left := d.do(t, "image", "ls", "--all", "--quiet"); left != "" {
		t.Fatalf("images are left, and would not be pulled: %s", left)
	}
	d.do(t, "pull", "-q", image)
	if got := d.do(t, "image", "inspect", "--format", "{{.RepoDigests}}", image); !strings.Contains(got, digest) {
		t.Errorf("%s is %s, want %s", image, got, digest)
	}
}

// pullAnew takes all images away and pulls one again.
func (p *podman) pullAnew(t *testing.T, image, digest string) {
	t.Helper()
	p.do(t, "image", "rm", "--all", "--force")
	if left := p.do(t, "image", "ls", "--all", "--quiet"); left != "" {
		t.Fatalf("images are left, and would not be pulled: %s", left)
	}
	p.do(t, "pull", "-q", "--tls-verify=false", image)
	if got := p.do(t, "image", "inspect", "--format", "{{.RepoDigests}}", image); !strings.Contains(got, digest) {
		t.Errorf("%s is %s, want %s", image, got, digest)
	}
}
