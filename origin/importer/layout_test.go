package importer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/importer"
	"github.com/weir-registry/weir/origin/origintest"
)

const (
	refName   = v1.AnnotationRefName
	wholeName = "io.containerd.image.name"
)

// ociLayout is an OCI image layout, as other programs write it.
type ociLayout struct {
	fstest.MapFS
	entries []v1.Descriptor
}

func newLayout() *ociLayout {
	return &ociLayout{MapFS: fstest.MapFS{"oci-layout": {Data: []byte(`{"imageLayoutVersion": "1.0.0"}`)}}}
}

// put puts an image's content into the layout.
func (l *ociLayout) put(x origintest.Tree) {
	for _, c := range x.Children {
		l.put(c)
	}
	for _, b := range x.Blobs {
		l.blob(b.Digest, b.Bytes)
	}
	l.blob(x.Digest(), x.Manifest.Bytes)
}

func (l *ociLayout) blob(d digest.Digest, b []byte) {
	l.MapFS[path.Join("blobs", d.Algorithm().String(), d.Encoded())] = &fstest.MapFile{Data: b, Mode: 0o644}
}

// add makes an image an entry with those annotations.
func (l *ociLayout) add(x origintest.Tree, annotations ...string) {
	l.put(x)
	d := x.Manifest.Descriptor.Descriptor
	for i := 0; i < len(annotations); i += 2 {
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[annotations[i]] = annotations[i+1]
	}
	l.entries = append(l.entries, d)
}

func (l *ociLayout) files(t *testing.T) fstest.MapFS {
	t.Helper()
	b, err := json.Marshal(v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: append([]v1.Descriptor{}, l.entries...)})
	must(t, err)
	b = bytes.Replace(b, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1)
	files := maps.Clone(l.MapFS)
	files["index.json"] = &fstest.MapFile{Data: b, Mode: 0o644}
	return files
}

// parse reads whole names as names of repositories, with a tag or a digest behind.
func parse(whole string) (n importer.Name, err error) {
	name, hash, hashed := strings.Cut(whole, "@")
	if hashed {
		if n.Digest, err = origin.ParseDigest(hash); err != nil {
			return n, err
		}
	}
	name, n.Tag, _ = strings.Cut(name, ":")
	n.Repo, err = origin.ParseRepo(name)
	return n, err
}

// takeLayout imports a layout; rest is where images go that have no whole name, or "".
func takeLayout(t *testing.T, dir fs.FS, r importer.Registry, rest string) (importer.Summary, *shown) {
	t.Helper()
	show := &shown{}
	names := importer.Names{Parse: parse}
	if rest != "" {
		var err error
		names.Rest, err = parse(rest)
		must(t, err)
	}
	sum, err := importer.Layout(t.Context(), dir, r, names, importer.Options{MaxManifestSize: largest, Show: show})
	must(t, err)
	if sum.Failed != len(show.failed) || show.bars != 0 {
		t.Errorf("%d failed, %d bars have not ended, and shown were %q", sum.Failed, show.bars, show.failed)
	}
	return sum, show
}

// An entry goes where its names say: as containerd and buildx write them, as skopeo, crane,
// buildah and oras do, and as weir does.
func TestLayoutNames(t *testing.T) {
	at := func(repo string, x origintest.Tree) string { return repo + "@" + x.Digest().String() }
	for name, c := range map[string]struct {
		annotations []string
		rest        string
		want        string // where it is then
		why         string // it is not taken
	}{
		"containerd":                  {[]string{wholeName, "docker.io/library/nginx:1.27", refName, "1.27"}, "", "docker.io/library/nginx:1.27", ""},
		"buildx, several names":       {[]string{wholeName, "docker.io/library/nginx:1.27", refName, "1.27"}, "other/one:2", "docker.io/library/nginx:1.27", ""},
		"by digest":                   {[]string{wholeName, at("team/app", app), refName, app.Digest().String()}, "", at("team/app", app), ""},
		"by tag and digest":           {[]string{wholeName, "team/app:v1@" + app.Digest().String()}, "", "team/app:v1", ""},
		"a whole name without a tag":  {[]string{wholeName, "team/app", refName, "v1"}, "", "team/app:v1", ""},
		"nor another":                 {[]string{wholeName, "team/app"}, "", at("team/app", app), ""},
		"skopeo, told a tag":          {[]string{refName, "v1"}, "team/app", "team/app:v1", ""},
		"skopeo, told a whole name":   {[]string{refName, "docker.io/library/nginx:1.27"}, "", "docker.io/library/nginx:1.27", ""},
		"skopeo, told a name and tag": {[]string{refName, "nginx:1.27"}, "", "nginx:1.27", ""},
		"crane":                       {nil, "team/app:v1", "team/app:v1", ""},
		"crane, without a tag":        {nil, "team/app", at("team/app", app), ""},
		"a tag that is told wins":     {[]string{refName, "v1"}, "team/app:v2", "team/app:v2", ""},
		"a reference that is no tag":  {[]string{refName, "-x"}, "team/app", at("team/app", app), ""},
		"nothing":                     {nil, "", "", "its whole name (io.containerd.image.name) is missing"},
		"a tag and no repository":     {[]string{refName, "v1"}, "", "", "is missing"},
		"a digest and no repository":  {[]string{refName, app.Digest().String()}, "", "", "is missing"},
		"a name that is none":         {[]string{wholeName, "UPPER/case:v1"}, "", "", `invalid repository name "UPPER/case"`},
		"a tag that is none":          {[]string{wholeName, "team/app:-x"}, "", "", `invalid tag "-x"`},
		"the digest of another":       {[]string{wholeName, at("team/app", tool)}, "", "", "has another digest"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout()
			l.add(app, c.annotations...)
			r := newRegistry(t)
			sum, show := takeLayout(t, l.files(t), r, c.rest)
			if c.want == "" {
				if len(show.failed) != 1 || !strings.Contains(show.failed[0], c.why) || sum.Tags > 0 {
					t.Errorf("%+v, %q, want %s", sum, show.failed, c.why)
				}
				return
			}
			if len(show.failed) > 0 || !slices.Equal(show.done, []string{c.want + " " + app.Digest().String()}) {
				t.Errorf("%q, %q", show.done, show.failed)
			}
			n, err := parse(c.want)
			must(t, err)
			wantImage(t, r, n.Repo.String(), n.Tag, app)
			tags, err := r.Tags(t.Context(), n.Repo, origin.Page{N: 10})
			must(t, err)
			if n.Tag == "" && len(tags.Items) > 0 {
				t.Errorf("tags %q", tags.Items)
			}
		})
	}
}

