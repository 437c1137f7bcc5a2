package origintest

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// sample is what the tests of a Reader read.
var sample = Content{Repos: map[string]RepoContent{
	"team/app": {
		Blobs: map[string]string{"config": `{"os":"linux"}`, "base": "the base layer", "top": "the top layer", "empty": ""},
		Manifests: map[string]ManifestContent{
			"amd64":     {Config: "config", Layers: []string{"base", "top"}},
			"arm64":     {Config: "config", Layers: []string{"base", "empty"}},
			"all":       {Manifests: []string{"amd64", "arm64"}, Annotations: map[string]string{"a": "b"}},
			"docker":    {MediaType: origin.MediaTypeDockerManifest, Config: "config", Layers: []string{"top"}},
			"list":      {MediaType: origin.MediaTypeDockerList, Manifests: []string{"docker"}},
			"sbom":      {Subject: "all", ArtifactType: "application/spdx+json", Layers: []string{"top"}},
			"sbom2":     {Subject: "all", ArtifactType: "application/spdx+json", Annotations: map[string]string{"n": "2"}},
			"sbom3":     {Subject: "all", ArtifactType: "application/spdx+json", Annotations: map[string]string{"n": "3"}},
			"signature": {Subject: "all", Config: "config"},
		},
		Tags: map[string]string{
			"latest": "all", "1.0": "all", "1": "all", "amd64": "amd64", "_x": "docker", "Z": "list", "z": "list",
		},
	},
	"team/other": {
		Blobs:     map[string]string{"config": "{}", "own": "only here"},
		Manifests: map[string]ManifestContent{"image": {Config: "config", Layers: []string{"own"}}},
		Tags:      map[string]string{"only": "image"},
	},
}}

// Reader examines the pull half of a registry. open gives a Reader in which the
// repositories of the content are found below the path under ("" = under their own
// names).
func Reader(t *testing.T, under string, open func(t testing.TB, c Content) origin.Reader) {
	r := open(t, sample)
	if under != "" {
		under += "/"
	}
	app, other := under+"team/app", under+"team/other"
	t.Run("manifests", func(t *testing.T) { readManifests(t, r, app) })
	t.Run("blobs", func(t *testing.T) { readBlobs(t, r, app) })
	t.Run("ranges", func(t *testing.T) { readRanges(t, r, app) })
	t.Run("unknown", func(t *testing.T) { readUnknown(t, r, app, other, under+"team/none") })
	t.Run("tags", func(t *testing.T) { readTags(t, r, app, under+"team/none") })
	t.Run("referrers", func(t *testing.T) { readReferrers(t, r, app, under+"team/none") })
}

// readManifests reads each manifest by tag and by digest.
func readManifests(t *testing.T, r origin.Reader, repo string) {
	refs := map[string]string{} // symbolic name by ref
	maps.Copy(refs, sample.Repos["team/app"].Tags)
	for name := range sample.Repos["team/app"].Manifests {
		refs[sample.Tree(t, "team/app", name).Digest().String()] = name
	}
	for ref, name := range refs {
		CheckManifest(t, r, repo, ref, sample.Tree(t, "team/app", name).Manifest)
	}
}

// CheckManifest fails the test unless that is what the tag or digest names.
func CheckManifest(t testing.TB, r origin.Reader, repo, ref string, want origin.Manifest) {
	t.Helper()
	d, err := r.Resolve(t.Context(), Repo(t, repo), Ref(t, ref))
	if err != nil {
		t.Errorf("resolve %s of %s: %v", ref, repo, err)
	} else if d.MediaType != want.MediaType || d.Digest != want.Digest || d.Size != want.Size {
		t.Errorf("resolve %s of %s: %+v, want %+v", ref, repo, d.Descriptor, want.Descriptor.Descriptor)
	}
	m, err := r.Manifest(t.Context(), Repo(t, repo), Ref(t, ref))
	if err != nil {
		t.Errorf("manifest %s of %s: %v", ref, repo, err)
		return
	}
	if m.MediaType != want.MediaType || m.Digest != want.Digest || m.Size != want.Size {
		t.Errorf("manifest %s of %s: %+v, want %+v", ref, repo, m.Descriptor.Descriptor, want.Descriptor.Descriptor)
	}
	if !bytes.Equal(m.Bytes, want.Bytes) {
		t.Errorf("manifest %s of %s:\n%s\nwant\n%s", ref, repo, m.Bytes, want.Bytes)
	}
}

func readBlobs(t *testing.T, r origin.Reader, repo string) {
	for _, content := range sample.Repos["team/app"].Blobs {
		CheckBlob(t, r, repo, digest.FromString(content), []byte(content))
	}
}

