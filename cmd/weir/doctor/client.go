package doctor

import (
	"github.com/weir-registry/weir/origin"
)

// client is how a client asks, as far as clients differ (read in the sources of
// containerd 2, moby 28 and containers/image 5).
type client struct {
	kind
	name string
	// pings: GET /v2/ comes first, and only its challenge counts.
	pings bool
	// heads: a tag is asked for by HEAD, then its manifest by digest.
	heads bool
	// namespaced: ?ns= says which registry is meant.
	namespaced bool
	accepts    []string // manifests, each a header
	encodings  string
	next       string // what it does with a mirror that says no
}

type kind int

const (
	containerd kind = iota
	dockerStore
	dockerClassic
	podman
)

// like containerd is what has its resolver.
func (k kind) likeContainerd() bool { return k == containerd || k == dockerStore }

// Media types that only old clients make something of.
const (
	signedSchema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	schema1       = "application/vnd.docker.distribution.manifest.v1+json"
)

// resolverAccepts is what containerd's resolver accepts, in one header.
const resolverAccepts = origin.MediaTypeDockerManifest + ", " + origin.MediaTypeDockerList + ", " +
	origin.MediaTypeOCIManifest + ", " + origin.MediaTypeOCIIndex + ", */*"

var clients = []client{
	{
		kind: containerd, name: "containerd", heads: true, namespaced: true,
		accepts: []string{resolverAccepts}, encodings: "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5",
		next: "goes on to the next host of hosts.toml, at last to the registry itself",
	},
	{
		kind: dockerStore, name: "Docker with the containerd image store", heads: true, namespaced: true,
		accepts: []string{resolverAccepts}, encodings: "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5",
		next: "goes on to the next mirror, at last to the registry itself",
	},
	{
		kind: dockerClassic, name: "Docker with its classic image store", pings: true, heads: true,
		accepts: []string{
			origin.MediaTypeDockerManifest, origin.MediaTypeDockerList, origin.MediaTypeOCIIndex, origin.MediaTypeOCIManifest, signedSchema1,
		},
		encodings: "gzip",
		next:      "begins the whole pull again at the next mirror, at last at the registry itself",
	},
	{
		kind: podman, name: "podman and CRI-O", pings: true,
		accepts: []string{
			origin.MediaTypeOCIManifest, origin.MediaTypeDockerManifest, signedSchema1, schema1, origin.MediaTypeDockerList, origin.MediaTypeOCIIndex,
		},
		encodings: "gzip",
		next:      "goes on to the next mirror of registries.conf, at last to the registry itself",
	},
}
