package origin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode"

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

const (
	maxDepth       = 64     // nesting of a manifest's JSON
	maxDescriptors = 10_000 // descriptors in one manifest
)

// Content is what a manifest says.
type Content struct {
	Index        bool // names manifests, not a config and layers
	Blobs        []v1.Descriptor
	Manifests    []v1.Descriptor
	Subject      *v1.Descriptor
	ArtifactType string // the config's media type where the manifest names none
	Annotations  map[string]string
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
// manifests whose digest an upstream vouches for. Errors: ErrManifestInvalid.
func ReadManifest(mediaType string, b []byte) (Content, error) {
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		return Content{}, Errorf(ErrManifestInvalid, "manifest is not a JSON object of the expected form")
	}
	return doc.content(isIndex(mediaType, doc)), nil
}

// CheckManifest reads a manifest that is being pushed and refuses what could be
// read in two ways: duplicate keys or keys that differ only in case, members of
// both an image and an index, a mediaType that is not the Content-Type, invalid
// or absurd descriptors (trust: GHSA-qq97-vm5h-rrhg, CVE-2021-41190).
// Errors: ErrManifestInvalid, ErrUnsupported (a media type weir does not keep).
func CheckManifest(mediaType string, b []byte) (Content, error) {
	switch mediaType {
	case MediaTypeDockerManifest, MediaTypeDockerList, MediaTypeOCIManifest, MediaTypeOCIIndex:
	default:
		return Content{}, Errorf(ErrManifestInvalid, "media type %s is not one of a manifest", Quote(mediaType))
	}
	if err := checkJSON(b); err != nil {
		return Content{}, Errorf(ErrManifestInvalid, "%v", err)
	}
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		return Content{}, Errorf(ErrManifestInvalid, "%v", err)
	}
	if err := doc.check(mediaType); err != nil {
		return Content{}, Errorf(ErrManifestInvalid, "%v", err)
	}
	return doc.content(isIndex(mediaType, doc)), nil
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
	for _, d := range named {
		if _, err := ParseDigest(d.Digest.String()); err != nil {
			return fmt.Errorf("a descriptor has the invalid digest %s", Quote(d.Digest.String()))
		}
		if d.Size < 0 {
			return fmt.Errorf("descriptor %s has a negative size", d.Digest)
		}
		if d.MediaType != "" && !validMediaType(d.MediaType) {
			return fmt.Errorf("descriptor %s has the invalid media type %s", d.Digest, Quote(d.MediaType))
		}
	}
	return nil
}

func validMediaType(s string) bool {
	t, _, err := mime.ParseMediaType(s)
	return err == nil && strings.Contains(t, "/")
}

// member gives the spelling of a member that readers of manifests look for, from
// any of the spellings that encoding/json takes for it.
func member(key string) (spelling string, ok bool) {
	for _, m := range []string{
		"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests",
		"subject", "annotations", "digest", "size", "urls", "data", "platform",
	} {
		if strings.EqualFold(m, key) {
			return m, true
		}
	}
	return "", false
}

// fold maps keys that encoding/json takes for the same member to one string.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, s)
}

// checkJSON refuses a document that two readers may read differently: with
// duplicate keys, with keys that differ only in case, or with a member in another
// case than the specification's. It walks the tokens once, without recursion.
func checkJSON(b []byte) error {
	type level struct {
		object bool
		free   bool                // keys are the user's: annotations
		key    bool                // the next token is a key
		last   string              // the last key
		seen   map[string]struct{} // keys, folded unless free
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var stack []level
	for {
		tok, err := dec.Token()
		if err != nil {
			return errors.New("malformed JSON")
		}
		delim, isDelim := tok.(json.Delim)
		if len(stack) == 0 && delim != '{' {
			return errors.New("not a JSON object")
		}
		switch {
		case isDelim && (delim == '{' || delim == '['):
			if len(stack) == maxDepth {
				return fmt.Errorf("nested deeper than %d", maxDepth)
			}
			free := len(stack) > 0 && (stack[len(stack)-1].free || stack[len(stack)-1].last == "annotations")
			stack = append(stack, level{object: delim == '{', free: free, key: delim == '{', seen: map[string]struct{}{}})
			continue
		case isDelim:
			if stack = stack[:len(stack)-1]; len(stack) == 0 {
				if _, err := dec.Token(); err != io.EOF {
					return errors.New("data after the JSON object")
				}
				return nil
			}
		}
		top := &stack[len(stack)-1]
		if s, isString := tok.(string); isString && top.key {
			key := s
			if !top.free {
				key = fold(s)
				if name, ok := member(s); ok && name != s {
					return fmt.Errorf("key %s is not spelled %s", Quote(s), Quote(name))
				}
			}
			if _, dup := top.seen[key]; dup {
				return fmt.Errorf("duplicate key %s", Quote(s))
			}
			top.seen[key] = struct{}{}
			top.key, top.last = false, s
			continue
		}
		top.key = top.object
	}
}
