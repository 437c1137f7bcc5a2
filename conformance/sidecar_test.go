//go:build clients

package conformance

import (
	"fmt"
	"net/url"
	"path/filepath"
	"testing"

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
