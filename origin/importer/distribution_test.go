package importer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/importer"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/mem"
)

// The images that the tests import.
var (
	app      = origintest.Image([]byte(`{"os":"linux"}`), []byte("base"), []byte("app"))
	tool     = origintest.DockerImage([]byte(`{}`), []byte("base"), []byte("tool"))
	multi    = origintest.Index(app, tool)
	sbom     = origintest.Artifact(multi.Manifest.Descriptor.Descriptor, "application/sbom", nil, []byte("sbom"))
	signed   = origintest.Artifact(sbom.Manifest.Descriptor.Descriptor, "application/signature", nil, []byte("signature"))
	orphaned = origintest.NewBlob("", []byte("nobody's"))
)

// Everything is taken: tags, manifests without tags, indexes with their children, what
// refers to others; in each repository what that repository has, and nothing else. The
// second time there is nothing to do.
func TestDistribution(t *testing.T) {
	s := newStorage()
	s.push("team/app", multi, "v1", "latest")
	s.push("team/app", sbom)
	s.push("team/app", signed)
	s.push("team", tool, "1")       // a repository above another
	s.push("team/app/x", app, "v1") // and one below, that shares its blobs
	s.blob("team/app", orphaned.Digest, orphaned.Bytes)
	s.file(nil, "repositories/team/app/_uploads/5f0e/data") // an upload that nobody went on with
	r := newRegistry(t)
	sum, show := distribute(t, s, r, nil)
	wantFailed(t, show, nil)
	// Blobs that another repository brought are counted once.
	want := importer.Summary{Manifests: 7, Tags: 4, Blobs: countBlobs(multi, sbom, signed), Bytes: sum.Bytes, Unnamed: 1}
	if sum != want {
		t.Errorf("%+v, want %+v", sum, want)
	}
	check := func() {
		t.Helper()
		wantImage(t, r, "team/app", "v1", multi)
		wantImage(t, r, "team/app", "latest", multi)
		wantImage(t, r, "team/app", "", sbom)
		wantImage(t, r, "team/app", "", signed)
		wantImage(t, r, "team", "1", tool)
		wantImage(t, r, "team/app/x", "v1", app)
		origintest.CheckReferrers(t, r, "team/app", multi.Digest(), "", []origintest.Tree{sbom})
		origintest.CheckReferrers(t, r, "team/app", sbom.Digest(), "application/signature", []origintest.Tree{signed})
		origintest.CheckTags(t, r, "team/app", []string{"latest", "v1"})
	}
	check()
	wantNoManifest(t, r, "team/app/x", tool.Digest().String())
	if _, err := r.Stat(t.Context(), origintest.Repo(t, "team/app"), orphaned.Digest); !origin.Unknown(err) {
		t.Errorf("what no manifest names was taken: %v", err)
	}

	sum, show = distribute(t, s, r, nil)
	if sum.Changed() || sum.Present != 11 || len(show.failed) > 0 || show.read > 0 {
		t.Errorf("the second time: %+v, %d bytes read, %q", sum, show.read, show.failed)
	}
	check()
}

// What is damaged in the registry is there again after an import.
func TestDistributionMends(t *testing.T) {
	s := newStorage()
	s.push("team/app", multi, "v1")
	manifest, tag := "r/team/app/_m/sha256/"+app.Digest().Encoded(), "r/team/app/_t/v1"
	for name, damaged := range map[string][]string{"a manifest": {manifest}, "a tag": {tag}, "both": {manifest, tag}} {
		t.Run(name, func(t *testing.T) {
			blobs, records := mem.NewBlobs(), mem.NewRecords()
			_, show := distribute(t, s, newRegistryOver(t, blobs, records), nil)
			wantFailed(t, show, nil)
			for _, key := range damaged {
				rec, err := records.Get(t.Context(), key)
				must(t, err)
				_, err = records.Put(t.Context(), key, rec.Data[:len(rec.Data)-1], store.Version(rec.Version))
				must(t, err)
			}
			r := newRegistryOver(t, blobs, records)
			sum, show := distribute(t, s, r, nil)
			wantFailed(t, show, nil)
			if sum.Manifests+sum.Tags != len(damaged) {
				t.Errorf("%+v, want %q mended", sum, damaged)
			}
			wantImage(t, r, "team/app", "v1", multi)
		})
	}
}

