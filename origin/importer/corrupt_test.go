package importer_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
)

// What is wrong is named and not taken, nor is what names it; all else is.
func TestDistributionCorrupt(t *testing.T) {
	at := func(d digest.Digest) string { return "team/app@" + d.String() }
	base, layer := app.Blobs[1].Digest, app.Blobs[2].Digest
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		spoil func(s storage)
		want  map[string]string // what fails, and why
		there []string          // tags of team/app that are there all the same
	}{
		"a layer has other bytes": {
			func(s storage) { s.file(flip(app.Blobs[2].Bytes), dataOf(layer)) },
			map[string]string{
				at(app.Digest()): "blob " + layer.String() + ": is corrupt", at(multi.Digest()): "manifest " + app.Digest().String(),
				"team/app:app": "is not taken", "team/app:multi": "is not taken",
			},
			[]string{"tool"},
		},
		"a layer is cut": {
			func(s storage) { s.file(app.Blobs[2].Bytes[:1], dataOf(layer)) },
			map[string]string{
				at(app.Digest()): "blob " + layer.String() + ": is corrupt: it has 1 bytes, not 3", at(multi.Digest()): layer.String(),
				"team/app:app": "", "team/app:multi": "",
			},
			[]string{"tool"},
		},
		"a layer that all have is gone": {
			func(s storage) { delete(s.MapFS, "docker/registry/v2/"+dataOf(base)) },
			map[string]string{
				at(app.Digest()): "blob " + base.String() + ": its content is not there", at(tool.Digest()): base.String(), at(multi.Digest()): base.String(),
				"team/app:app": "", "team/app:multi": "", "team/app:tool": "",
			},
			nil,
		},
		"a layer's link is gone": {
			func(s storage) { delete(s.MapFS, "docker/registry/v2/"+linkOf("team/app", "_layers", layer)) },
			map[string]string{
				at(app.Digest()): "blob " + layer.String() + ": its link is not there", at(multi.Digest()): "",
				"team/app:app": "", "team/app:multi": "",
			},
			[]string{"tool"},
		},
		"a layer's link holds no digest": {
			func(s storage) { s.file([]byte("sha256:../../../etc"), linkOf("team/app", "_layers", layer)) },
			map[string]string{
				at(app.Digest()): `its link is corrupt: it holds "sha256:../../../etc"`, at(multi.Digest()): "",
				"team/app:app": "", "team/app:multi": "",
			},
			[]string{"tool"},
		},
		"a layer's link leads to another layer": {
			func(s storage) { s.file([]byte(tool.Blobs[2].Digest), linkOf("team/app", "_layers", layer)) },
			map[string]string{
				at(app.Digest()): "blob " + layer.String() + ": is corrupt", at(multi.Digest()): "",
				"team/app:app": "", "team/app:multi": "",
			},
			[]string{"tool"},
		},
		"a manifest has other bytes": {
			func(s storage) { s.file(flip(tool.Manifest.Bytes), dataOf(tool.Digest())) },
			map[string]string{
				at(tool.Digest()): "is corrupt: its content has another digest", at(multi.Digest()): "manifest " + tool.Digest().String() + ": is corrupt",
				"team/app:tool": "", "team/app:multi": "",
			},
			[]string{"app"},
		},
		"a manifest's link is of another": {
			func(s storage) {
				s.file([]byte(app.Digest()), linkOf("team/app", "_manifests/revisions", tool.Digest()))
			},
			map[string]string{at(tool.Digest()): "is corrupt", at(multi.Digest()): "", "team/app:tool": "", "team/app:multi": ""},
			[]string{"app"},
		},
		"a child is not there": {
			func(s storage) {
				delete(s.MapFS, "docker/registry/v2/"+linkOf("team/app", "_manifests/revisions", tool.Digest()))
			},
			map[string]string{at(multi.Digest()): "manifest " + tool.Digest().String() + ": its link is not there", "team/app:tool": "", "team/app:multi": ""},
			[]string{"app"},
		},
		"a tag's link is empty": {
			func(s storage) { s.file(nil, "repositories/team/app/_manifests/tags/app/current/link") },
			map[string]string{"team/app:app": `its link is corrupt: it holds ""`},
			[]string{"multi", "tool"},
		},
		"a tag has no link": {
			func(s storage) {
				delete(s.MapFS, "docker/registry/v2/repositories/team/app/_manifests/tags/app/current/link")
			},
			map[string]string{"team/app:app": "its link is not there"},
			[]string{"multi", "tool"},
		},
		"a tag names what nobody pushed": {
			func(s storage) { s.tag("team/app", "app", orphaned.Digest) },
			map[string]string{"team/app:app": "names manifest " + orphaned.Digest.String() + ", which the repository does not have"},
			[]string{"multi", "tool"},
		},
		"a tag that is none": {
			func(s storage) { s.tag("team/app", "-x", app.Digest()) },
			map[string]string{"team/app:-x": `invalid tag "-x"`},
			[]string{"app", "multi", "tool"},
		},
		"a repository that is none": {
			func(s storage) { s.push("Upper/Case", app, "v1") },
			map[string]string{"Upper/Case": `invalid repository name "Upper/Case"`},
			[]string{"app", "multi", "tool"},
		},
		"schema 1": {
			func(s storage) {
				m := origintest.NewManifest("", []byte(`{"schemaVersion":1,"name":"x","fsLayers":[]}`))
				s.manifest("team/app", m)
			},
			map[string]string{at(digest.FromString(`{"schemaVersion":1,"name":"x","fsLayers":[]}`)): "schema 1, which is not taken"},
			[]string{"app", "multi", "tool"},
		},
		"what is no manifest": {
			func(s storage) { s.manifest("team/app", origintest.NewManifest("", []byte(`[]`))) },
			map[string]string{at(digest.FromString(`[]`)): "not a JSON object"},
			[]string{"app", "multi", "tool"},
		},
		"a manifest of a type that no registry knows": {
			func(s storage) {
				s.manifest("team/app", origintest.NewManifest("", []byte(`{"schemaVersion":2,"mediaType":"a/b"}`)))
			},
			map[string]string{at(digest.FromString(`{"schemaVersion":2,"mediaType":"a/b"}`)): `media type "a/b" is not one of a manifest`},
			[]string{"app", "multi", "tool"},
		},
		"a manifest that is too large": {
			func(s storage) {
				s.manifest("team/app", origintest.NewManifest("", bytes.Repeat([]byte(" "), largest+1)))
			},
			map[string]string{at(digest.FromBytes(bytes.Repeat([]byte(" "), largest+1))): "is larger than 1048576 bytes (origin.max_manifest_size)"},
			[]string{"app", "multi", "tool"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStorage()
			s.push("team/app", multi, "multi")
			s.tag("team/app", "app", app.Digest())
			s.tag("team/app", "tool", tool.Digest())
			c.spoil(s)
			r := newRegistry(t)
			for range 2 { // the second time nothing has changed, and it is said again
				_, show := distribute(t, s, r, nil)
				wantFailed(t, show, c.want)
			}
			images := map[string]origintest.Tree{"app": app, "tool": tool, "multi": multi}
			for tag, img := range images {
				if slices.Contains(c.there, tag) {
					wantImage(t, r, "team/app", tag, img)
				} else {
					wantNoManifest(t, r, "team/app", tag)
				}
			}
		})
	}
}
