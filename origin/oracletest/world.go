package oracletest

import (
	"math/rand/v2"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// World is everything that operations choose from: few names, so that they meet.
type World struct {
	Repos    []origin.Repo
	Tags     []string
	Blobs    [][]byte
	Trees    []origintest.Tree // images, an index, artifacts; what is pushed first comes first
	Mirrored []Mirrored        // what may be pulled and is never changed
}

// Mirrored is an image that the registry reads through from an upstream.
type Mirrored struct {
	Repo, Tag string
	Manifest  digest.Digest
	Blobs     []digest.Digest
}

// NewWorld makes a world of three repositories and four tags, four images, an index of
// two of them and two artifacts about the first. Blobs have up to most bytes.
func NewWorld(seed uint64, most int) *World {
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := &World{Tags: []string{"latest", "v1", "v2", "x"}}
	for _, name := range []string{"a", "a/b", "c"} {
		w.Repos = append(w.Repos, mustRepo(name))
	}
	layers := [][]byte{{}, origintest.Bytes(seed, most)}
	for range 4 {
		layers = append(layers, origintest.Bytes(rnd.Uint64(), 2+rnd.IntN(most)))
	}
	config := []byte("{}")
	one := origintest.Image(config, layers[1])
	two := origintest.Image(config, layers[2], layers[1])
	w.Trees = []origintest.Tree{
		one, two,
		origintest.DockerImage(config, layers[3]),
		origintest.Image(config, layers[4], layers[5], layers[0]),
		origintest.Index(one, two),
		origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/x", map[string]string{"n": "1"}, layers[2]),
		origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/y", nil, layers[0]),
	}
	w.Blobs = append(layers, config)
	return w
}

// mustRepo is the repository of a name that is one.
func mustRepo(name string) origin.Repo {
	repo, err := origin.ParseRepo(name)
	if err != nil {
		panic(err)
	}
	return repo
}

// mustTag is the Ref of a tag that is one.
func mustTag(name string) origin.Ref {
	ref, err := origin.ParseTag(name)
	if err != nil {
		panic(err)
	}
	return ref
}

// PushOf is the push of a tree's manifest.
func PushOf(repo origin.Repo, tree origintest.Tree, tags ...string) Op {
	op := Op{Kind: PushManifest, Repo: repo.String(), Digest: tree.Digest(), Tags: tags}
	for _, b := range tree.Blobs {
		op.Needs = append(op.Needs, b.Digest)
	}
	for _, c := range tree.Children {
		op.Needed = append(op.Needed, c.Digest())
	}
	c, err := origin.ReadManifest(tree.Manifest.MediaType, tree.Manifest.Bytes)
	if err == nil && c.Subject != nil {
		op.Subject = c.Subject.Digest
	}
	return op
}