// spoiltBlobs has a blob of which the store has spoilt what it knows of it, until it is
// written again.
type spoiltBlobs struct {
	*mem.Blobs
	spoilt digest.Digest
}

func (b *spoiltBlobs) Stat(ctx context.Context, d digest.Digest) (store.Info, error) {
	if d == b.spoilt {
		return store.Info{}, store.ErrDamaged
	}
	return b.Blobs.Stat(ctx, d)
}

func (b *spoiltBlobs) Ingest(ctx context.Context, id string, alg digest.Algorithm) (store.Ingest, error) {
	in, err := b.Blobs.Ingest(ctx, id, alg)
	return spoiltIngest{in, b}, err
}

type spoiltIngest struct {
	store.Ingest
	blobs *spoiltBlobs
}

func (i spoiltIngest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	info, err := i.Ingest.Commit(ctx, d)
	if err == nil && d == i.blobs.spoilt {
		i.blobs.spoilt = ""
	}
	return info, err
}

// So is a blob that the store cannot tell the size of.
func TestDistributionMendsBlob(t *testing.T) {
	s := newStorage()
	s.push("team/app", app, "v1")
	blobs, records := &spoiltBlobs{Blobs: mem.NewBlobs()}, mem.NewRecords()
	_, show := distribute(t, s, newRegistryOver(t, blobs, records), nil)
	wantFailed(t, show, nil)
	blobs.spoilt = app.Blobs[1].Digest
	r := newRegistryOver(t, blobs, records)
	sum, show := distribute(t, s, r, nil)
	wantFailed(t, show, nil)
	if sum.Blobs != 1 {
		t.Errorf("%+v, want one blob", sum)
	}
	wantImage(t, r, "team/app", "v1", app)
}

func countBlobs(trees ...origintest.Tree) int {
	seen := map[digest.Digest]bool{}
	var walk func(x origintest.Tree)
	walk = func(x origintest.Tree) {
		for _, b := range x.Blobs {
			seen[b.Digest] = true
		}
		for _, c := range x.Children {
			walk(c)
		}
	}
	for _, x := range trees {
		walk(x)
	}
	return len(seen)
}

// On the same file system blobs are linked, and nothing in the source changes.
func TestDistributionLinks(t *testing.T) {
	s := newStorage()
	s.push("team/app", multi, "v1")
	s.push("other", tool, "v1")
	dir, root := write(t, s.MapFS), t.TempDir()
	before := snapshot(t, dir)
	d, err := disk.Open(root, disk.Options{})
	must(t, err)
	defer d.Close()
	r := newRegistryOver(t, d.Blobs(), d.Records())
	sum, show := distribute(t, os.DirFS(dir), r, d.Blobs())
	wantFailed(t, show, nil)
	if sum.Blobs != countBlobs(multi) || sum.Linked != sum.Blobs {
		t.Errorf("%+v, want all blobs linked", sum)
	}
	if int64(show.read) != sum.Bytes {
		t.Errorf("%d bytes of blobs were read, of %d: each once", show.read, sum.Bytes)
	}
	wantImage(t, r, "team/app", "v1", multi)
	wantImage(t, r, "other", "v1", tool)
	layer := app.Blobs[1].Digest
	theirs, err := os.Stat(filepath.Join(dir, "docker/registry/v2", dataOf(layer)))
	must(t, err)
	ours, err := os.Stat(filepath.Join(root, "blobs/sha256", layer.Encoded()))
	must(t, err)
	if !os.SameFile(theirs, ours) {
		t.Error("the layer is a copy")
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("the source was\n%s\nand is\n%s", before, after)
	}
	// It may go now.
	must(t, os.RemoveAll(dir))
	wantImage(t, r, "team/app", "v1", multi)
}

