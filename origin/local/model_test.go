package local_test

import (
	"errors"
	"flag"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// model is what a registry should hold: the plainest reading of the interface.
type model map[string]*modelRepo

type modelRepo struct {
	pushed    bool                   // something was, ever
	blobs     map[digest.Digest]bool // linked
	manifests map[digest.Digest]int  // which of the trees
	tags      map[string]digest.Digest
}

func (m model) repo(name string) *modelRepo {
	if m[name] == nil {
		m[name] = &modelRepo{blobs: map[digest.Digest]bool{}, manifests: map[digest.Digest]int{}, tags: map[string]digest.Digest{}}
	}
	return m[name]
}

// world is everything that the operations choose from: few names, so that they
// meet.
type world struct {
	trees []origintest.Tree // two images, an index of both, two artifacts about the first
	blobs []origintest.Blob
}

func newWorld() world {
	one := origintest.Image([]byte("{}"), []byte("one"))
	two := origintest.DockerImage([]byte("{}"), []byte("two"), []byte("one"))
	subject := one.Manifest.Descriptor.Descriptor
	w := world{trees: []origintest.Tree{
		one, two, origintest.Index(one, two),
		origintest.Artifact(subject, "application/x", map[string]string{"n": "1"}, []byte("one")),
		origintest.Artifact(subject, "application/y", nil, []byte("two")),
	}}
	seen := map[digest.Digest]bool{}
	for _, tree := range w.trees {
		for _, b := range tree.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				w.blobs = append(w.blobs, b)
			}
		}
	}
	return w
}

var (
	modelRepos = []string{"a", "a/b", "c"}
	modelTags  = []string{"latest", "v1", "v2", "x"}
)

// subject gives the index of the tree that a tree is about, or -1.
func (w world) subject(tree int) int {
	if tree >= 3 {
		return 0
	}
	return -1
}

