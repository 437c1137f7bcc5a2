//go:build clients

package conformance

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// containerd is a running daemon and its command line client.
type containerd struct {
	*process
	ctr    string
	env    []string
	certs  string // hosts.toml files
	socket string
}

// startDebianContainerd starts the one that Debian has.
func startDebianContainerd(t *testing.T, dir string, env []string) *containerd {
	t.Helper()
	c := &containerd{ctr: "ctr", env: env, certs: filepath.Join(dir, "certs.d"), socket: filepath.Join(dir, "c.sock")}
	c.start(t, dir, "containerd", fmt.Sprintf(`
version = 2
root = %q
state = %q
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket, c.certs))
	return c
}

// startContainerd starts the current one, which has another configuration format
// and, in its transfer service, another way to pull.
func startContainerd(t *testing.T, dir string, env []string) *containerd {
	t.Helper()
	// Debian's shim speaks to Debian's containerd only.
	shim := filepath.Dir(tool(t, "containerd-shim-runc-v2"))
	env = append(env[:len(env):len(env)], "PATH="+shim+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	c := &containerd{ctr: tool(t, "ctr"), env: env, certs: filepath.Join(dir, "certs.d"), socket: filepath.Join(dir, "c.sock")}
	c.start(t, dir, tool(t, "containerd"), fmt.Sprintf(`
version = 3
root = %q
state = %q
oom_score = 0
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = %q
[plugins."io.containerd.cri.v1.images".registry]
  config_path = %q
[plugins."io.containerd.transfer.v1.local"]
  config_path = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket, filepath.Join(dir, "opt"), c.certs, c.certs))
	return c
}

func (c *containerd) start(t *testing.T, dir, program, config string) {
	t.Helper()
	file := write(t, filepath.Join(dir, "config.toml"), config)
	c.process = start(t, "containerd", c.env, program, "-c", file)
	c.env = append(c.env[:len(c.env):len(c.env)], "CONTAINERD_ADDRESS="+c.socket)
	c.ready(t, func() error {
		_, err := try(t, c.env, c.ctr, "version")
		return err
	})
}

func (c *containerd) do(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, c.env, append([]string{c.ctr}, args...)...)
}

// pull fetches an image by the name that users write, and runs it.
func (c *containerd) pull(t *testing.T, image, digest string, options ...string) {
	t.Helper()
	c.do(t, append(append([]string{"images", "pull", "--hosts-dir", c.certs}, options...), image)...)
	if list := c.do(t, "images", "ls", "name=="+image); !strings.Contains(list, digest) {
		t.Errorf("%s is not %s:\n%s", image, digest, list)
	}
	checkInside(t, c.do(t, append([]string{"run", "--rm", image, "look"}, lookInside...)...))
}

// remove takes an image and its content away, so that a pull fetches it again.
func (c *containerd) remove(t *testing.T, images ...string) {
	t.Helper()
	c.do(t, append([]string{"images", "rm", "--sync"}, images...)...)
}

// push gives all platforms of an image another name, and pushes that.
func (c *containerd) push(t *testing.T, image, target string) {
	t.Helper()
	c.do(t, "images", "pull", "--hosts-dir", c.certs, "--all-platforms", image)
	c.do(t, "images", "tag", image, target)
	c.do(t, "images", "push", "--plain-http", target)
}