// CheckBlob fails the test unless the blob is readable and has that content.
func CheckBlob(t testing.TB, r origin.Reader, repo string, d digest.Digest, content []byte) {
	t.Helper()
	desc, err := r.Stat(t.Context(), Repo(t, repo), d)
	if err != nil {
		t.Errorf("stat blob %s of %s: %v", d, repo, err)
	} else if desc.Digest != d || desc.Size != int64(len(content)) && desc.Size != -1 {
		t.Errorf("stat blob %s of %s: %+v, its size is %d", d, repo, desc.Descriptor, len(content))
	}
	if got := ReadBlob(t, r, repo, d); !bytes.Equal(got, content) {
		t.Errorf("blob %s of %s has %d other bytes", d, repo, len(got))
	}
}

func readRanges(t *testing.T, r origin.Reader, repo string) {
	content := sample.Repos["team/app"].Blobs["base"]
	d := digest.FromString(content)
	n := int64(len(content))
	for _, c := range []struct {
		r    store.Range
		want string
	}{
		{store.Range{}, content},
		{store.Range{Len: 3}, content[:3]},
		{store.Range{Off: 4}, content[4:]},
		{store.Range{Off: 4, Len: 4}, content[4:8]},
		{store.Range{Off: n - 1}, content[n-1:]},
		{store.Range{Off: 4, Len: 100}, content[4:]},
		{store.Range{Off: -5}, content[n-5:]},
		{store.Range{Off: -100}, content},
	} {
		b, err := readRange(t, r, Repo(t, repo), d, c.r)
		if err != nil || string(b) != c.want {
			t.Errorf("range %+v: %q, %v; want %q", c.r, b, err, c.want)
		}
	}
	for _, rng := range []store.Range{{Off: n}, {Off: n + 5, Len: 1}} {
		_, err := readRange(t, r, Repo(t, repo), d, rng)
		wantError(t, "range behind the end", err, store.ErrRange)
	}
}

// readUnknown asks for what is not there, also for what another repository has.
func readUnknown(t *testing.T, r origin.Reader, app, other, none string) {
	nothing := digest.FromString("nothing has this content")
	tree := sample.Tree(t, "team/app", "all")
	layer := digest.FromString(sample.Repos["team/app"].Blobs["base"])
	for _, c := range []struct{ name, repo, ref string }{
		{"no such tag", app, "none"},
		{"a tag is not another in upper case", app, "LATEST"},
		{"no such digest", app, nothing.String()},
		{"no such repository", none, "latest"},
		{"another repository's tag", app, "only"},
		{"another repository's manifest", other, tree.Digest().String()},
		{"a blob is no manifest", app, layer.String()},
	} {
		_, err := r.Resolve(t.Context(), Repo(t, c.repo), Ref(t, c.ref))
		wantUnknown(t, "resolve: "+c.name, err)
		_, err = r.Manifest(t.Context(), Repo(t, c.repo), Ref(t, c.ref))
		wantUnknown(t, "manifest: "+c.name, err)
	}
	for _, c := range []struct {
		name, repo string
		d          digest.Digest
	}{
		{"no such blob", app, nothing},
		{"no such repository", none, layer},
		{"another repository's blob", other, layer},
		{"a manifest is no blob", app, tree.Digest()},
	} {
		_, err := r.Stat(t.Context(), Repo(t, c.repo), c.d)
		wantUnknown(t, "stat: "+c.name, err)
		_, err = readRange(t, r, Repo(t, c.repo), c.d, store.Range{})
		wantUnknown(t, "blob: "+c.name, err)
		_, err = readRange(t, r, Repo(t, c.repo), c.d, store.Range{Off: 1 << 20})
		wantUnknown(t, "range: "+c.name, err)
	}
}

func readTags(t *testing.T, r origin.Reader, app, none string) {
	all := slices.Sorted(maps.Keys(sample.Repos["team/app"].Tags))
	CheckTags(t, r, app, all)
	l, err := r.Tags(t.Context(), Repo(t, app), origin.Page{After: "a", N: 1})
	if err != nil || !slices.Equal(l.Items, []string{"amd64"}) || !l.More {
		t.Errorf("one tag after %q: %v %v %v", "a", l.Items, l.More, err)
	}
	l, err = r.Tags(t.Context(), Repo(t, app), origin.Page{After: "zz", N: 5})
	if err != nil || len(l.Items) != 0 || l.More {
		t.Errorf("after the last tag: %v %v %v", l.Items, l.More, err)
	}
	l, err = r.Tags(t.Context(), Repo(t, app), origin.Page{})
	if err != nil || len(l.Items) != 0 {
		t.Errorf("no tags wanted: %v %v", l.Items, err)
	}
	for _, n := range []int{0, 10} {
		_, err := r.Tags(t.Context(), Repo(t, none), origin.Page{N: n})
		wantError(t, "tags of no repository", err, origin.ErrNameUnknown)
	}
}

