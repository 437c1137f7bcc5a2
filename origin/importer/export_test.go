package importer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/importer"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// image is what is called repo:tag or repo@digest.
func image(t *testing.T, name string) importer.Image {
	t.Helper()
	n, err := parse(name)
	must(t, err)
	x := importer.Image{Name: name, Whole: "registry.corp/" + n.Repo.String(), Repo: n.Repo, Ref: origin.ByDigest(n.Digest)}
	if n.Tag != "" {
		x.Ref = origintest.Ref(t, n.Tag)
	}
	return x
}

// exportTo exports images into a directory.
func exportTo(t *testing.T, r origin.Reader, dir string, names ...string) *shown {
	t.Helper()
	var images []importer.Image
	for _, name := range names {
		images = append(images, image(t, name))
	}
	show := &shown{}
	failed, err := importer.Export(t.Context(), r, dir, images, show)
	must(t, err)
	if failed != len(show.failed) || show.bars != 0 {
		t.Errorf("%d failed, %d bars have not ended, and shown were %q", failed, show.bars, show.failed)
	}
	if left, err := os.ReadDir(filepath.Join(dir, ".weir-export")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return show
}

// entriesOf gives the entries of a layout's index, each as its two names and digest.
func entriesOf(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	var x v1.Index
	must(t, json.Unmarshal(b, &x))
	var names []string
	for _, d := range x.Manifests {
		names = append(names, d.Annotations[wholeName]+" "+d.Annotations[refName]+" "+d.Digest.String())
	}
	return names
}

// blobsOf gives the blobs of a layout, and wants that each has its digest.
func blobsOf(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	if !errors.Is(err, os.ErrNotExist) {
		must(t, err)
	}
	var names []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", e.Name()))
		must(t, err)
		if got := digest.FromBytes(b); got.Encoded() != e.Name() {
			t.Errorf("%s has digest %s", e.Name(), got)
		}
		names = append(names, "sha256:"+e.Name())
	}
	return names
}

