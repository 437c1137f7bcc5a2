package conformance

import (
	"fmt"
	"io"
	"log"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
)

// behind are registries that a sidecar stands in front of.
var behind = map[string]func(t testing.TB) *hop{
	"weir":                 func(t testing.TB) *hop { return serving(t, newLocal(t), serve.Options{}) },
	"go-containerregistry": func(t testing.TB) *hop { return newHop(t, registry.New(registry.Logger(log.New(io.Discard, "", 0)))) },
	"weir in front of weir": func(t testing.TB) *hop {
		return sidecar(t, nobody(t), serving(t, newLocal(t), serve.Options{}).url, false)
	},
}

// nobody is where no upstream is.
func nobody(t testing.TB) *url.URL { return parsed(t, "http://127.0.0.1:1") }

// TestTopologies has the same registry pass the same exam wherever it stands.
func TestTopologies(t *testing.T) {
	for name, open := range map[string]func(t testing.TB) *hop{
		"origin":                             func(t testing.TB) *hop { return serving(t, newLocal(t), serve.Options{}) },
		"mirror and origin in one process":   func(t testing.TB) *hop { return inProcess(t, nobody(t), false) },
		"mirror in front of a weir":          func(t testing.TB) *hop { return sidecar(t, nobody(t), behind["weir"](t).url, false) },
		"mirror in front of a weir in front": func(t testing.TB) *hop { return sidecar(t, nobody(t), behind["weir in front of weir"](t).url, false) },
		"below a prefix of another registry": func(t testing.TB) *hop { return sidecar(t, nobody(t), behind["weir"](t).url.JoinPath("proj"), false) },
	} {
		t.Run(name, func(t *testing.T) {
			origintest.Test(t, func(t testing.TB) origin.Registry { return client(t, open(t).url) })
		})
	}
}

// TestTopologiesMirror has a mirror pass the exam of a reader over what its upstream
// has, whatever registry keeps it.
func TestTopologiesMirror(t *testing.T) {
	upstream := func(t testing.TB, c origintest.Content) *url.URL {
		up := serving(t, newLocal(t), serve.Options{})
		c.Push(t, client(t, up.url))
		return up.url
	}
	t.Run("in one process", func(t *testing.T) {
		origintest.Reader(t, upstreamName, func(t testing.TB, c origintest.Content) origin.Reader {
			return client(t, inProcess(t, upstream(t, c), false).url)
		})
	})
	for name, open := range behind {
		t.Run("in front of "+name, func(t *testing.T) {
			origintest.Reader(t, upstreamName, func(t testing.TB, c origintest.Content) origin.Reader {
				return client(t, sidecar(t, upstream(t, c), open(t).url, false).url)
			})
		})
	}
}

// TestTopologiesPush has what is pushed through a mirror readable there, whatever
// registry keeps it.
func TestTopologiesPush(t *testing.T) {
	for name, open := range behind {
		t.Run(name, func(t *testing.T) { pushAndRead(t, open(t)) })
	}
}

func pushAndRead(t *testing.T, o *hop) {
	c := client(t, sidecar(t, nobody(t), o.url, false).url)
	config := []byte(`{"os":"linux"}`)
	one, two := origintest.Image(config, origintest.Bytes(1, 300<<10)), origintest.Image(config, origintest.Bytes(2, 5))
	index := origintest.Index(one, two)
	sbom := origintest.Artifact(index.Manifest.Descriptor.Descriptor, "application/spdx+json", map[string]string{"k": "v"}, []byte("{}"))
	index.Push(t, c, "team/app", "v1", "latest")
	sbom.Push(t, c, "team/app")
	tags, err := c.Tags(t.Context(), origintest.Repo(t, "team/app"), origin.Page{N: 10})
	// One that stands in for the API of referrers may be among them.
	own := slices.DeleteFunc(tags.Items, func(tag string) bool { return strings.HasPrefix(tag, "sha256-") })
	if err != nil || !slices.Equal(own, []string{"latest", "v1"}) {
		t.Errorf("tags %v, %v", tags.Items, err)
	}
	for _, x := range index.All() {
		origintest.CheckManifest(t, c, "team/app", x.Digest().String(), x.Manifest)
		for _, b := range x.Blobs {
			origintest.CheckBlob(t, c, "team/app", b.Digest, b.Bytes)
		}
	}
	origintest.CheckManifest(t, c, "team/app", "latest", index.Manifest)
	origintest.CheckReferrers(t, c, "team/app", index.Digest(), "", []origintest.Tree{sbom})
	list, err := c.Repos(t.Context(), origin.Page{N: 10})
	if err != nil || fmt.Sprint(list.Items) != "[team/app]" {
		t.Errorf("repositories %v, %v", list.Items, err)
	}
}
