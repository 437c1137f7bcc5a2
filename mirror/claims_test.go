package mirror_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// What a manifest says of a blob's size holds in its own repository only: somebody else's
// manifest that names the same blob with another size spoils nobody's pull.
func TestSizesAreEachRepositorysOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1")
		layer := img.Blobs[2]
		origintest.CheckManifest(t, r, full, "1", img.Manifest)

		lie := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
			`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			img.Blobs[0].MediaType, img.Blobs[0].Digest, img.Blobs[0].Size, layer.MediaType, layer.Digest, layer.Size+1))
		evil := origintest.Repo(t, "evil/x")
		if _, err := r.hub[0].Registry.Push(t.Context(), evil, lie, origin.PushOptions{Sparse: true, Tags: []origin.Ref{origintest.Ref(t, "1")}}); err != nil {
			t.Fatal(err)
		}
		origintest.CheckManifest(t, r, "docker.io/evil/x", "1", lie)

		r.blob(full, layer.Digest, layer.Bytes)
		r.stop()
	})
}

// A manifest's use is a use of its blobs, also where it names too many to be held in memory.
func TestManyBlobsAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := evict.New(nil, nil, evict.Options{}) // it remembers use before it knows what there is
		r := newRig(t, func(r *rig) { r.options.Cache = cache })
		var layers [][]byte
		for i := range 600 {
			layers = append(layers, fmt.Append(nil, i))
		}
		img := origintest.Image([]byte("{}"), layers...)
		if _, err := r.hub[0].Registry.Push(t.Context(), origintest.Repo(t, name), img.Manifest,
			origin.PushOptions{Sparse: true, Tags: []origin.Ref{origintest.Ref(t, "v1")}}); err != nil {
			t.Fatal(err)
		}
		origintest.CheckManifest(t, r, full, "v1", img.Manifest)
		synctest.Wait() // it is recorded
		time.Sleep(time.Hour)
		if _, err := r.Resolve(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "v1")); err != nil {
			t.Fatal(err)
		}
		for _, b := range img.Blobs {
			if use, ok := cache.LastUse(b.Digest); !ok || !use.Equal(time.Now()) {
				t.Fatalf("%s was used %v, %v", b.Digest, use, ok)
			}
		}
		r.stop()
	})
}
