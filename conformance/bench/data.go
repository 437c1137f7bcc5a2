package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

const (
	kB  = 1000
	mB  = 1000 * kB
	gB  = 1000 * mB
	miB = 1 << 20

	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

// A dataset gives blobs of bytes that do not compress and are the same in every run.
// Each is a file, which a client sends without a copy, so that neither its CPU nor its
// memory depends on how much it pushes.
type dataset struct {
	dir  string
	made map[[2]int64]chunk // by number and length
}

func newDataset(dir string) (*dataset, error) {
	return &dataset{dir, map[[2]int64]chunk{}}, os.Mkdir(dir, 0o755)
}

// A chunk is a blob in a file.
type chunk struct {
	file   string
	n      int64
	digest digest.Digest
}

// chunk gives the blob of n bytes with that number, which is made once.
func (d *dataset) chunk(id, n int64) (chunk, error) {
	key := [2]int64{id, n}
	if c, ok := d.made[key]; ok {
		return c, nil
	}
	c := chunk{file: filepath.Join(d.dir, fmt.Sprintf("%d-%d", id, n)), n: n}
	f, err := os.Create(c.file)
	if err != nil {
		return c, err
	}
	defer f.Close()
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(id))
	hash := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, hash), rand.NewChaCha8(seed), n); err != nil {
		return c, err
	}
	c.digest = digest.NewDigest(digest.SHA256, hash)
	d.made[key] = c
	return c, nil
}

// chunks gives count blobs of n bytes, numbered from id on.
func (d *dataset) chunks(id, n int64, count int) ([]chunk, error) {
	all := make([]chunk, 0, count)
	for i := range int64(count) {
		c, err := d.chunk(id+i, n)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// An image is a manifest with the blobs that it names.
type image struct {
	blobs    []chunk // config first, then layers
	manifest []byte
	digest   digest.Digest // of the manifest
}

func (i image) layers() []chunk { return i.blobs[1:] }

// size is what its blobs hold in all.
func (i image) size() (n int64) {
	for _, b := range i.blobs {
		n += b.n
	}
	return n
}

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// newImage makes an image of blobs (config first). A mark makes it another image of
// the same blobs; subject, if not nil, makes it a referrer.
func newImage(blobs []chunk, mark string, subject *image) (image, error) {
	m := manifest{SchemaVersion: 2, MediaType: manifestType, Layers: []descriptor{}}
	for i, b := range blobs {
		if i == 0 {
			m.Config = descriptor{configType, b.digest, b.n}
		} else {
			m.Layers = append(m.Layers, descriptor{layerType, b.digest, b.n})
		}
	}
	if mark != "" {
		m.Annotations = map[string]string{"org.example.mark": mark}
	}
	if subject != nil {
		m.ArtifactType = "application/vnd.example.note"
		m.Subject = &descriptor{manifestType, subject.digest, int64(len(subject.manifest))}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return image{}, err
	}
	return image{blobs, text, digest.FromBytes(text)}, nil
}

// image makes an image of a config of 1 kB and count layers of n bytes, numbered
// from id on: two of its images share nothing.
func (d *dataset) image(id, n int64, count int) (image, error) {
	layers, err := d.chunks(id, n, count)
	if err != nil {
		return image{}, err
	}
	config, err := d.chunk(-1-id, kB) // whatever n is, it is no layer
	if err != nil {
		return image{}, err
	}
	return newImage(append([]chunk{config}, layers...), "", nil)
}

// parseManifest gives the descriptors of a manifest's blobs, config first.
func parseManifest(text []byte) ([]descriptor, error) {
	var m manifest
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return append([]descriptor{m.Config}, m.Layers...), nil
}
