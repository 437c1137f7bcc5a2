//go:build clients

package conformance

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docker is a running engine and its command line client.
type docker struct {
	*process
	env []string
}

// startDocker starts Debian's engine on a containerd, with the daemon.json that
// dir holds.
func startDocker(t *testing.T, dir string, env []string, on *containerd) *docker {
	t.Helper()
	socket := "unix://" + filepath.Join(dir, "d.sock")
	d := &docker{env: append(env[:len(env):len(env)], "DOCKER_HOST="+socket)}
	d.process = start(t, "dockerd", env, "dockerd",
		"--config-file", filepath.Join(dir, "daemon.json"),
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "d.pid"), "-H", socket, "--containerd", on.socket,
		"--iptables=false", "--ip6tables=false", "--bridge=none")
	d.ready(t, func() error {
		_, err := try(t, d.env, "docker", "version")
		return err
	})
	return d
}

func (d *docker) do(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, d.env, append([]string{"docker"}, args...)...)
}

// pull fetches an image and runs it.
func (d *docker) pull(t *testing.T, image, digest string) {
	t.Helper()
	d.do(t, "pull", "-q", image)
	if got := d.do(t, "image", "inspect", "--format", "{{.RepoDigests}}", image); !strings.Contains(got, digest) {
		t.Errorf("%s is %s, want %s", image, got, digest)
	}
	checkInside(t, d.do(t, append([]string{"run", "--rm", "--network", "none", image}, lookInside...)...))
}

var pushedDigest = regexp.MustCompile(`digest: (sha256:[0-9a-f]{64})`)

// push gives an image another name, pushes that, and returns the digest that the
// engine says it has.
func (d *docker) push(t *testing.T, image, target string) string {
	t.Helper()
	d.do(t, "tag", image, target)
	said := d.do(t, "push", target)
	m := pushedDigest.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("docker push does not say a digest:\n%s", said)
	}
	return m[1]
}