// TestModel compares a registry with the model, operation by operation. Every now
// and then the registry is opened anew over the same store, so that what memory
// says and what the store says are both compared.
func TestModel(t *testing.T) {
	atLeast(t, "rapid.checks", 200)
	atLeast(t, "rapid.steps", 100)
	w := newWorld()
	rapid.Check(t, func(t *rapid.T) {
		blobs, records := mem.NewBlobs(), mem.NewRecords()
		var reg *local.Registry
		reopen := func(t *rapid.T) {
			var err error
			reg, err = local.New(blobs, records, local.Options{
				Delete:        true,
				ImmutableTags: []*regexp.Regexp{regexp.MustCompile("v.*")},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		reopen(t)
		m := model{}
		x := &modelTest{w: w, m: m, reg: func() *local.Registry { return reg }}
		t.Repeat(map[string]func(*rapid.T){
			"reopen":         reopen,
			"upload":         x.upload,
			"mount":          x.mount,
			"push":           x.push,
			"push with all":  x.pushWithAll,
			"delete tag":     x.deleteTag,
			"delete digest":  x.deleteDigest,
			"delete blob":    x.deleteBlob,
			"read manifest":  x.readManifest,
			"read blob":      x.readBlob,
			"list tags":      x.listTags,
			"list referrers": x.listReferrers,
			"list repos":     x.listRepos,
		})
	})
}

// atLeast raises a flag's number for the length of the test.
func atLeast(t *testing.T, name string, n int) {
	t.Helper()
	old := flag.Lookup(name).Value.String()
	if was, err := strconv.Atoi(old); err == nil && was >= n {
		return
	}
	if err := flag.Set(name, strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set(name, old) })
}

type modelTest struct {
	w   world
	m   model
	reg func() *local.Registry
}

// want fails the test unless err has the code wanted ("" = no error).
func want(t *rapid.T, what string, err error, code origin.Code) {
	t.Helper()
	e, ok := errors.AsType[*origin.Error](err)
	if err == nil && code == "" || ok && e.Code == code {
		return
	}
	t.Fatalf("%s: error %v, the model says %q", what, err, code)
}

func (x *modelTest) drawRepo(t *rapid.T) (origin.Repo, *modelRepo) {
	name := rapid.SampledFrom(modelRepos).Draw(t, "repository")
	r, err := origin.ParseRepo(name)
	if err != nil {
		t.Fatal(err)
	}
	return r, x.m.repo(name)
}

func (x *modelTest) drawTag(t *rapid.T) origin.Ref {
	ref, err := origin.ParseTag(rapid.SampledFrom(modelTags).Draw(t, "tag"))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func (x *modelTest) drawTree(t *rapid.T) int {
	return rapid.IntRange(0, len(x.w.trees)-1).Draw(t, "tree")
}

func (x *modelTest) upload(t *rapid.T) {
	repo, m := x.drawRepo(t)
	x.uploadTo(t, repo, m, rapid.SampledFrom(x.w.blobs).Draw(t, "blob"))
}

func (x *modelTest) uploadTo(t *rapid.T, repo origin.Repo, m *modelRepo, b origintest.Blob) {
	in, err := x.reg().Upload(t.Context(), repo, "", digest.SHA256)
	want(t, "upload", err, "")
	if _, err := in.Write(b.Bytes); err != nil {
		t.Fatal(err)
	}
	_, err = in.Commit(t.Context(), b.Digest)
	want(t, "commit", err, "")
	m.pushed, m.blobs[b.Digest] = true, true
}

func (x *modelTest) mount(t *rapid.T) {
	from, mFrom := x.drawRepo(t)
	to, mTo := x.drawRepo(t)
	b := rapid.SampledFrom(x.w.blobs).Draw(t, "blob")
	_, err := x.reg().Mount(t.Context(), from, to, b.Digest)
	if !mFrom.blobs[b.Digest] {
		want(t, "mount", err, origin.CodeBlobUnknown)
		return
	}
	want(t, "mount", err, "")
	mTo.pushed, mTo.blobs[b.Digest] = true, true
}

func (x *modelTest) push(t *rapid.T) {
	repo, m := x.drawRepo(t)
	tree := x.drawTree(t)
	var tags []origin.Ref
	for range rapid.IntRange(0, 2).Draw(t, "tags") {
		tags = append(tags, x.drawTag(t))
	}
	x.pushTree(t, repo, m, tree, tags...)
}

func (x *modelTest) pushWithAll(t *rapid.T) {
	repo, m := x.drawRepo(t)
	i := x.drawTree(t)
	for _, tree := range x.w.trees[i].All() {
		for _, b := range tree.Blobs {
			x.uploadTo(t, repo, m, b)
		}
		x.pushTree(t, repo, m, slices.IndexFunc(x.w.trees, func(y origintest.Tree) bool { return y.Digest() == tree.Digest() }))
	}
	x.pushTree(t, repo, m, i, x.drawTag(t))
}

func immutable(tag string) bool { return tag[0] == 'v' }

func (x *modelTest) pushTree(t *rapid.T, repo origin.Repo, m *modelRepo, i int, tags ...origin.Ref) {
	tree := x.w.trees[i]
	complete, denied := true, false
	for _, b := range tree.Blobs {
		complete = complete && m.blobs[b.Digest]
	}
	for _, c := range tree.Children {
		_, ok := m.manifests[c.Digest()]
		complete = complete && ok
	}
	for _, ref := range tags {
		old, ok := m.tags[ref.Tag()]
		denied = denied || immutable(ref.Tag()) && ok && old != tree.Digest()
	}
	_, err := x.reg().Push(t.Context(), repo, tree.Manifest, origin.PushOptions{Tags: tags})
	switch {
	case !complete:
		want(t, "push", err, origin.CodeManifestBlobUnknown)
	case denied:
		want(t, "push", err, origin.CodeDenied)
	default:
		want(t, "push", err, "")
		m.pushed = true
		m.manifests[tree.Digest()] = i
		for _, ref := range tags {
			m.tags[ref.Tag()] = tree.Digest()
		}
	}
}

func (x *modelTest) deleteTag(t *rapid.T) {
	repo, m := x.drawRepo(t)
	ref := x.drawTag(t)
	err := x.reg().DeleteManifest(t.Context(), repo, ref)
	if _, ok := m.tags[ref.Tag()]; !ok {
		want(t, "delete tag", err, origin.CodeManifestUnknown)
	} else if immutable(ref.Tag()) {
		want(t, "delete tag", err, origin.CodeDenied)
	} else {
		want(t, "delete tag", err, "")
		delete(m.tags, ref.Tag())
	}
}

func (x *modelTest) deleteDigest(t *rapid.T) {
	repo, m := x.drawRepo(t)
	d := x.w.trees[x.drawTree(t)].Digest()
	err := x.reg().DeleteManifest(t.Context(), repo, origin.ByDigest(d))
	if _, ok := m.manifests[d]; !ok {
		want(t, "delete manifest", err, origin.CodeManifestUnknown)
		return
	}
	for tag, named := range m.tags {
		if named == d && immutable(tag) {
			want(t, "delete manifest", err, origin.CodeDenied)
			return
		}
	}
	want(t, "delete manifest", err, "")
	delete(m.manifests, d)
	maps.DeleteFunc(m.tags, func(_ string, named digest.Digest) bool { return named == d })
}

func (x *modelTest) deleteBlob(t *rapid.T) {
	repo, m := x.drawRepo(t)
	b := rapid.SampledFrom(x.w.blobs).Draw(t, "blob")
	err := x.reg().DeleteBlob(t.Context(), repo, b.Digest)
	if !m.blobs[b.Digest] {
		want(t, "delete blob", err, origin.CodeBlobUnknown)
		return
	}
	want(t, "delete blob", err, "")
	delete(m.blobs, b.Digest)
}

func (x *modelTest) readManifest(t *rapid.T) {
	repo, m := x.drawRepo(t)
	ref := x.drawTag(t)
	d, ok := m.tags[ref.Tag()]
	if rapid.Bool().Draw(t, "by digest") {
		d = x.w.trees[x.drawTree(t)].Digest()
		ref = origin.ByDigest(d)
		_, ok = m.manifests[d]
	}
	desc, err := x.reg().Resolve(t.Context(), repo, ref)
	man, err2 := x.reg().Manifest(t.Context(), repo, ref)
	if !ok {
		want(t, "resolve", err, origin.CodeManifestUnknown)
		want(t, "manifest", err2, origin.CodeManifestUnknown)
		return
	}
	want(t, "resolve", err, "")
	want(t, "manifest", err2, "")
	tree := x.w.trees[m.manifests[d]].Manifest
	if desc.Digest != d || desc.Size != tree.Size || desc.MediaType != tree.MediaType || string(man.Bytes) != string(tree.Bytes) || man.MediaType != tree.MediaType {
		t.Fatalf("%s is %+v with %s, the model has %s", ref, desc.Descriptor, man.Bytes, tree.Bytes)
	}
}

func (x *modelTest) readBlob(t *rapid.T) {
	repo, m := x.drawRepo(t)
	b := rapid.SampledFrom(x.w.blobs).Draw(t, "blob")
	desc, err := x.reg().Stat(t.Context(), repo, b.Digest)
	blob, err2 := x.reg().Blob(t.Context(), repo, b.Digest, store.Range{})
	if !m.blobs[b.Digest] {
		want(t, "stat", err, origin.CodeBlobUnknown)
		want(t, "blob", err2, origin.CodeBlobUnknown)
		return
	}
	want(t, "stat", err, "")
	want(t, "blob", err2, "")
	if err := blob.Body.Close(); err != nil || desc.Size != b.Size || blob.Length != b.Size {
		t.Fatalf("blob %s has %d and %d bytes, the model %d (%v)", b.Digest, desc.Size, blob.Length, b.Size, err)
	}
}

func (x *modelTest) listTags(t *rapid.T) {
	repo, m := x.drawRepo(t)
	after := rapid.SampledFrom(append(modelTags, "", "m")).Draw(t, "after")
	n := rapid.IntRange(0, 5).Draw(t, "n")
	l, err := x.reg().Tags(t.Context(), repo, origin.Page{After: after, N: n})
	if !m.pushed {
		want(t, "tags", err, origin.CodeNameUnknown)
		return
	}
	want(t, "tags", err, "")
	samePage(t, l.Items, l.More, slices.Sorted(maps.Keys(m.tags)), after, n)
}

func (x *modelTest) listReferrers(t *rapid.T) {
	repo, m := x.drawRepo(t)
	artifactType := rapid.SampledFrom([]string{"", "application/x", "application/z"}).Draw(t, "type")
	n := rapid.IntRange(0, 3).Draw(t, "n")
	l, err := x.reg().Referrers(t.Context(), repo, x.w.trees[0].Digest(), artifactType, origin.Page{N: n})
	want(t, "referrers", err, "")
	var all, got []string
	for d, i := range m.manifests {
		c, err := origin.ReadManifest(v1.MediaTypeImageManifest, x.w.trees[i].Manifest.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if x.w.subject(i) == 0 && (artifactType == "" || artifactType == c.ArtifactType) {
			all = append(all, d.String())
		}
	}
	for _, d := range l.Items {
		got = append(got, d.Digest.String())
	}
	slices.Sort(all)
	samePage(t, got, l.More, all, "", n)
}

func (x *modelTest) listRepos(t *rapid.T) {
	n := rapid.IntRange(0, 4).Draw(t, "n")
	l, err := x.reg().Repos(t.Context(), origin.Page{N: n})
	want(t, "repositories", err, "")
	var all, got []string
	for name, m := range x.m {
		if m.pushed {
			all = append(all, name)
		}
	}
	for _, r := range l.Items {
		got = append(got, r.String())
	}
	slices.Sort(all)
	samePage(t, got, l.More, all, "", n)
}

// samePage fails the test unless that is the page of n items after the key.
func samePage(t *rapid.T, got []string, more bool, all []string, after string, n int) {
	t.Helper()
	all = slices.DeleteFunc(all, func(s string) bool { return s <= after })
	page := all[:min(n, len(all))]
	if !slices.Equal(got, page) || n > 0 && more != (len(all) > n) {
		t.Fatalf("page of %d after %q: %q (more: %v), the model has %q", n, after, got, more, all)
	}
}
