//go:build clients

package conformance

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// TestChart installs the central tier and the node tier as the chart renders them, with nothing
// said besides the preset, runs their containers, and has containerd and Docker pull: through
// the node, which asks the central tier, which asks the registry. Then each of them is away in
// turn. Nothing tells containerd of weir but what the chart's sidecar has written.
func TestChart(t *testing.T) {
	c := newCluster(t)
	objects := map[string][]charttest.Object{}
	pods := map[string]charttest.Pod{}
	for preset, kind := range map[string]string{"central": "StatefulSet", "node": "DaemonSet"} {
		objects[preset] = charttest.Render(t, "weir-"+preset, "--set", "preset="+preset)
		pods[preset], _ = charttest.Find(t, objects[preset], kind, "").Pod(t)
	}
	central := c.central.run(t, pods["central"], objects["central"])
	node := c.node.run(t, pods["node"], objects["node"])
	c.checkCerts(t)

	debianLayout(t, filepath.Join(c.dir, "debian"))
	digest := c.pushDebian(t)
	t.Run("all are there", func(t *testing.T) {
		since := len(c.hub.requests(t, 0))
		c.node.must(t, func() {
			c.old.pull(t, image, digest)
			checkColdPull(t, c.hub.requests(t, since), filepath.Join(c.dir, "debian"))
			c.current.pull(t, image, digest)
			c.current.remove(t, image)
			c.current.pull(t, image, digest, "--local")
			c.engine.pull(t, "debian:bookworm", digest)
		})
		c.checkAsked(t, since, centralIP)
	})
	t.Run("the central tier is away", func(t *testing.T) {
		central.stop(t)
		since := c.pullNew(t, "second")
		c.checkAsked(t, since, nodeIP)
		c.pullAgain(t, digest)
	})
	central = c.central.run(t, pods["central"], objects["central"])
	t.Run("the node tier is away", func(t *testing.T) {
		// weir alone has ended, as when it crashes: the files still send containerd there.
		node.containers[0].stop(t)
		c.checkCerts(t)
		since := c.pullNew(t, "third")
		c.checkAsked(t, since, nodeIP)
	})
	node.stop(t)
	node = c.node.run(t, pods["node"], objects["node"])
	t.Run("the registry is away", func(t *testing.T) {
		// The node's pod is a new one, and has nothing: what comes is the central tier's.
		c.hub.stop(t)
		c.pullAgain(t, digest)
	})
	c.startHub(t)
	t.Run("uninstalled", func(t *testing.T) {
		node.stop(t)
		if left := c.node.files(t, certsDir); len(left) > 0 {
			t.Errorf("it leaves %q behind", left)
		}
		central.stop(t)
		since := c.pullNew(t, "fourth")
		c.checkAsked(t, since, nodeIP)
	})
}

// pullAgain has every client pull the Debian once more, from a store that does not have it.
func (c *cluster) pullAgain(t *testing.T, digest string) {
	t.Helper()
	c.node.must(t, func() { // ctr asks the registry itself
		c.old.remove(t, image)
		c.old.pull(t, image, digest)
		c.current.remove(t, image)
		c.current.pull(t, image, digest)
		c.engine.do(t, "image", "rm", "debian:bookworm")
		c.engine.pull(t, "debian:bookworm", digest)
	})
}

// pullNew has every client pull an image that nobody has but the registry, and gives what
// that had been asked before.
func (c *cluster) pullNew(t *testing.T, name string) (since int) {
	t.Helper()
	c.pushRandom(t, name)
	since = len(c.hub.requests(t, 0))
	c.node.must(t, func() {
		for _, engine := range []*containerd{c.old, c.current} {
			image := "docker.io/library/" + name + ":1"
			engine.do(t, "images", "pull", "--hosts-dir", engine.certs, image)
			engine.remove(t, image)
		}
		c.engine.do(t, "pull", "-q", name+":1")
	})
	return since
}

// checkCerts: there are files of containerd for all the registries that the preset names.
func (c *cluster) checkCerts(t *testing.T) {
	t.Helper()
	files := c.node.files(t, certsDir)
	for _, name := range []string{"docker.io", "ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "public.ecr.aws", "mcr.microsoft.com"} {
		if !slices.Contains(files, name+"/hosts.toml") {
			t.Errorf("nothing is written for %s: %q", name, files)
		}
	}
}
