package origintest

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// Media types of the parts of Docker images.
const (
	MediaTypeDockerConfig = "application/vnd.docker.container.image.v1+json"
	MediaTypeDockerLayer  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Blob is content and what describes it.
type Blob struct {
	v1.Descriptor
	Bytes []byte
}

// NewBlob is the blob of those bytes, named by sha256.
func NewBlob(mediaType string, b []byte) Blob {
	return Blob{
		Descriptor: v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))},
		Bytes:      b,
	}
}

// Tree is a manifest with all that it needs: what a client pushes or pulls as
// one.
type Tree struct {
	Manifest origin.Manifest
	Blobs    []Blob // config first, then layers
	Children []Tree // of an index
}

// Digest is the digest of the tree's manifest.
func (x Tree) Digest() digest.Digest { return x.Manifest.Digest }

// Image is an OCI image with that config and those layers.
func Image(config []byte, layers ...[]byte) Tree {
	return image(v1.Manifest{MediaType: v1.MediaTypeImageManifest},
		NewBlob(v1.MediaTypeImageConfig, config), blobs(v1.MediaTypeImageLayerGzip, layers))
}

// DockerImage is an image of Docker's image manifest version 2, schema 2.
func DockerImage(config []byte, layers ...[]byte) Tree {
	return image(v1.Manifest{MediaType: origin.MediaTypeDockerManifest},
		NewBlob(MediaTypeDockerConfig, config), blobs(MediaTypeDockerLayer, layers))
}

// Artifact is an OCI artifact of that type about a subject, with one layer, the
// payload, and the empty config.
func Artifact(subject v1.Descriptor, artifactType string, annotations map[string]string, payload []byte) Tree {
	return image(v1.Manifest{
		MediaType:    v1.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Subject:      &subject,
		Annotations:  annotations,
	}, NewBlob(v1.MediaTypeEmptyJSON, []byte("{}")), blobs(artifactType, [][]byte{payload}))
}

// Index is an OCI index of the children.
func Index(children ...Tree) Tree {
	return index(v1.Index{MediaType: v1.MediaTypeImageIndex}, children)
}

// DockerList is a Docker manifest list of the children.
func DockerList(children ...Tree) Tree {
	return index(v1.Index{MediaType: origin.MediaTypeDockerList}, children)
}

// Bytes gives n pseudo-random bytes, the same ones for the same seed.
func Bytes(seed uint64, n int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// Push pushes the tree into a repository: blobs, then children, then the
// manifest, which the tags will name.
func (x Tree) Push(t testing.TB, w origin.Writer, repo string, tags ...string) origin.Descriptor {
	t.Helper()
	for _, b := range x.Blobs {
		PushBlob(t, w, repo, b.Bytes)
	}
	for _, c := range x.Children {
		c.Push(t, w, repo)
	}
	return PushManifest(t, w, repo, x.Manifest, tags...)
}

// All gives the manifests of the tree, children first, itself last.
func (x Tree) All() []Tree {
	var all []Tree
	for _, c := range x.Children {
		all = append(all, c.All()...)
	}
	return append(all, x)
}

func image(m v1.Manifest, config Blob, layers []Blob) Tree {
	m.Versioned = specs.Versioned{SchemaVersion: 2}
	m.Config = config.Descriptor
	m.Layers = []v1.Descriptor{}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.Descriptor)
	}
	return Tree{Manifest: NewManifest(m.MediaType, encode(m)), Blobs: slices.Insert(layers, 0, config)}
}

func index(x v1.Index, children []Tree) Tree {
	x.Versioned = specs.Versioned{SchemaVersion: 2}
	x.Manifests = []v1.Descriptor{}
	for _, c := range children {
		x.Manifests = append(x.Manifests, c.Manifest.Descriptor.Descriptor)
	}
	return Tree{Manifest: NewManifest(x.MediaType, encode(x)), Children: children}
}

// NewManifest is the manifest of those bytes, named by sha256.
func NewManifest(mediaType string, b []byte) origin.Manifest {
	return origin.Manifest{
		Descriptor: origin.Descriptor{Descriptor: NewBlob(mediaType, b).Descriptor},
		Bytes:      b,
	}
}

func blobs(mediaType string, contents [][]byte) []Blob {
	var bs []Blob
	for _, c := range contents {
		bs = append(bs, NewBlob(mediaType, c))
	}
	return bs
}

// encode gives the JSON of a manifest, which always has one.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
