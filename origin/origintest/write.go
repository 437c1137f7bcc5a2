package origintest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

var pushTests = []test{
	{"again", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"), []byte("layer"))
		for range 2 {
			got := tree.Push(t, reg, "a", "x", "y")
			if got.Digest != tree.Digest() || got.Size != tree.Manifest.Size || got.MediaType != tree.Manifest.MediaType {
				t.Errorf("push answers with %+v", got.Descriptor)
			}
		}
		CheckTags(t, reg, "a", []string{"x", "y"})
		CheckManifest(t, reg, "a", "y", tree.Manifest)
	}},
	{"a tag moves", func(t *testing.T, reg origin.Registry) {
		one, two := Image([]byte(`{"n":1}`)), Image([]byte(`{"n":2}`))
		one.Push(t, reg, "a", "x", "one")
		CheckManifest(t, reg, "a", "x", one.Manifest)
		two.Push(t, reg, "a", "x")
		CheckManifest(t, reg, "a", "x", two.Manifest)
		CheckManifest(t, reg, "a", "one", one.Manifest)
		CheckManifest(t, reg, "a", one.Digest().String(), one.Manifest)
		PushManifest(t, reg, "a", one.Manifest, "x") // and back
		CheckManifest(t, reg, "a", "x", one.Manifest)
		CheckTags(t, reg, "a", []string{"one", "x"})
	}},
	{"by digest only", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"))
		tree.Push(t, reg, "a")
		CheckManifest(t, reg, "a", tree.Digest().String(), tree.Manifest)
		CheckTags(t, reg, "a", nil)
	}},
	{"sha512", func(t *testing.T, reg origin.Registry) {
		layer := []byte("layer")
		d := PushBlobAs(t, reg, "a", digest.SHA512.FromBytes(layer), layer)
		CheckBlob(t, reg, "a", d, layer)
		config := NewBlob(v1.MediaTypeEmptyJSON, []byte("{}"))
		PushBlob(t, reg, "a", config.Bytes)
		m := image(v1.Manifest{MediaType: v1.MediaTypeImageManifest}, config,
			[]Blob{{Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: d, Size: int64(len(layer))}}}).Manifest
		m.Digest = digest.SHA512.FromBytes(m.Bytes)
		PushManifest(t, reg, "a", m, "tag")
		CheckManifest(t, reg, "a", "tag", m)
		CheckManifest(t, reg, "a", m.Digest.String(), m)
	}},
	{"the digest does not match", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"))
		tree.Push(t, reg, "a")
		m := tree.Manifest
		m.Bytes = append(bytes.Clone(m.Bytes), ' ')
		_, err := reg.Push(t.Context(), Repo(t, "a"), m, origin.PushOptions{Tags: []origin.Ref{Ref(t, "x")}})
		wantError(t, "push", err, origin.ErrDigestInvalid)
		_, err = reg.Resolve(t.Context(), Repo(t, "a"), Ref(t, "x"))
		wantUnknown(t, "the tag", err)
		_, err = reg.Resolve(t.Context(), Repo(t, "a"), Ref(t, digest.FromBytes(m.Bytes).String()))
		wantUnknown(t, "what was pushed", err)
	}},
	{"a blob is missing", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"), []byte("layer"))
		PushBlob(t, reg, "a", tree.Blobs[0].Bytes)
		PushBlob(t, reg, "b", tree.Blobs[1].Bytes) // in another repository
		refusePush(t, reg, "a", tree.Manifest, origin.ErrManifestBlobUnknown)
	}},
	{"a child is missing", func(t *testing.T, reg origin.Registry) {
		one, two := Image([]byte(`{"n":1}`)), Image([]byte(`{"n":2}`))
		one.Push(t, reg, "a")
		two.Push(t, reg, "b")
		refusePush(t, reg, "a", Index(one, two).Manifest, origin.ErrManifestBlobUnknown)
	}},
	{"a child as a blob is missing", func(t *testing.T, reg origin.Registry) {
		child := Image([]byte("{}"))
		PushBlob(t, reg, "a", child.Manifest.Bytes)
		refusePush(t, reg, "a", Index(child).Manifest, origin.ErrManifestBlobUnknown)
	}},
	{"a layer with urls may be missing", func(t *testing.T, reg origin.Registry) {
		config := NewBlob(v1.MediaTypeEmptyJSON, []byte("{}"))
		PushBlob(t, reg, "a", config.Bytes)
		far := NewBlob(v1.MediaTypeImageLayer, []byte("far away"))
		far.URLs = []string{"https://weir.invalid/layer"}
		m := image(v1.Manifest{MediaType: v1.MediaTypeImageManifest}, config, []Blob{far}).Manifest
		PushManifest(t, reg, "a", m, "x")
		CheckManifest(t, reg, "a", "x", m)
	}},
	{"a subject may come later", func(t *testing.T, reg origin.Registry) {
		subject := Image([]byte("{}"))
		sbom := Artifact(subject.Manifest.Descriptor.Descriptor, "application/x", map[string]string{"k": "v"}, []byte("sbom"))
		sbom.Push(t, reg, "a")
		CheckReferrers(t, reg, "a", subject.Digest(), "", []Tree{sbom})
		subject.Push(t, reg, "a")
		CheckReferrers(t, reg, "a", subject.Digest(), "", []Tree{sbom})
		sbom.Push(t, reg, "a")
		CheckReferrers(t, reg, "a", subject.Digest(), "", []Tree{sbom})
	}},
	{"what can be read in two ways", func(t *testing.T, reg origin.Registry) {
		config := NewBlob(v1.MediaTypeEmptyJSON, []byte("{}"))
		PushBlob(t, reg, "a", config.Bytes)
		c := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, config.MediaType, config.Digest)
		for _, b := range []string{
			`{"schemaVersion":2,"config":` + c + `,"layers":[],"manifests":[]}`,
			`{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","config":` + c + `,"layers":[]}`,
			`{"schemaVersion":2,"config":` + c + `,"layers":[],"layers":[]}`,
			`{"schemaVersion":2,"config":` + c + `,"layers":[],"Layers":[]}`,
			`{"schemaVersion":2,"config":` + strings.Replace(c, "2}", "-1}", 1) + `,"layers":[]}`,
			`{"schemaVersion":2,"config":` + strings.Replace(c, "2}", "9223372036854775807}", 1) + `,"layers":[]}`,
			`{"schemaVersion":2,"config":` + c + `,"layers":[]}{}`,
			``,
		} {
			refusePush(t, reg, "a", NewManifest(v1.MediaTypeImageManifest, []byte(b)), origin.ErrManifestInvalid)
		}
	}},
}

