package main

import (
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// emptyConfig is what stands for the config of what is no image.
const (
	emptyConfig     = "{}"
	emptyConfigType = types.MediaType("application/vnd.oci.empty.v1+json")
)

// artifact is a manifest that says something about another one: one blob, and a subject.
type artifact struct {
	manifest []byte
	blob     partial.CompressedLayer
}

var _ partial.CompressedImageCore = (*artifact)(nil)

// newArtifact makes what has that to say of subject, as kind.
func newArtifact(subject v1.Descriptor, kind types.MediaType, text []byte, annotations map[string]string) (v1.Image, error) {
	blob := static.NewLayer(text, kind)
	described, err := partial.Descriptor(blob)
	if err != nil {
		return nil, err
	}
	empty, err := partial.Descriptor(static.NewLayer([]byte(emptyConfig), emptyConfigType))
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  string(kind),
		Config:        *empty,
		Layers:        []v1.Descriptor{*described},
		Subject:       &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations:   annotations,
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&artifact{manifest, blob})
}

// RawConfigFile implements partial.CompressedImageCore.
func (a *artifact) RawConfigFile() ([]byte, error) { return []byte(emptyConfig), nil }

// MediaType implements partial.CompressedImageCore.
func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest implements partial.CompressedImageCore.
func (a *artifact) RawManifest() ([]byte, error) { return a.manifest, nil }

// LayerByDigest implements partial.CompressedImageCore.
func (a *artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	have, err := a.blob.Digest()
	if err == nil && have != h {
		err = fmt.Errorf("there is no blob %s", h)
	}
	return a.blob, err
}
