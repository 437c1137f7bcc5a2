package origintest

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// Content is what a registry holds, with symbolic names in place of digests.
type Content struct {
	Repos map[string]RepoContent // by the repository's name
}

// RepoContent is what a repository holds. Blobs and manifests share one space of
// symbolic names.
type RepoContent struct {
	Blobs     map[string]string          // content by symbolic name
	Manifests map[string]ManifestContent // by symbolic name
	Tags      map[string]string          // symbolic name of the manifest, by tag
}

// ManifestContent is a manifest: an index if Manifests is not nil, else an image.
type ManifestContent struct {
	MediaType    string   // "" = the OCI type
	Config       string   // symbolic name of a blob; "" = the empty config, which need not be among the blobs
	Layers       []string // symbolic names of blobs
	Manifests    []string // symbolic names of manifests
	Subject      string   // symbolic name of a manifest
	ArtifactType string
	Annotations  map[string]string
}

// Named holds descriptors by repository and symbolic name.
type Named map[string]map[string]v1.Descriptor

// Push pushes the content, and gives the descriptors of what was pushed.
func (c Content) Push(t testing.TB, w origin.Writer) Named {
	t.Helper()
	for _, repo := range slices.Sorted(maps.Keys(c.Repos)) {
		rc := c.Repos[repo]
		trees := rc.trees(t)
		tags := map[string][]string{}
		for _, tag := range slices.Sorted(maps.Keys(rc.Tags)) {
			tags[rc.Tags[tag]] = append(tags[rc.Tags[tag]], tag)
		}
		for _, name := range slices.Sorted(maps.Keys(rc.Blobs)) {
			PushBlob(t, w, repo, []byte(rc.Blobs[name]))
		}
		for _, name := range slices.Sorted(maps.Keys(rc.Manifests)) {
			trees[name].Push(t, w, repo, tags[name]...)
		}
	}
	return c.Named(t)
}

// Named gives the descriptors of everything in c, which need not have been
// pushed.
func (c Content) Named(t testing.TB) Named {
	t.Helper()
	named := Named{}
	for repo, rc := range c.Repos {
		named[repo] = map[string]v1.Descriptor{}
		for name, content := range rc.Blobs {
			named[repo][name] = NewBlob("application/octet-stream", []byte(content)).Descriptor
		}
		for name, tree := range rc.trees(t) {
			named[repo][name] = tree.Manifest.Descriptor.Descriptor
		}
	}
	return named
}

// Tree gives the manifest of that repository and symbolic name, with all that it
// needs.
func (c Content) Tree(t testing.TB, repo, name string) Tree {
	t.Helper()
	tree, ok := c.Repos[repo].trees(t)[name]
	if !ok {
		t.Fatalf("%s has no manifest named %q", repo, name)
	}
	return tree
}

func (rc RepoContent) trees(t testing.TB) map[string]Tree {
	t.Helper()
	trees := map[string]Tree{}
	for name := range rc.Manifests {
		rc.tree(t, name, trees)
	}
	return trees
}

// tree makes the manifest of that name, and first those that it refers to.
func (rc RepoContent) tree(t testing.TB, name string, made map[string]Tree) Tree {
	t.Helper()
	if x, ok := made[name]; ok {
		return x
	}
	mc, ok := rc.Manifests[name]
	if !ok {
		t.Fatalf("no manifest is named %q", name)
	}
	var subject *v1.Descriptor
	if mc.Subject != "" {
		d := rc.tree(t, mc.Subject, made).Manifest.Descriptor.Descriptor
		subject = &d
	}
	var x Tree
	if mc.Manifests != nil {
		var children []Tree
		for _, child := range mc.Manifests {
			children = append(children, rc.tree(t, child, made))
		}
		x = index(v1.Index{
			MediaType:    cmp.Or(mc.MediaType, v1.MediaTypeImageIndex),
			ArtifactType: mc.ArtifactType,
			Subject:      subject,
			Annotations:  mc.Annotations,
		}, children)
	} else {
		config := NewBlob(v1.MediaTypeEmptyJSON, []byte("{}"))
		if mc.Config != "" {
			config = NewBlob(v1.MediaTypeImageConfig, rc.blob(t, mc.Config))
		}
		var layers []Blob
		for _, l := range mc.Layers {
			layers = append(layers, NewBlob(v1.MediaTypeImageLayerGzip, rc.blob(t, l)))
		}
		x = image(v1.Manifest{
			MediaType:    cmp.Or(mc.MediaType, v1.MediaTypeImageManifest),
			ArtifactType: mc.ArtifactType,
			Subject:      subject,
			Annotations:  mc.Annotations,
		}, config, layers)
	}
	made[name] = x
	return x
}

func (rc RepoContent) blob(t testing.TB, name string) []byte {
	t.Helper()
	b, ok := rc.Blobs[name]
	if !ok {
		t.Fatalf("no blob is named %q", name)
	}
	return []byte(b)
}
