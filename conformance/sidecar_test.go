//go:build clients

package conformance

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
)

// dockerRegistry starts Debian's docker-registry, which deletes. It has no API of
// referrers.
func dockerRegistry(t testing.TB, dir string) *hop {
	t.Helper()
	addr := freeAddr(t.(*testing.T))
	file := write(t.(*testing.T), filepath.Join(dir, "registry.yml"), fmt.Sprintf(`
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q}
`, filepath.Join(dir, "registry"), addr))
	start(t.(*testing.T), "docker-registry", nil, "docker-registry", "serve", file).ready(t.(*testing.T), listens("tcp", addr))
	return before(t, &url.URL{Scheme: "http", Host: addr})
}

// TestClientsSidecar has weir stand in front of Debian's docker-registry as it does in
// front of any other: see TestRequests and TestTopologiesMirror.
func TestClientsSidecar(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		requestsOf(t, func(t testing.TB) *hop { return dockerRegistry(t, t.TempDir()) })
	})
	t.Run("push", func(t *testing.T) { pushAndRead(t, dockerRegistry(t, t.TempDir())) })
	t.Run("mirror", func(t *testing.T) {
		origintest.Reader(t, upstreamName, func(t testing.TB, c origintest.Content) origin.Reader {
			up := serving(t, newLocal(t), serve.Options{})
			c.Push(t, client(t, up.url))
			return client(t, sidecar(t, up.url, dockerRegistry(t, t.TempDir()).url, false).url)
		})
	})
	t.Run("below a path", func(t *testing.T) {
		o := dockerRegistry(t, t.TempDir())
		origintest.Image([]byte("{}")).Push(t, client(t, o.url), "other/app", "v1")
		o.url = o.url.JoinPath("proj", "ect")
		pushAndRead(t, o)
	})
	t.Run("binary", func(t *testing.T) { builtSidecar(t, dockerRegistry(t, t.TempDir())) })
	t.Run("delete", func(t *testing.T) {
		c := client(t, sidecar(t, nobody(t), dockerRegistry(t, t.TempDir()).url, false).url)
		img := app()
		img.Push(t, c, "team/app", "v1")
		name := origintest.Repo(t, "team/app")
		if err := c.DeleteManifest(t.Context(), name, origin.ByDigest(img.Digest())); err != nil {
			t.Error(err)
		}
		if _, err := c.Resolve(t.Context(), name, origintest.Ref(t, "v1")); !origin.Unknown(err) {
			t.Errorf("deleted: %v", err)
		}
		for _, b := range img.Blobs {
			if err := c.DeleteBlob(t.Context(), name, b.Digest); err != nil {
				t.Error(err)
			}
		}
	})
}

// builtSidecar has crane pull and push through bin/weir, which keeps all of it below a path
// of the registry behind, and finds it there after a restart.
func builtSidecar(t *testing.T, o *hop) {
	dir := workDir(t)
	env := []string{"HOME=" + dir, "DOCKER_CONFIG=" + dir, "NO_PROXY=127.0.0.0/8", "no_proxy=127.0.0.0/8"}
	crane, there := tool(t, "crane"), client(t, o.url)
	img, reg := app(), newLocal(t)
	img.Push(t, reg, "team/app", "v1")
	up := serving(t, reg, serve.Options{})
	config := fmt.Sprintf(`
mirror:
  well_known: false
  upstreams: [{name: %s, endpoints: [{url: %q}]}]
origin: {url: %q, prefix: proj/ect}
`, upstreamName, up.url, o.url)
	pull := func(from, to string) {
		t.Helper()
		to = filepath.Join(dir, to)
		run(t, env, crane, "pull", "--insecure", "--format", "oci", from, to)
		index, err := layout.ImageIndexFromPath(to)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := v1.NewHash(img.Digest().String())
		if err != nil {
			t.Fatal(err)
		}
		image, err := index.Image(hash)
		if err != nil {
			t.Fatalf("crane does not have %s: %v", hash, err)
		}
		if err := rehashImage(hash, image); err != nil {
			t.Error(err)
		}
	}

	w := startWeir(t, filepath.Join(dir, "data"), config)
	const name = upstreamName + "/team/app"
	pull(w.addr+"/"+name+":v1", "cold")
	manifest, blob := "/v2/team/app/manifests/", "/v2/team/app/blobs/"
	want := []string{"GET /v2/", "GET " + manifest + "v1", "GET " + blob + img.Blobs[0].Digest.String(), "GET " + blob + img.Blobs[1].Digest.String()}
	asked := up.took()
	slices.Sort(asked)
	slices.Sort(want)
	if !slices.Equal(asked, want) {
		t.Errorf("the upstream was asked %q, want %q", asked, want)
	}
	o.await("PUT /v2/proj/ect/" + name + "/manifests/" + img.Digest().String()) // behind the answer
	origintest.CheckManifest(t, there, "proj/ect/"+name, img.Digest().String(), img.Manifest)
	for _, b := range img.Blobs {
		origintest.CheckBlob(t, there, "proj/ect/"+name, b.Digest, b.Bytes)
	}

	w.stop(t)
	w = startWeirAt(t, w.addr, w.data, config)
	pull(w.addr+"/"+name+":v1", "again")
	run(t, env, crane, "push", "--insecure", filepath.Join(dir, "again"), w.addr+"/team/app:v2")
	pull(o.url.Host+"/proj/ect/team/app:v2", "back")
	up.check("the upstream, after a restart of weir")
	if here, err := filepath.Glob(filepath.Join(w.data, "blobs", "*", "*", "*")); err != nil || len(here) != 0 {
		t.Errorf("weir keeps %q, %v", here, err)
	}
}
