package remotetest

import (
	"encoding/json"
	"slices"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

type repo struct {
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
}

type manifest struct {
	mediaType string
	bytes     []byte
	subject   digest.Digest
	artifact  string
}

// Image is an image that an upstream has.
type Image struct {
	v1.Descriptor        // of its manifest
	Bytes         []byte // the manifest
	Config        v1.Descriptor
	Layers        []v1.Descriptor
}

// in gives a repository, made if need be. The caller holds u.mu.
func (u *Upstream) in(name string) *repo {
	r, ok := u.repos[name]
	if !ok {
		r = &repo{
			blobs:     map[digest.Digest][]byte{},
			manifests: map[digest.Digest]manifest{},
			tags:      map[string]digest.Digest{},
		}
		u.repos[name] = r
	}
	return r
}

// AddBlob puts a blob into a repository. The bytes are not copied.
func (u *Upstream) AddBlob(repo string, b []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(b), Size: int64(len(b))}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.in(repo).blobs[d.Digest] = b
	return d
}

// AddManifest puts a manifest of any bytes into a repository, under its sha256
// digest and the tags.
func (u *Upstream) AddManifest(repo, mediaType string, b []byte, tags ...string) v1.Descriptor {
	return u.AddManifestAs(digest.SHA256, repo, mediaType, b, tags...)
}

// AddManifestAs is AddManifest with another digest algorithm.
func (u *Upstream) AddManifestAs(alg digest.Algorithm, repo, mediaType string, b []byte, tags ...string) v1.Descriptor {
	var doc v1.Manifest
	_ = json.Unmarshal(b, &doc) // whatever it says, if it says anything
	m := manifest{mediaType: mediaType, bytes: b, artifact: doc.ArtifactType}
	if m.artifact == "" {
		m.artifact = doc.Config.MediaType
	}
	if doc.Subject != nil {
		m.subject = doc.Subject.Digest
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: alg.FromBytes(b), Size: int64(len(b))}
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.in(repo)
	r.manifests[d.Digest] = m
	for _, tag := range tags {
		r.tags[tag] = d.Digest
	}
	return d
}

// AddImage puts an OCI image with these layers into a repository: the layers, a
// config and the manifest, which the tag names unless it is "".
func (u *Upstream) AddImage(repo, tag string, layers ...[]byte) Image {
	var img Image
	config := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, RootFS: v1.RootFS{Type: "layers"}}
	for _, layer := range layers {
		d := u.AddBlob(repo, layer)
		d.MediaType = v1.MediaTypeImageLayerGzip
		img.Layers = append(img.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
	}
	img.Config = u.AddBlob(repo, u.encode(config))
	img.Config.MediaType = v1.MediaTypeImageConfig
	img.Bytes = u.encode(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    img.Config, Layers: img.Layers,
	})
	img.Descriptor = u.AddManifest(repo, v1.MediaTypeImageManifest, img.Bytes, some(tag)...)
	return img
}

// AddIndex puts an OCI index of manifests into a repository, which the tag names
// unless it is "".
func (u *Upstream) AddIndex(repo, tag string, manifests ...v1.Descriptor) v1.Descriptor {
	return u.AddManifest(repo, v1.MediaTypeImageIndex, u.encode(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageIndex,
		Manifests: manifests,
	}), some(tag)...)
}

// AddReferrer puts an artifact about subject into a repository.
func (u *Upstream) AddReferrer(repo, artifactType string, subject v1.Descriptor) v1.Descriptor {
	u.AddBlob(repo, v1.DescriptorEmptyJSON.Data)
	d := u.AddManifest(repo, v1.MediaTypeImageManifest, u.encode(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: v1.DescriptorEmptyJSON, Layers: []v1.Descriptor{v1.DescriptorEmptyJSON},
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	}))
	d.ArtifactType = artifactType
	return d
}

// SetTag lets a tag name another manifest.
func (u *Upstream) SetTag(repo, tag string, d digest.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.in(repo).tags[tag] = d
}

// Remove takes a tag, or the manifest or blob of a digest, out of a repository.
func (u *Upstream) Remove(repo, reference string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.in(repo)
	delete(r.tags, reference)
	delete(r.manifests, digest.Digest(reference))
	delete(r.blobs, digest.Digest(reference))
}

// PageSize lets listings come in pages of n items, each with a Link to the next.
func (u *Upstream) PageSize(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.page = n
}

// NoReferrersAPI makes it a registry of before OCI Distribution 1.1.
func (u *Upstream) NoReferrersAPI() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.noAPI = true
}

func (u *Upstream) encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		u.t.Fatal(err)
	}
	return b
}

func some(tag string) []string {
	return slices.DeleteFunc([]string{tag}, func(s string) bool { return s == "" })
}