// contents are the digests of all that images have.
func contents(trees ...origintest.Tree) []string {
	var list []string
	for _, x := range trees {
		list = append(list, x.Digest().String())
		for _, b := range x.Blobs {
			list = append(list, b.Digest.String())
		}
		list = append(list, contents(x.Children...)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// A layout has an image with all that refers to it, and to that in turn; what is taken from
// it elsewhere is the same, to the digest.
func TestRoundTrip(t *testing.T) {
	r := newRegistry(t)
	child := origintest.Artifact(tool.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("of a child"))
	for _, x := range []origintest.Tree{multi, sbom, signed, child} {
		x.Push(t, r, "team/app")
	}
	multi.Push(t, r, "team/app", "v1", "v2")
	tool.Push(t, r, "other", "latest")
	dir := filepath.Join(t.TempDir(), "deep", "layout")
	show := exportTo(t, r, dir, "team/app:v1", "other@"+tool.Digest().String())
	wantFailed(t, show, nil)
	by := func(x origintest.Tree) string {
		d := x.Digest().String()
		return "registry.corp/team/app@" + d + " " + d + " " + d
	}
	d := tool.Digest().String()
	want := []string{
		"registry.corp/team/app:v1 v1 " + multi.Digest().String(), by(child), by(sbom), by(signed),
		"registry.corp/other@" + d + " " + d + " " + d,
	}
	if got := entriesOf(t, dir); !slices.Equal(sorted(got), sorted(want)) || got[0] != want[0] {
		t.Errorf("entries\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got, want := blobsOf(t, dir), contents(multi, sbom, signed, child); !slices.Equal(got, want) {
		t.Errorf("blobs %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "oci-layout")); err != nil || string(b) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("%s, %v", b, err)
	}

	there := newRegistry(t)
	_, taken := takeLayout(t, os.DirFS(dir), there, "")
	wantFailed(t, taken, nil)
	for _, x := range []struct {
		repo, tag string
		tree      origintest.Tree
	}{{"team/app", "v1", multi}, {"team/app", "", sbom}, {"team/app", "", signed}, {"team/app", "", child}, {"other", "", tool}} {
		wantImage(t, there, "registry.corp/"+x.repo, x.tag, x.tree)
	}
	for subject, refers := range map[digest.Digest]origintest.Tree{multi.Digest(): sbom, sbom.Digest(): signed, tool.Digest(): child} {
		origintest.CheckReferrers(t, there, "registry.corp/team/app", subject, "", []origintest.Tree{refers})
	}
	sum, _ := takeLayout(t, os.DirFS(dir), there, "")
	if sum.Changed() || sum.Failed > 0 {
		t.Errorf("the second time: %+v", sum)
	}
}

// What is in a layout stays there, whoever wrote it and whatever it says; an image of the
// same name is replaced.
func TestExportMerges(t *testing.T) {
	r := newRegistry(t)
	app.Push(t, r, "team/app", "v1", "v2")
	tool.Push(t, r, "team/tool", "v1")
	l := newLayout()
	l.add(signed, "theirs", "1")
	files := l.files(t)
	files["index.json"].Data = []byte(strings.Replace(string(files["index.json"].Data), `{"schemaVersion":2`, `{"schemaVersion":2,"annotations":{"a":"b"},"x":[1]`, 1))
	files["theirs.txt"] = files["oci-layout"]
	dir := write(t, files)
	wantFailed(t, exportTo(t, r, dir, "team/app:v1"), nil)
	wantFailed(t, exportTo(t, r, dir, "team/tool:v1", "team/app:v2", "team/app:v1"), nil)
	tool.Push(t, r, "team/app", "v1")
	wantFailed(t, exportTo(t, r, dir, "team/app:v1"), nil)
	want := []string{
		"  " + signed.Digest().String(), "registry.corp/team/app:v1 v1 " + tool.Digest().String(),
		"registry.corp/team/tool:v1 v1 " + tool.Digest().String(), "registry.corp/team/app:v2 v2 " + app.Digest().String(),
	}
	if got := entriesOf(t, dir); !slices.Equal(got, want) {
		t.Errorf("entries\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	for _, kept := range []string{`"annotations":{"a":"b"}`, `"x":[1]`, `"theirs":"1"`} {
		if !strings.Contains(string(b), kept) {
			t.Errorf("%s is not in %s any more", kept, b)
		}
	}
	if got, want := blobsOf(t, dir), contents(app, tool, signed); !slices.Equal(got, want) {
		t.Errorf("blobs %q, want %q", got, want)
	}
}

// What an earlier program left torn is written again.
func TestExportMends(t *testing.T) {
	r := newRegistry(t)
	app.Push(t, r, "team/app", "v1")
	l := newLayout()
	l.blob(app.Blobs[1].Digest, []byte("torn"))
	l.blob(app.Digest(), app.Manifest.Bytes[:10])
	dir := write(t, l.files(t))
	must(t, os.Mkdir(filepath.Join(dir, ".weir-export"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, ".weir-export", "sha256-"+app.Blobs[1].Digest.Encoded()), []byte("of one that was killed"), 0o644))
	wantFailed(t, exportTo(t, r, dir, "team/app:v1"), nil)
	if got, want := blobsOf(t, dir), contents(app); !slices.Equal(got, want) {
		t.Errorf("blobs %q, want %q", got, want)
	}
}

// An image that is not whole leaves nothing of itself, and what is missing is named; the
// others are exported.
func TestExportAllOrNothing(t *testing.T) {
	layer := app.Blobs[2].Digest
	for name, c := range map[string]struct {
		spoil func(t *testing.T, r importer.Registry) origin.Reader
		why   []string
	}{
		"a layer is missing": {
			func(t *testing.T, r importer.Registry) origin.Reader {
				must(t, r.(origin.Deleter).DeleteBlob(t.Context(), origintest.Repo(t, "team/app"), layer))
				return r
			},
			[]string{"is not whole here, and not exported: there is no blob " + layer.String()},
		},
		"several things are missing": {
			func(t *testing.T, r importer.Registry) origin.Reader {
				must(t, r.(origin.Deleter).DeleteBlob(t.Context(), origintest.Repo(t, "team/app"), layer))
				must(t, r.(origin.Deleter).DeleteManifest(t.Context(), origintest.Repo(t, "team/app"), origin.ByDigest(tool.Digest())))
				return r
			},
			[]string{"no blob " + layer.String(), "no manifest " + tool.Digest().String()},
		},
		"a layer breaks while it is read": {
			func(_ *testing.T, r importer.Registry) origin.Reader { return forgetful{r, layer} },
			[]string{"blob " + layer.String() + ": is corrupt"},
		},
		"it is not there": {
			func(t *testing.T, r importer.Registry) origin.Reader {
				must(t, r.(origin.Deleter).DeleteManifest(t.Context(), origintest.Repo(t, "team/app"), origintest.Ref(t, "v1")))
				return r
			},
			[]string{"tag v1 is unknown in team/app"},
		},
		"what refers to it is not whole": {
			func(t *testing.T, r importer.Registry) origin.Reader {
				sbom.Push(t, r, "team/app")
				must(t, r.(origin.Deleter).DeleteBlob(t.Context(), origintest.Repo(t, "team/app"), sbom.Blobs[1].Digest))
				return r
			},
			[]string{"no blob " + sbom.Blobs[1].Digest.String()},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			multi.Push(t, r, "team/app", "v1")
			tool.Push(t, r, "team/tool", "v1")
			from := c.spoil(t, r)
			alone := filepath.Join(t.TempDir(), "alone")
			show := exportTo(t, from, alone, "team/app:v1")
			for _, why := range c.why {
				wantFailed(t, show, map[string]string{"team/app:v1": why})
			}
			if _, err := os.Stat(alone); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is a layout with nothing in it: %v", err)
			}
			dir := t.TempDir()
			show = exportTo(t, from, dir, "team/app:v1", "team/tool:v1")
			wantFailed(t, show, map[string]string{"team/app:v1": c.why[0]})
			if got := entriesOf(t, dir); len(got) != 1 || !strings.HasPrefix(got[0], "registry.corp/team/tool:v1 ") {
				t.Errorf("entries %q", got)
			}
			if got, want := blobsOf(t, dir), contents(tool); !slices.Equal(got, want) {
				t.Errorf("blobs %q, want %q", got, want)
			}
		})
	}
}

// Many referrers come in pages; one that is listed and not there is left out.
func TestExportManyReferrers(t *testing.T) {
	r := newRegistry(t)
	app.Push(t, r, "team/app", "v1")
	trees := []origintest.Tree{app}
	for i := range 30 {
		x := origintest.Artifact(app.Manifest.Descriptor.Descriptor, "application/x", map[string]string{"n": string(rune('a' + i))}, []byte("payload"))
		x.Push(t, r, "team/app")
		trees = append(trees, x)
	}
	dir := t.TempDir()
	wantFailed(t, exportTo(t, paged{r, digest.FromString("nobody's")}, dir, "team/app:v1"), nil)
	if got, want := blobsOf(t, dir), contents(trees...); !slices.Equal(got, want) {
		t.Errorf("%d blobs, want %d", len(got), len(want))
	}
}

// paged is a registry that gives seven referrers at a time, and first one that is not there.
type paged struct {
	origin.Reader
	extra digest.Digest
}

func (p paged) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, page origin.Page) (origin.List[origin.Descriptor], error) {
	page.N = min(page.N, 7)
	list, err := p.Reader.Referrers(ctx, repo, d, artifactType, page)
	if page.After == "" && len(list.Items) > 0 {
		list.Items = append([]origin.Descriptor{{Descriptor: v1.Descriptor{Digest: p.extra, MediaType: v1.MediaTypeImageManifest}}}, list.Items...)
	}
	return list, err
}

// Where something else is, nothing is written.
func TestExportElsewhere(t *testing.T) {
	r := newRegistry(t)
	app.Push(t, r, "team/app", "v1")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("dear"), 0o600))
	before := snapshot(t, dir)
	if _, err := importer.Export(t.Context(), r, dir, []importer.Image{image(t, "team/app:v1")}, &shown{}); !errors.Is(err, importer.ErrNoLayout) {
		t.Errorf("%v", err)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// One exports to a layout at a time.
func TestExportTwice(t *testing.T) {
	r := newRegistry(t)
	app.Push(t, r, "team/app", "v1")
	dir := t.TempDir()
	other := &meddler{Reader: r, do: func() {
		if _, err := importer.Export(t.Context(), r, dir, []importer.Image{image(t, "team/app:v1")}, &shown{}); !errors.Is(err, importer.ErrExporting) {
			t.Errorf("beside another: %v", err)
		}
	}}
	wantFailed(t, exportTo(t, other, dir, "team/app:v1"), nil)
	if got, want := blobsOf(t, dir), contents(app); !slices.Equal(got, want) {
		t.Errorf("blobs %q, want %q", got, want)
	}
}

// Of exports that follow one another closely, and some of which find nothing to export, all
// that were reported done are in the layout.
func TestExportsFollow(t *testing.T) {
	r := newRegistry(t)
	t.Run("where there is nothing", func(t *testing.T) {
		exportsFollow(t, r, filepath.Join(t.TempDir(), "layout"))
	})
	t.Run("where there is much", func(t *testing.T) {
		l := newLayout()
		files := l.files(t)
		// An index takes longer to be read than to be replaced.
		much := `{"much":"` + strings.Repeat("x", 128<<10) + `",`
		files["index.json"].Data = []byte(strings.Replace(string(files["index.json"].Data), "{", much, 1))
		exportsFollow(t, r, write(t, files))
	})
}

func exportsFollow(t *testing.T, r importer.Registry, dir string) {
	const exporters, each = 4, 3
	export := func(name string) (failed int) {
		for {
			failed, err := importer.Export(t.Context(), r, dir, []importer.Image{image(t, name)}, &shown{})
			if err == nil {
				return failed
			}
			if !errors.Is(err, importer.ErrExporting) {
				t.Errorf("%s: %v", name, err)
				return 1
			}
			runtime.Gosched()
		}
	}
	var want []string
	var all sync.WaitGroup
	for e := range exporters {
		var names []string
		for i := range each {
			tag := fmt.Sprintf("v%d-%d", e, i)
			app.Push(t, r, "team/app", tag)
			names = append(names, "team/app:"+tag)
			want = append(want, "registry.corp/team/app:"+tag+" "+tag+" "+app.Digest().String())
		}
		all.Go(func() {
			if export("team/app:none") != 1 {
				t.Error("an image was exported that is not there")
			}
			for _, name := range names {
				if export(name) != 0 {
					t.Errorf("%s was not exported", name)
				}
			}
		})
	}
	all.Wait()
	if got := sorted(entriesOf(t, dir)); !slices.Equal(got, sorted(want)) {
		t.Errorf("%d of %d images are in the layout", len(got), len(want))
	}
	if got, want := blobsOf(t, dir), contents(app); !slices.Equal(got, want) {
		t.Errorf("blobs %q, want %q", got, want)
	}
}

// meddler does something before each blob.
type meddler struct {
	origin.Reader
	do func()
}

func (m *meddler) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	m.do()
	return m.Reader.Blob(ctx, repo, d, r)
}

// An export that is cut ends with the cause and leaves nothing.
func TestExportCut(t *testing.T) {
	r := newRegistry(t)
	app.Push(t, r, "team/app", "v1")
	ctx, cancel := context.WithCancelCause(t.Context())
	cut := errors.New("cut")
	dir := filepath.Join(t.TempDir(), "layout")
	_, err := importer.Export(ctx, &meddler{Reader: r, do: func() { cancel(cut) }}, dir, []importer.Image{image(t, "team/app:v1")}, &shown{})
	if !errors.Is(err, cut) {
		t.Errorf("%v, want %v", err, cut)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}