// Of several images without a whole name none has a tag that is said for one.
func TestLayoutNamesOfSeveral(t *testing.T) {
	l := newLayout()
	l.add(app, refName, "a")
	l.add(tool, refName, "b")
	r := newRegistry(t)
	_, show := takeLayout(t, l.files(t), r, "team/app:v1")
	if len(show.failed) != 2 || !strings.Contains(show.failed[0], "it is one of 2 that have no whole name") {
		t.Errorf("%q", show.failed)
	}
	_, show = takeLayout(t, l.files(t), r, "team/app")
	wantFailed(t, show, nil)
	wantImage(t, r, "team/app", "a", app)
	wantImage(t, r, "team/app", "b", tool)
}

// What refers to an image goes where that goes, though nothing names it, as do those that
// refer to an image of an index, or to one another, in whatever order they are written.
func TestLayoutReferrers(t *testing.T) {
	child := origintest.Artifact(app.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("of a child"))
	for _, rest := range []string{"", "team/app", "team/app:v1"} {
		l := newLayout()
		l.add(signed)
		l.add(sbom)
		l.add(child)
		if rest == "" {
			l.add(multi, wholeName, "team/app:v1")
			l.add(multi, wholeName, "other:v1")
		} else {
			l.add(multi, refName, "v1")
		}
		r := newRegistry(t)
		_, show := takeLayout(t, l.files(t), r, rest)
		wantFailed(t, show, nil)
		repos := []string{"team/app"}
		if rest == "" {
			repos = append(repos, "other")
		}
		for _, repo := range repos {
			wantImage(t, r, repo, "v1", multi)
			origintest.CheckReferrers(t, r, repo, multi.Digest(), "", []origintest.Tree{sbom})
			origintest.CheckReferrers(t, r, repo, sbom.Digest(), "", []origintest.Tree{signed})
			origintest.CheckReferrers(t, r, repo, app.Digest(), "", []origintest.Tree{child})
			origintest.CheckTags(t, r, repo, []string{"v1"})
		}
	}
	// One that refers to what is not here has no name of its own.
	l := newLayout()
	l.add(signed)
	_, show := takeLayout(t, l.files(t), newRegistry(t), "")
	wantFailed(t, show, map[string]string{signed.Digest().String(): "is missing"})
	r := newRegistry(t)
	_, show = takeLayout(t, l.files(t), r, "team/app:v1")
	wantFailed(t, show, nil)
	wantImage(t, r, "team/app", "", signed)
}