// What is linked is hashed before it is.
func TestDistributionLinksNothingCorrupt(t *testing.T) {
	s := newStorage()
	s.push("team/app", app, "v1")
	layer := app.Blobs[2].Digest
	s.file([]byte("xyz"), dataOf(layer))
	d, err := disk.Open(t.TempDir(), disk.Options{})
	must(t, err)
	defer d.Close()
	r := newRegistryOver(t, d.Blobs(), d.Records())
	_, show := distribute(t, os.DirFS(write(t, s.MapFS)), r, d.Blobs())
	wantFailed(t, show, map[string]string{"team/app@" + app.Digest().String(): "blob " + layer.String() + ": is corrupt", "team/app:v1": ""})
	if _, err := d.Blobs().Stat(t.Context(), layer); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the store has it: %v", err)
	}
}

// Files that cannot be linked are copied.
func TestDistributionCopies(t *testing.T) {
	s := newStorage()
	s.push("team/app", multi, "v1")
	dir := write(t, s.MapFS)
	must(t, filepath.Walk(dir, func(name string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			err = os.Chmod(name, 0o666) // anybody may change them
		}
		return err
	}))
	d, err := disk.Open(t.TempDir(), disk.Options{})
	must(t, err)
	defer d.Close()
	r := newRegistryOver(t, d.Blobs(), d.Records())
	sum, show := distribute(t, os.DirFS(dir), r, d.Blobs())
	wantFailed(t, show, nil)
	if sum.Blobs != countBlobs(multi) || sum.Linked != 0 {
		t.Errorf("%+v, want all blobs copied", sum)
	}
	wantImage(t, r, "team/app", "v1", multi)
}

// What was deleted there is not taken: its link went, and its directory stayed.
func TestDistributionDeleted(t *testing.T) {
	s := newStorage()
	s.push("team/app", app, "v1")
	s.push("team/app", tool)
	link := "docker/registry/v2/" + linkOf("team/app", "_manifests/revisions", tool.Digest())
	dir := write(t, s.MapFS)
	must(t, os.Remove(filepath.Join(dir, link)))
	r := newRegistry(t)
	_, show := distribute(t, os.DirFS(dir), r, nil)
	wantFailed(t, show, nil)
	wantImage(t, r, "team/app", "v1", app)
	wantNoManifest(t, r, "team/app", tool.Digest().String())
}

// A blob that was pushed by its sha512 is kept under its sha256, to which its link leads.
func TestDistributionAliases(t *testing.T) {
	layer := []byte("layer")
	long := digest.SHA512.FromBytes(layer)
	img := origintest.Image([]byte(`{}`), layer)
	img.Manifest = origintest.NewManifest(v1.MediaTypeImageManifest, bytes.ReplaceAll(img.Manifest.Bytes, []byte(digest.FromBytes(layer)), []byte(long)))
	s := newStorage()
	s.push("team/app", img, "v1")
	s.file([]byte(digest.FromBytes(layer)), linkOf("team/app", "_layers", long))
	r := newRegistry(t)
	sum, show := distribute(t, s, r, nil)
	wantFailed(t, show, nil)
	origintest.CheckBlob(t, r, "team/app", long, layer)
	if sum.Unnamed != 1 { // its other name
		t.Errorf("%+v", sum)
	}
}

// A layer that is elsewhere need not be there.
func TestDistributionForeignLayers(t *testing.T) {
	var m v1.Manifest
	must(t, json.Unmarshal(app.Manifest.Bytes, &m))
	m.Layers[1].URLs = []string{"https://elsewhere.example/layer"}
	b, err := json.Marshal(m)
	must(t, err)
	img := origintest.Tree{Manifest: origintest.NewManifest(v1.MediaTypeImageManifest, b), Blobs: app.Blobs[:2]}
	s := newStorage()
	s.push("team/app", img, "v1")
	r := newRegistry(t)
	_, show := distribute(t, s, r, nil)
	wantFailed(t, show, nil)
	wantImage(t, r, "team/app", "v1", img)
}

