package origintest_test

import (
	"slices"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

var content = origintest.Content{Repos: map[string]origintest.RepoContent{
	"team/app": {
		Blobs: map[string]string{"config": `{"os":"linux"}`, "base": "one", "top": "two"},
		Manifests: map[string]origintest.ManifestContent{
			"amd64":  {Config: "config", Layers: []string{"base", "top"}},
			"arm64":  {Config: "config", Layers: []string{"base"}},
			"all":    {Manifests: []string{"amd64", "arm64"}},
			"sbom":   {Subject: "all", ArtifactType: "application/spdx+json", Layers: []string{"top"}},
			"docker": {MediaType: origin.MediaTypeDockerManifest, Config: "config"},
		},
		Tags: map[string]string{"latest": "all", "1.0": "all", "amd64": "amd64"},
	},
}}

// What the literals and builders make passes as what a client may push.
func TestContentIsValid(t *testing.T) {
	trees := []origintest.Tree{
		origintest.DockerList(origintest.DockerImage([]byte("{}"), []byte("layer"))),
		origintest.Artifact(origintest.Image([]byte("{}")).Manifest.Descriptor.Descriptor, "application/x", nil, nil),
	}
	for name := range content.Repos["team/app"].Manifests {
		trees = append(trees, content.Tree(t, "team/app", name))
	}
	for _, tree := range trees {
		for _, x := range tree.All() {
			c, err := origin.CheckManifest(x.Manifest.MediaType, x.Manifest.Bytes)
			if err != nil {
				t.Errorf("%s: %v", x.Manifest.Bytes, err)
			}
			if len(c.Blobs) != len(x.Blobs) || len(c.Manifests) != len(x.Children) {
				t.Errorf("%s: %d blobs and %d children; the tree has %d and %d",
					x.Manifest.Bytes, len(c.Blobs), len(c.Manifests), len(x.Blobs), len(x.Children))
			}
		}
	}
}

func TestContentNamed(t *testing.T) {
	named := content.Named(t)["team/app"]
	sbom := content.Tree(t, "team/app", "sbom")
	if got, want := named["sbom"].Digest, sbom.Digest(); got != want {
		t.Errorf("sbom is named %s, its tree has %s", got, want)
	}
	c, err := origin.CheckManifest(sbom.Manifest.MediaType, sbom.Manifest.Bytes)
	if err != nil || c.Subject == nil || c.Subject.Digest != named["all"].Digest {
		t.Errorf("the subject of sbom is %v (%v), not %s", c.Subject, err, named["all"].Digest)
	}
}

func TestBytes(t *testing.T) {
	if a, b := origintest.Bytes(1, 100), origintest.Bytes(1, 50); !slices.Equal(a[:50], b) {
		t.Error("one seed gives two streams")
	}
	if a, b := origintest.Bytes(1, 50), origintest.Bytes(2, 50); slices.Equal(a, b) {
		t.Error("two seeds give one stream")
	}
}