// An image of which something is wrong is not taken at all; the others are.
func TestLayoutCorrupt(t *testing.T) {
	layer := app.Blobs[2].Digest
	file := func(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }
	for name, c := range map[string]struct {
		spoil func(l *ociLayout)
		why   string
	}{
		"a layer has other bytes":    {func(l *ociLayout) { l.blob(layer, []byte("xyz")) }, "blob " + layer.String() + ": is corrupt"},
		"a layer is not there":       {func(l *ociLayout) { delete(l.MapFS, file(layer)) }, "blob " + layer.String() + ": is not there"},
		"a layer is a directory":     {func(l *ociLayout) { l.MapFS[file(layer)] = &fstest.MapFile{Mode: fs.ModeDir | 0o755} }, "is not a file"},
		"a manifest has other bytes": {func(l *ociLayout) { l.blob(app.Digest(), []byte("{}")) }, "is corrupt"},
		"a manifest is not there":    {func(l *ociLayout) { delete(l.MapFS, file(app.Digest())) }, "is not there"},
		"it says another type than its entry": {func(l *ociLayout) {
			m := origintest.NewManifest(v1.MediaTypeImageManifest, bytes.Replace(app.Manifest.Bytes, []byte("oci.image.manifest.v1"), []byte("oci.image.index.v1"), 1))
			l.entries[0] = m.Descriptor.Descriptor
			l.entries[0].Annotations = map[string]string{wholeName: "team/app:v1"}
			l.blob(m.Digest, m.Bytes)
		}, "an index has neither config nor layers"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout()
			l.add(app, wholeName, "team/app:v1")
			l.add(tool, wholeName, "team/tool:v1")
			c.spoil(l)
			r := newRegistry(t)
			_, show := takeLayout(t, l.files(t), r, "")
			wantFailed(t, show, map[string]string{"team/app:v1": c.why})
			wantNoManifest(t, r, "team/app", "v1")
			wantNoManifest(t, r, "team/app", app.Digest().String())
			wantImage(t, r, "team/tool", "v1", tool)
		})
	}
}

// Indexes in indexes come to an end.
func TestLayoutDeep(t *testing.T) {
	x := app
	for range 20 {
		x = origintest.Index(x)
	}
	l := newLayout()
	l.add(x, wholeName, "team/app:v1")
	_, show := takeLayout(t, l.files(t), newRegistry(t), "")
	wantFailed(t, show, map[string]string{"team/app:v1": "nested too deep"})
}

// What an index names that is no manifest is a blob.
func TestLayoutUnknownChildren(t *testing.T) {
	child := origintest.NewBlob("application/x", []byte("something"))
	index, err := json.Marshal(v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{
		app.Manifest.Descriptor.Descriptor, {MediaType: "application/x", Digest: child.Digest, Size: 9},
	}})
	must(t, err)
	index = bytes.Replace(index, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1)
	x := origintest.Tree{Manifest: origintest.NewManifest(v1.MediaTypeImageIndex, index), Children: []origintest.Tree{app}, Blobs: []origintest.Blob{child}}
	l := newLayout()
	l.add(x, wholeName, "team/app:v1")
	r := newRegistry(t)
	_, show := takeLayout(t, l.files(t), r, "")
	wantFailed(t, show, nil)
	wantImage(t, r, "team/app", "v1", x)
	dir := filepath.Join(t.TempDir(), "layout")
	show = exportTo(t, r, dir, "team/app:v1")
	wantFailed(t, show, nil)
	_, err = os.Stat(filepath.Join(dir, "blobs/sha256", child.Digest.Encoded()))
	must(t, err)
}

// What is no layout is not an empty one.
func TestLayoutNone(t *testing.T) {
	good := newLayout().files(t)
	with := func(name, text string) fstest.MapFS {
		files := maps.Clone(good)
		files[name] = &fstest.MapFile{Data: []byte(text)}
		return files
	}
	for name, c := range map[string]struct {
		dir  fs.FS
		none bool
		why  string
	}{
		"nothing":         {fstest.MapFS{}, true, "there is no oci-layout in it"},
		"no index":        {fstest.MapFS{"oci-layout": good["oci-layout"]}, true, "there is no index.json in it"},
		"another version": {with("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), true, "does not say version 1.0.0"},
		"no version":      {with("oci-layout", `x`), true, "does not say version 1.0.0"},
		"malformed":       {with("index.json", `{`), false, "index.json: malformed JSON"},
		"another schema":  {with("index.json", `{"schemaVersion":1}`), false, "schemaVersion is not 2"},
		"a bad list":      {with("index.json", `{"schemaVersion":2,"manifests":{}}`), false, "manifests is no list"},
		"a bad entry":     {with("index.json", `{"schemaVersion":2,"manifests":[1]}`), false, "manifests[0] is no descriptor"},
		"a digest that is a way out": {
			with("index.json", `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../etc/passwd"}]}`), false, "manifests[0] is no descriptor",
		},
	} {
		_, err := importer.Layout(t.Context(), c.dir, newRegistry(t), importer.Names{Parse: parse}, importer.Options{MaxManifestSize: largest, Show: &shown{}})
		if errors.Is(err, importer.ErrNoLayout) != c.none || err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %s", name, err, c.why)
		}
	}
	sum, show := takeLayout(t, with("index.json", `{"schemaVersion":2}`), newRegistry(t), "")
	if sum.Changed() || len(show.failed) > 0 {
		t.Errorf("an empty one: %+v, %q", sum, show.failed)
	}
}