// CheckTags fails the test unless the repository has those tags, in that order,
// whatever the size of the pages.
func CheckTags(t testing.TB, r origin.Reader, repo string, want []string) {
	t.Helper()
	for n := 1; n <= len(want)+1; n++ {
		got := pages(t, "tags of "+repo, n, func(s string) string { return s }, func(p origin.Page) (origin.List[string], error) {
			return r.Tags(t.Context(), Repo(t, repo), p)
		})
		if !slices.Equal(got, want) {
			t.Errorf("tags of %s, %d a page: %q, want %q", repo, n, got, want)
		}
	}
}

func readReferrers(t *testing.T, r origin.Reader, app, none string) {
	named := sample.Named(t)["team/app"]
	spdx := []string{"sbom", "sbom2", "sbom3"}
	CheckReferrers(t, r, app, named["all"].Digest, "", sample.trees(t, "team/app", append(spdx, "signature")...))
	CheckReferrers(t, r, app, named["all"].Digest, "application/spdx+json", sample.trees(t, "team/app", spdx...))
	// An image without an artifact type has its config's.
	CheckReferrers(t, r, app, named["all"].Digest, sample.Tree(t, "team/app", "signature").Blobs[0].MediaType, sample.trees(t, "team/app", "signature"))
	CheckReferrers(t, r, app, named["all"].Digest, "application/none", nil)
	CheckReferrers(t, r, app, named["amd64"].Digest, "", nil)
	CheckReferrers(t, r, app, digest.FromString("unknown"), "", nil)
	CheckReferrers(t, r, none, named["all"].Digest, "", nil)
}

// CheckReferrers fails the test unless those are the referrers of the digest, in
// the order of their own digests and described as the specification wants it,
// whatever the size of the pages.
func CheckReferrers(t testing.TB, r origin.Reader, repo string, subject digest.Digest, artifactType string, want []Tree) {
	t.Helper()
	want = slices.SortedFunc(slices.Values(want), func(a, b Tree) int { return bytes.Compare([]byte(a.Digest()), []byte(b.Digest())) })
	for n := 1; n <= len(want)+1; n++ {
		got := pages(t, "referrers in "+repo, n, func(d origin.Descriptor) string { return d.Digest.String() },
			func(p origin.Page) (origin.List[origin.Descriptor], error) {
				return r.Referrers(t.Context(), Repo(t, repo), subject, artifactType, p)
			})
		if len(got) != len(want) {
			t.Errorf("%d referrers of %s (%s) in %s, want %d", len(got), subject, artifactType, repo, len(want))
			return
		}
		for i, d := range got {
			c, err := origin.ReadManifest(want[i].Manifest.MediaType, want[i].Manifest.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			m := want[i].Manifest
			if d.Digest != m.Digest || d.MediaType != m.MediaType || d.Size != m.Size ||
				d.ArtifactType != c.ArtifactType || !maps.Equal(d.Annotations, c.Annotations) {
				t.Errorf("referrer %d of %s in %s: %+v, want that of %s", i, subject, repo, d.Descriptor, m.Bytes)
			}
		}
	}
}

func (c Content) trees(t testing.TB, repo string, names ...string) []Tree {
	t.Helper()
	var trees []Tree
	for _, name := range names {
		trees = append(trees, c.Tree(t, repo, name))
	}
	return trees
}

// pages reads a listing to its end, n items a page.
func pages[T any](t testing.TB, what string, n int, key func(T) string, list func(origin.Page) (origin.List[T], error)) []T {
	t.Helper()
	var all []T
	p := origin.Page{N: n}
	for {
		l, err := list(p)
		if err != nil {
			t.Errorf("%s, after %q: %v", what, p.After, err)
			return all
		}
		if len(l.Items) > n {
			t.Errorf("%s: %d items on a page of %d", what, len(l.Items), n)
		}
		all = append(all, l.Items...)
		if !l.More {
			return all
		}
		if len(l.Items) == 0 {
			t.Errorf("%s, after %q: an empty page, and more to come", what, p.After)
			return all
		}
		p.After = key(l.Items[len(l.Items)-1])
	}
}
