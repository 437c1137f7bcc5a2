package origin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// FuzzCheckManifest looks for a document that is taken and that somebody reads in
// another way: the types of the image specification, a reader that minds case, or
// one for whom the first of two keys counts.
func FuzzCheckManifest(f *testing.F) {
	for _, mediaType := range origin.ManifestTypes() {
		for _, body := range []string{
			img(""), idx(""), img(`,"mediaType":"` + mediaType + `"`), idx(`,"mediaType":"` + mediaType + `"`),
			img(`,"artifactType":"a/b","annotations":{"a":"1","A":"2"},"subject":` + desc("")),
			img(`,"manifests":[]`), idx(`,"config":` + desc("")), img(`,"Layers":[]`), img(`,"layers":[]`), img(`,"\u006cayers":null`),
			img(`,"Subject":` + desc("")), idx(`,"artifacttype":"a/b"`), img(`,"artifactType":"a/b","artifactType":"c/d"`),
			img(`,"x":{"y":[1,2.5e3,null,true]}`), `{"schemaVersion":2,"config":` + desc(`,"data":"e30="`) + `}`,
			`{"schemaVersion":2,"manifests":[` + desc(`,"platform":{"os":"linux","architecture":"amd64"}`) + `]}`,
		} {
			f.Add(mediaType, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, mediaType string, b []byte) {
		c, err := origin.CheckManifest(mediaType, b)
		if err != nil {
			if !errors.Is(err, origin.ErrManifestInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !slices.Contains(origin.ManifestTypes(), mediaType) {
			t.Fatalf("media type %q was taken", mediaType)
		}
		lenient, err := origin.ReadManifest(mediaType, b)
		if err != nil || !same(c, lenient) {
			t.Errorf("read leniently: %+v (%v), strictly: %+v", lenient, err, c)
		}
		sameAsSpecification(t, mediaType, b, c)
		// A reader that takes the exact spelling alone, and the first of two keys.
		exact, err := json.Marshal(firstOf(t, b))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := origin.ReadManifest(mediaType, exact); err != nil || !same(c, again) {
			t.Errorf("by exact keys: %+v (%v), else %+v", again, err, c)
		}
		taken := 0
		for _, other := range origin.ManifestTypes() {
			if o, err := origin.CheckManifest(other, b); err == nil {
				taken++
				if o.Index != c.Index {
					t.Errorf("an image by %s and an index by %s, or the other way round", mediaType, other)
				}
			}
		}
		if taken != 1 {
			t.Errorf("taken as %d media types", taken)
		}
	})
}

// FuzzReadManifest looks for an upstream's document that makes a promise broken:
// of what Content holds, digests are valid and sizes not negative.
func FuzzReadManifest(f *testing.F) {
	for _, body := range []string{
		img(""), idx(""), `{"layers":[{"digest":"sha256:..","size":-1}],"subject":{"digest":"x"}}`, `{"config":{"mediaType":"a/b"}}`, `{"fsLayers":[{"blobSum":"x"}]}`,
	} {
		f.Add("", []byte(body))
		f.Add(origin.MediaTypeOCIIndex, []byte(body))
	}
	f.Fuzz(func(t *testing.T, mediaType string, b []byte) {
		c, err := origin.ReadManifest(mediaType, b)
		if err != nil {
			if !errors.Is(err, origin.ErrManifestInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		named := slices.Concat(c.Blobs, c.Manifests)
		if c.Subject != nil {
			named = append(named, *c.Subject)
		}
		for _, d := range named {
			if _, err := origin.ParseDigest(d.Digest.String()); err != nil || d.Size < 0 {
				t.Errorf("descriptor %+v", d)
			}
		}
	})
}

func same(a, b origin.Content) bool {
	equal := func(a, b v1.Descriptor) bool {
		return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType && slices.Equal(a.URLs, b.URLs) && bytes.Equal(a.Data, b.Data)
	}
	return a.Index == b.Index && a.ArtifactType == b.ArtifactType && maps.Equal(a.Annotations, b.Annotations) &&
		slices.EqualFunc(a.Blobs, b.Blobs, equal) && slices.EqualFunc(a.Manifests, b.Manifests, equal) &&
		(a.Subject == nil) == (b.Subject == nil) && (a.Subject == nil || equal(*a.Subject, *b.Subject))
}

// sameAsSpecification reads the document with the image specification's own types.
func sameAsSpecification(t *testing.T, mediaType string, b []byte, c origin.Content) {
	t.Helper()
	var m v1.Manifest
	var x v1.Index
	if err := errors.Join(json.Unmarshal(b, &m), json.Unmarshal(b, &x)); err != nil {
		t.Fatal(err)
	}
	want := origin.Content{Index: c.Index, Subject: m.Subject, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	if c.Index {
		want.Manifests = x.Manifests
		if m.Config.Digest != "" || m.Layers != nil {
			t.Errorf("the index is an image too: %s", b)
		}
	} else {
		want.Blobs = append([]v1.Descriptor{m.Config}, m.Layers...)
		if want.ArtifactType == "" {
			want.ArtifactType = m.Config.MediaType
		}
		if x.Manifests != nil {
			t.Errorf("the image is an index too: %s", b)
		}
	}
	if m.MediaType != "" && m.MediaType != mediaType || m.SchemaVersion != 2 {
		t.Errorf("mediaType %q and schemaVersion %d, pushed as %q", m.MediaType, m.SchemaVersion, mediaType)
	}
	if !same(c, want) {
		t.Errorf("%+v, by the specification's types %+v", c, want)
	}
}

// firstOf decodes an object by hand: of equal keys the first counts, and a member
// in another case than the specification's becomes one that no reader looks for.
func firstOf(t *testing.T, b []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return firstValue(t, dec, false)
}

func firstValue(t *testing.T, dec *json.Decoder, free bool) any {
	t.Helper()
	tok, err := dec.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch tok {
	case json.Delim('{'):
		m := map[string]any{}
		for dec.More() {
			key := firstValue(t, dec, true).(string)
			v := firstValue(t, dec, free || key == "annotations")
			if !free && !slices.Contains(specified, key) {
				key = "x-" + key
			}
			if _, ok := m[key]; !ok {
				m[key] = v
			}
		}
		firstValue(t, dec, true) // the end
		return m
	case json.Delim('['):
		l := []any{}
		for dec.More() {
			l = append(l, firstValue(t, dec, free))
		}
		firstValue(t, dec, true)
		return l
	default:
		return tok
	}
}

// specified are the members that the image specification gives a meaning.
var specified = []string{
	"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations",
	"digest", "size", "urls", "data", "platform", "architecture", "os", "os.version", "os.features", "variant",
}