// refusePush pushes a manifest which the registry must refuse without a trace.
func refusePush(t *testing.T, reg origin.Registry, repo string, m origin.Manifest, want error) {
	t.Helper()
	_, err := reg.Push(t.Context(), Repo(t, repo), m, origin.PushOptions{Tags: []origin.Ref{Ref(t, "refused")}})
	wantError(t, fmt.Sprintf("push %.200s", m.Bytes), err, want)
	for _, ref := range []string{"refused", m.Digest.String()} {
		_, err := reg.Resolve(t.Context(), Repo(t, repo), Ref(t, ref))
		wantUnknown(t, "after a refused push, "+ref, err)
	}
}

var mountTests = []test{
	{"from", func(t *testing.T, reg origin.Registry) {
		d := PushBlob(t, reg, "a", []byte("blob"))
		got, err := reg.Mount(t.Context(), Repo(t, "a"), Repo(t, "b"), d)
		if err != nil || got.Digest != d {
			t.Fatalf("mount: %+v, %v", got.Descriptor, err)
		}
		CheckBlob(t, reg, "b", d, []byte("blob"))
		_, err = reg.Mount(t.Context(), Repo(t, "a"), Repo(t, "b"), d)
		wantNil(t, "mount again", err)
		_, err = reg.Stat(t.Context(), Repo(t, "c"), d)
		wantUnknown(t, "where it was not mounted", err)
	}},
	{"from where it is not", func(t *testing.T, reg origin.Registry) {
		d := PushBlob(t, reg, "a", []byte("blob"))
		_, err := reg.Mount(t.Context(), Repo(t, "b"), Repo(t, "c"), d)
		wantError(t, "mount from a repository without it", err, origin.ErrBlobUnknown)
		_, err = reg.Stat(t.Context(), Repo(t, "c"), d)
		wantUnknown(t, "after a refused mount", err)
	}},
	{"from anywhere", func(t *testing.T, reg origin.Registry) {
		d := PushBlob(t, reg, "a", []byte("blob"))
		_, err := reg.Mount(t.Context(), origin.Repo{}, Repo(t, "b"), d)
		if errors.Is(err, origin.ErrBlobUnknown) { // whoever calls may not read it, or it is not looked for
			_, err := reg.Stat(t.Context(), Repo(t, "b"), d)
			wantUnknown(t, "after a refused mount", err)
			return
		}
		wantNil(t, "mount", err)
		CheckBlob(t, reg, "b", d, []byte("blob"))
	}},
	{"nothing", func(t *testing.T, reg origin.Registry) {
		d := digest.FromString("nothing has this content")
		_, err := reg.Mount(t.Context(), origin.Repo{}, Repo(t, "b"), d)
		wantError(t, "mount", err, origin.ErrBlobUnknown)
		_, err = reg.Stat(t.Context(), Repo(t, "b"), d)
		wantUnknown(t, "after a refused mount", err)
	}},
}
