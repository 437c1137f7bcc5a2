//go:build clients

package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// podman has no daemon: it is a store and a registries.conf.
type podman struct {
	env   []string
	flags []string
	dir   string
}

func newPodman(t *testing.T, dir, registries string, env []string) *podman {
	t.Helper()
	p := &podman{dir: dir, env: append(env[:len(env):len(env)], "CONTAINERS_REGISTRIES_CONF="+registries)}
	p.flags = []string{
		"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
		"--cgroup-manager=cgroupfs", "--events-backend=file", "--storage-driver=overlay",
	}
	return p
}

func (p *podman) do(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, p.env, append(p.flags[:len(p.flags):len(p.flags)], args...)...)
}

// pull fetches an image and runs it.
func (p *podman) pull(t *testing.T, image, digest string) {
	t.Helper()
	p.do(t, "pull", "-q", "--tls-verify=false", image)
	if got := p.do(t, "image", "inspect", "--format", "{{.RepoDigests}}", image); !strings.Contains(got, digest) {
		t.Errorf("%s is %s, want %s", image, got, digest)
	}
	// Without CAP_SYS_RESOURCE podman's own default limits are refused.
	checkInside(t, p.do(t, append([]string{
		"run", "--rm", "--network", "none", "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:4096", image,
	}, lookInside...)...))
}

// push pushes an image under another name, and returns the digest that it says it has.
func (p *podman) push(t *testing.T, image, target string) string {
	t.Helper()
	file := filepath.Join(p.dir, "digest")
	p.do(t, "push", "-q", "--tls-verify=false", "--digestfile", file, image, "docker://"+target)
	digest, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(digest))
}