// A manifest without a media type is what Distribution takes it for.
func TestDistributionMediaTypes(t *testing.T) {
	bare := func(x origintest.Tree) origintest.Tree {
		var m map[string]any
		must(t, json.Unmarshal(x.Manifest.Bytes, &m))
		delete(m, "mediaType")
		b, err := json.Marshal(m)
		must(t, err)
		x.Manifest = origintest.NewManifest(x.Manifest.MediaType, b)
		return x
	}
	image, index := bare(app), bare(multi)
	s := newStorage()
	s.push("team/app", image, "image")
	s.push("team/app", index, "index")
	r := newRegistry(t)
	_, show := distribute(t, s, r, nil)
	wantFailed(t, show, nil)
	wantImage(t, r, "team/app", "image", image)
	wantImage(t, r, "team/app", "index", index)
}

// A tag that has moved there since is moved here, too, and the line says from where.
func TestDistributionMoved(t *testing.T) {
	s := newStorage()
	s.push("team/app", app, "v1")
	r := newRegistry(t)
	distribute(t, s, r, nil)
	s.push("team/app", tool, "v1")
	sum, show := distribute(t, s, r, nil)
	want := "team/app:v1 " + app.Digest().String() + " " + tool.Digest().String()
	if sum.Tags != 1 || sum.Manifests != 1 || len(show.moved) != 1 || show.moved[0] != want {
		t.Errorf("%+v, %q, want %q", sum, show.moved, want)
	}
	wantImage(t, r, "team/app", "v1", tool)
}

// What another repository has is no proof that this one has it: its own bytes are looked at.
func TestDistributionProvesPossession(t *testing.T) {
	r := newRegistry(t)
	app.Push(t, r, "secret", "v1")
	s := newStorage()
	s.push("public", app, "v1")
	s.file([]byte("xyz"), dataOf(app.Blobs[2].Digest)) // of the same length
	_, show := distribute(t, s, r, nil)
	if len(show.failed) != 2 {
		t.Errorf("%q", show.failed)
	}
	if _, err := r.Stat(t.Context(), origintest.Repo(t, "public"), app.Blobs[2].Digest); !origin.Unknown(err) {
		t.Errorf("what secret has may be read in public: %v", err)
	}
}

// A directory without a registry is no empty registry; an empty one is.
func TestDistributionNone(t *testing.T) {
	for name, dir := range map[string]fstest.MapFS{
		"nothing":        {},
		"something else": {"docker/registry.txt": {Data: []byte("x")}},
		"a file":         {"docker/registry/v2": {Data: []byte("x")}},
	} {
		_, err := importer.Distribution(t.Context(), dir, newRegistry(t), same, importer.Options{MaxManifestSize: largest, Show: &shown{}})
		if !errors.Is(err, importer.ErrNoRegistry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty := fstest.MapFS{"docker/registry/v2/blobs/sha256/x": {Data: nil}}
	sum, show := distribute(t, empty, newRegistry(t), nil)
	if sum != (importer.Summary{}) || len(show.failed) > 0 {
		t.Errorf("%+v, %q", sum, show.failed)
	}
}

// Names of the source that are none here are named.
func TestDistributionNames(t *testing.T) {
	s := newStorage()
	s.push("team/app", app, "v1")
	s.push("old/app", tool, "v1")
	r, show := newRegistry(t), &shown{}
	rename := func(repo origin.Repo) (origin.Repo, error) {
		if repo.First() == "old" {
			return repo, origin.Errorf(origin.ErrDenied, "not that one")
		}
		return repo.Under("new")
	}
	_, err := importer.Distribution(t.Context(), s, r, rename, importer.Options{MaxManifestSize: largest, Show: show})
	must(t, err)
	wantFailed(t, show, map[string]string{"old/app": "not that one"})
	wantImage(t, r, "new/team/app", "v1", app)
	if strings.Contains(strings.Join(show.done, " "), "old") {
		t.Errorf("%q", show.done)
	}
}
