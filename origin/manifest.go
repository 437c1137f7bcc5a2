package origin

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of manifests. The Docker ones are those of image manifest version
// 2, schema 2.
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeOCIManifest    = v1.MediaTypeImageManifest
	MediaTypeOCIIndex       = v1.MediaTypeImageIndex
)

// ManifestTypes are the media types of manifests that weir asks upstreams for, in
// order of preference: indexes first, or some registries convert.
func ManifestTypes() []string {
	return []string{MediaTypeOCIIndex, MediaTypeDockerList, MediaTypeOCIManifest, MediaTypeDockerManifest}
}

// maxDescriptors is the most descriptors that one manifest may have.
const maxDescriptors = 10_000

// maxMediaType is the longest media type, in bytes: two names of 127 (RFC 6838,
// section 4.2) and the slash.
const maxMediaType = 255

// Content is what a manifest says. Its digests are valid, its sizes not negative.
type Content struct {
	Index        bool // names manifests, not a config and layers
	Blobs        []v1.Descriptor
	Manifests    []v1.Descriptor
	Subject      *v1.Descriptor
	ArtifactType string // the config's media type where the manifest names none
	Annotations  map[string]string
}

// AddSizes adds two sizes, in bytes, that are not negative. Layers that are elsewhere may say
// anything: what there cannot be so much of is the most that there is.
func AddSizes(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// document has the members of all four kinds of manifests.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *v1.Descriptor    `json:"config"`
	Layers        []v1.Descriptor   `json:"layers"`
	Manifests     []v1.Descriptor   `json:"manifests"`
	Subject       *v1.Descriptor    `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// ReadManifest reads a manifest leniently: enough to know what it names. For
// manifests whose digest an upstream vouches for. Of descriptors that name nothing
// which could be had, the result says nothing. Errors: ErrManifestInvalid.
func ReadManifest(mediaType string, b []byte) (Content, error) {
	doc, err := decode(b, false)
	if err != nil {
		return Content{}, Errorf(ErrManifestInvalid, "%v", err)
	}
	unusable := func(d v1.Descriptor) bool { return checkDescriptor(d) != nil }
	doc.Layers = slices.DeleteFunc(doc.Layers, unusable)
	doc.Manifests = slices.DeleteFunc(doc.Manifests, unusable)
	if doc.Subject != nil && unusable(*doc.Subject) {
		doc.Subject = nil
	}
	c := doc.content(isIndex(mediaType, doc))
	c.Blobs = slices.DeleteFunc(c.Blobs, unusable) // the config, which has a say in the artifact type
	return c, nil
}

// MediaTypeOf gives the type that a manifest's bytes say they have, or seem to have.
// Errors: ErrManifestInvalid.
func MediaTypeOf(b []byte) (string, error) {
	doc, err := decode(b, false)
	switch {
	case err != nil:
		return "", Wrap(Errorf(ErrManifestInvalid, "manifest: %s", err), err)
	case doc.MediaType != "":
		return doc.MediaType, nil
	case isIndex("", doc):
		return MediaTypeOCIIndex, nil
	}
	return MediaTypeOCIManifest, nil
}

// CheckManifest reads a manifest that is being pushed and refuses what two readers
// may read differently: duplicate keys, keys that differ only in case, members of
// both an image and an index, a mediaType that is not the Content-Type, embedded
// data that is not what the descriptor names, text that is not UTF-8; and what is
// invalid or absurd: malformed digests and media types, negative sizes, more than
// 10,000 descriptors, deep nesting (GHSA-qq97-vm5h-rrhg, CVE-2021-41190). The
// media type is one of [ManifestTypes]. Errors: ErrManifestInvalid.
func CheckManifest(mediaType string, b []byte) (Content, error) {
	if !slices.Contains(ManifestTypes(), mediaType) {
		return Content{}, Errorf(ErrManifestInvalid, "media type %s is not one of a manifest", Quote(mediaType))
	}
	doc, err := decode(b, true)
	if err == nil {
		err = doc.check(mediaType)
	}
	if err != nil {
		return Content{}, Errorf(ErrManifestInvalid, "%v", err)
	}
	return doc.content(isIndex(mediaType, doc)), nil
}

// decode reads a document after scan has said that it may be read.
func decode(b []byte, strict bool) (document, error) {
	var doc document
	if err := scan(b, strict); err != nil {
		return doc, err
	}
	err := json.Unmarshal(b, &doc)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return doc, fmt.Errorf("%s is not of the expected type", wrong.Field)
	}
	return doc, err
}

func isIndex(mediaType string, doc document) bool {
	switch mediaType {
	case MediaTypeDockerList, MediaTypeOCIIndex:
		return true
	case MediaTypeDockerManifest, MediaTypeOCIManifest:
		return false
	default:
		return doc.Manifests != nil
	}
}

func (doc document) content(index bool) Content {
	c := Content{Index: index, Subject: doc.Subject, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations}
	if index {
		c.Manifests = doc.Manifests
		return c
	}
	if doc.Config != nil {
		c.Blobs = append(c.Blobs, *doc.Config)
		if c.ArtifactType == "" {
			c.ArtifactType = doc.Config.MediaType
		}
	}
	c.Blobs = append(c.Blobs, doc.Layers...)
	return c
}

func (doc document) check(mediaType string) error {
	if doc.SchemaVersion != 2 {
		return errors.New("schemaVersion is not 2")
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return fmt.Errorf("mediaType is %s, the Content-Type %s", Quote(doc.MediaType), Quote(mediaType))
	}
	docker := mediaType == MediaTypeDockerManifest || mediaType == MediaTypeDockerList
	if docker && doc.MediaType == "" {
		return errors.New("mediaType is missing")
	}
	var named []v1.Descriptor
	if isIndex(mediaType, doc) {
		if doc.Config != nil || doc.Layers != nil {
			return errors.New("an index has neither config nor layers")
		}
		named = doc.Manifests
	} else {
		if doc.Manifests != nil {
			return errors.New("an image manifest has no manifests")
		}
		if doc.Config == nil {
			return errors.New("config is missing")
		}
		named = append([]v1.Descriptor{*doc.Config}, doc.Layers...)
	}
	if doc.Subject != nil {
		named = append(named, *doc.Subject)
	}
	if len(named) > maxDescriptors {
		return fmt.Errorf("more than %d descriptors", maxDescriptors)
	}
	if doc.ArtifactType != "" && !validMediaType(doc.ArtifactType) {
		return fmt.Errorf("artifactType is the invalid media type %s", Quote(doc.ArtifactType))
	}
	for _, d := range named {
		if err := checkDescriptor(d); err != nil {
			return err
		}
		if d.MediaType != "" && !validMediaType(d.MediaType) {
			return fmt.Errorf("descriptor %s has the invalid media type %s", d.Digest, Quote(d.MediaType))
		}
		if d.Data != nil && (int64(len(d.Data)) != d.Size || d.Digest.Algorithm().FromBytes(d.Data) != d.Digest) {
			return fmt.Errorf("descriptor %s has the data of another", d.Digest)
		}
	}
	return nil
}

// checkDescriptor tells by its error whether there may be content of that digest
// and size.
func checkDescriptor(d v1.Descriptor) error {
	if _, err := ParseDigest(d.Digest.String()); err != nil {
		return fmt.Errorf("a descriptor has the invalid digest %s", Quote(d.Digest.String()))
	}
	if d.Size < 0 {
		return fmt.Errorf("descriptor %s has a negative size", d.Digest)
	}
	return nil
}

// validMediaType reports whether s is a type and a subtype, with or without
// parameters.
func validMediaType(s string) bool {
	if len(s) > maxMediaType {
		return false
	}
	t, _, err := mime.ParseMediaType(s)
	return err == nil && strings.Contains(t, "/")
}
