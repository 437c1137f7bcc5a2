package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/ui/view"
)

// described is what view.OpenAPI promises.
type described struct {
	doc    *openapi3.T
	router routers.Router
}

func describe(t *testing.T) described {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(view.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return described{doc, router}
}

// holds compares an answer with what was promised.
func (d described) holds(t *testing.T, path string, a answer) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	route, params, err := d.router.FindRoute(r)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	input := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route}
	if err := openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.status, Header: a.header, Body: readCloser{bytes.NewReader(a.body)},
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}); err != nil {
		t.Errorf("%s: %d %s: %v", path, a.status, a.body, err)
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// What is served below _ext is described, with all its parameters, and nothing else is.
func TestExtensionsAreDescribed(t *testing.T) {
	d := describe(t)
	served := extensions(nil)
	var names []string
	for path, item := range d.doc.Paths.Map() {
		name := strings.TrimPrefix(path, "/")
		names = append(names, name)
		var params []string
		for _, p := range item.Get.Parameters {
			params = append(params, p.Value.Name)
		}
		want := slices.Clone(served[name].Params)
		if served[name].Paged {
			want = append(want, "n", "last")
			if _, ok := item.Get.Responses.Value("200").Value.Headers["Link"]; !ok {
				t.Errorf("%s: no Link is described", name)
			}
		}
		slices.Sort(params)
		slices.Sort(want)
		if !slices.Equal(params, want) {
			t.Errorf("%s takes %v, and %v are described", name, want, params)
		}
		if ops := item.Operations(); len(ops) != 1 {
			t.Errorf("%s: %d operations are described", name, len(ops))
		}
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(served)); !slices.Equal(names, want) {
		t.Errorf("%v are served, and %v described", want, names)
	}
}

// pushImage pushes an image with a config and layers, and gives its manifest's descriptor.
func (r *running) pushImage(repo, tag string, config v1.Image, layers ...[]byte) v1.Descriptor {
	r.t.Helper()
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}}
	text, err := json.Marshal(config)
	if err != nil {
		r.t.Fatal(err)
	}
	manifest.Config = r.pushBlob(repo, v1.MediaTypeImageConfig, text)
	for _, l := range layers {
		manifest.Layers = append(manifest.Layers, r.pushBlob(repo, v1.MediaTypeImageLayerGzip, l))
	}
	manifest.Annotations = map[string]string{v1.AnnotationTitle: "made for a test"}
	return r.pushJSON(repo, tag, v1.MediaTypeImageManifest, manifest)
}

func (r *running) pushBlob(repo, mediaType string, b []byte) v1.Descriptor {
	r.t.Helper()
	d := digest.FromBytes(b)
	if a := r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), bytes.NewReader(b)); a.status != http.StatusCreated {
		r.t.Fatalf("blob: %d %s", a.status, a.body)
	}
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// pushJSON pushes a manifest under a tag; "": under its digest.
func (r *running) pushJSON(repo, tag, mediaType string, manifest any) v1.Descriptor {
	r.t.Helper()
	text, err := json.Marshal(manifest)
	if err != nil {
		r.t.Fatal(err)
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	if tag == "" {
		tag = d.Digest.String()
	}
	if a := r.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(text), "Content-Type", mediaType); a.status != http.StatusCreated {
		r.t.Fatalf("manifest: %d %s", a.status, a.body)
	}
	return d
}

// What is answered is what is described: of what was pushed and what is mirrored, of
// nothing, and of what is wrong; and no upstream is asked for any of it.
func TestExtensionsAnswer(t *testing.T) {
	u := remotetest.New(t)
	r := start(t, "", hub(u, ""))
	platform := v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	config := v1.Image{Platform: platform, Config: v1.ImageConfig{
		Env: []string{"A=b"}, Entrypoint: []string{"/app"}, Labels: map[string]string{"x": "y"}, ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}, History: []v1.History{{CreatedBy: "COPY app /"}, {CreatedBy: "ENV A=b", EmptyLayer: true}}}
	img := r.pushImage("team/app", "v1", config, []byte("layer"))
	img.Platform = &platform
	index := r.pushJSON("team/app", "all", v1.MediaTypeImageIndex, v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{img},
	})
	empty := r.pushBlob("team/app", v1.MediaTypeEmptyJSON, []byte("{}"))
	sbom := r.pushJSON("team/app", "", v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: "application/spdx+json",
		Config: empty, Layers: []v1.Descriptor{empty}, Subject: &v1.Descriptor{MediaType: img.MediaType, Digest: img.Digest, Size: img.Size},
		Annotations: map[string]string{"made": "by hand"},
	})
	up := u.AddImage("library/app", "1", []byte("upstream layer"))
	pull := func(path string) {
		if a := r.get("/v2/docker.io/library/app/" + path); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	layer := "blobs/" + up.Layers[0].Digest.String()
	for _, path := range []string{"manifests/1", "blobs/" + up.Config.Digest.String(), layer} {
		pull(path)
	}
	eventually(t, "it is kept", func() bool {
		return strings.Contains(string(r.get("/v2/_ext/repositories").body), "docker.io/library/app") && strings.Contains(string(r.get("/v2/_ext/fills").body), `"fills":[]`)
	})
	pull(layer) // again, which is a hit
	cached := up.Config.Size + up.Layers[0].Size
	begun := r.do(http.MethodPost, "/v2/team/new/blobs/uploads/", nil)
	if a := r.do(http.MethodPatch, begun.header.Get("Location"), strings.NewReader("some")); a.status != http.StatusAccepted {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	u.Take()

	d := describe(t)
	zero := "sha256:" + strings.Repeat("0", 64)
	query := func(pairs ...string) string {
		q := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return "?" + q.Encode()
	}
	for _, c := range []struct {
		path   string
		status int
		has    []string
	}{
		{"repositories", 200, []string{`[{"name":"docker.io/library/app","upstream":"docker.io"},{"name":"team/app"}]`}},
		{"repositories?search=APP+team", 200, []string{`[{"name":"team/app"}]`}},
		{"repositories?search=none", 200, []string{`{"repositories":[]}`}},
		{"repositories?search=" + strings.Repeat("a+", 128), 400, []string{"UNSUPPORTED"}},
		{"tags" + query("repository", "team/app", "search", strings.Repeat("a", 256)), 400, []string{"UNSUPPORTED"}},
		{"tags" + query("repository", "team/app"), 200, []string{`"name":"all"`, `"name":"v1"`, `"platforms":["linux/arm64/v8"]`, `"pushed_at":"20`}},
		{"tags" + query("repository", "team/app", "search", "v"), 200, []string{`{"tags":[{"name":"v1"`}},
		{"tags" + query("repository", "docker.io/library/app"), 200, []string{`"name":"1"`, `"checked_at":"20`, `"last_pulled_at":"20`}},
		{"tags" + query("repository", "docker.io/app"), 200, []string{`"name":"1"`}},
		{"tags" + query("repository", "team/none"), 404, []string{"NAME_UNKNOWN"}},
		{"tags" + query("repository", "docker.io/library/none"), 404, []string{"NAME_UNKNOWN"}},
		{"tags" + query("repository", "A"), 400, []string{"NAME_INVALID"}},
		{"tags", 400, []string{"NAME_INVALID"}},
		{"manifests" + query("repository", "team/app", "digest", img.Digest.String()), 200, []string{
			`"platform":"linux/arm64/v8"`, `"env":["A=b"]`, `"created_by":"COPY app /","layer":0`, `"created_by":"ENV A=b","layer":-1`, `"org.opencontainers.image.title":"made for a test"`,
		}},
		{"manifests" + query("repository", "team/app", "digest", index.Digest.String()), 200, []string{`"here":true`, `"platform":"linux/arm64/v8"`, `"layers":[]`}},
		{"manifests" + query("repository", "team/app", "digest", sbom.Digest.String()), 200, []string{`"artifact_type":"application/spdx+json"`, `"read":false`, `"subject":"` + img.Digest.String()}},
		{"manifests" + query("repository", "docker.io/library/app", "digest", up.Digest.String()), 200, []string{`"upstream":"docker.io"`}},
		{"manifests" + query("repository", "team/app", "digest", zero), 404, []string{"MANIFEST_UNKNOWN"}},
		{"manifests" + query("repository", "team/app"), 400, []string{"DIGEST_INVALID"}},
		{"referrers" + query("repository", "team/app", "digest", img.Digest.String()), 200, []string{`"artifact_type":"application/spdx+json"`, `"made":"by hand"`}},
		{"referrers" + query("repository", "team/none", "digest", img.Digest.String()), 200, []string{`{"referrers":[]}`}},
		{"uploads", 200, []string{`"repository":"team/new","received":4,`}},
		{"fills", 200, []string{`{"fills":[]}`}},
		{"events", 200, []string{`{"events":[]}`}},
		{"upstreams", 200, []string{
			`"name":"docker.io"`, fmt.Sprintf(`"requests":4,"hits":1,"served":%d,"fetched":`, cached+up.Layers[0].Size), `"points":[{"at":"20`,
			`"version":"` + version + `"`, fmt.Sprintf(`"cache":{"known":true,"bytes":%d,`, cached), `"disk":{"free":`, `"replica":{"alone":true,"current":false,"others":[]}`,
		}},
		{"explain" + query("image", "team/app:v1"), 200, []string{`"route":"local"`}},
		{"explain" + query("image", "docker.io/library/app:1"), 200, []string{`"route":"mirrored"`}},
		{"explain" + query("image", ":"), 400, nil},
		{"explain" + query("image", "team/app:v1", "verbose", "1"), 400, []string{"UNSUPPORTED"}},
		{"openapi.json", 200, []string{`"openapi":"3.0.3"`}},
	} {
		a := r.get("/v2/_ext/" + c.path)
		if a.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.path, a.status, a.body, c.status)
		}
		d.holds(t, "/v2/_ext/"+c.path, a)
		for _, part := range c.has {
			if !strings.Contains(string(a.body), part) {
				t.Errorf("%s: no %s in %s", c.path, part, a.body)
			}
		}
	}
	if asked := u.Take(); len(asked) > 0 {
		t.Errorf("the upstream was asked %v", asked)
	}
	got, n := r.pages("/v2/_ext/tags?n=1&repository=team/app", func(a answer) (names []string) {
		d.holds(t, "/v2/_ext/tags?repository=team/app", a)
		var list struct{ Tags []view.Tag }
		if err := json.Unmarshal(a.body, &list); err != nil {
			t.Error(err)
		}
		for _, tag := range list.Tags {
			names = append(names, tag.Name)
		}
		return names
	})
	if want := []string{"all", "v1"}; !slices.Equal(got, want) || n != 2 {
		t.Errorf("in %d pages %v", n, got)
	}
	for name := range extensions(nil) { // every address was asked, and its answer held against the description
		if a := r.do(http.MethodPost, "/v2/_ext/"+name, nil); a.status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", name, a.status)
		}
	}
}

// What is said where there is more of it, other replicas and a limit of the cache, is
// described too.
func TestStateIsDescribed(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(view.Upstreams{Upstreams: []view.Upstream{}, State: view.State{
		Version: "1", Cache: &view.Cache{Known: true, Bytes: 1, Most: 2, Disk: &view.Disk{Free: 3, Total: 4}},
		Replica: view.Replica{Current: true, Advertise: "http://one", Others: []view.Peer{{Advertise: "http://two", Version: "1", Fills: 1, Uploads: 2}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	describe(t).holds(t, "/v2/_ext/upstreams", answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: body})
}

// Who may list but not pull everything sees what he may pull, page by page, and of the
// rest not even that it is there: at most 200 decisions a request.
func TestExtensionsShowWhatMayBePulled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, []string{"ann"}, `{allow: ['request.action == "list"', 'identity.username == "ann" && request.action in ["pull", "push"] && request.repository.matches("^all/.*7$")', 'identity.username == "ann" && request.action == "push"']}`, "")
	v := w.visitor("basic", "ann")
	const many = 450
	var pushes errgroup.Group
	pushes.SetLimit(16) // what comes together is synced together
	for i := range many {
		pushes.Go(func() error {
			repo := fmt.Sprintf("all/r%03d", i)
			if a := v.do(repo, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest.FromString("x").String(), []byte("x")); a.status != http.StatusCreated {
				return fmt.Errorf("%s: %d %s", repo, a.status, a.body)
			}
			return nil
		})
	}
	if err := pushes.Wait(); err != nil {
		t.Fatal(err)
	}
	var names []string
	pages := 0
	for path := "/v2/_ext/repositories?n=1000"; path != ""; pages++ {
		a := v.do("", http.MethodGet, path, nil)
		var list struct{ Repositories []view.Repository }
		if err := json.Unmarshal(a.body, &list); err != nil || a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		for _, r := range list.Repositories {
			names = append(names, r.Name)
		}
		path, _ = strings.CutSuffix(strings.TrimPrefix(a.header.Get("Link"), "<"), `>; rel="next"`)
		if strings.Contains(path, "all") {
			t.Errorf("the link %s names what is hidden", path)
		}
	}
	if len(names) != many/10 || pages != 3 {
		t.Errorf("%d names in %d pages: %v", len(names), pages, names)
	}
	for _, path := range []string{"_ext/repositories?n=0&search=all", "_ext/repositories?n=0", "_catalog?n=0"} {
		if a := v.do("", http.MethodGet, "/v2/"+path, nil); a.status != http.StatusOK || string(a.body) != `{"repositories":[]}` || a.header.Get("Link") != "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"tags?repository=%s", "manifests?digest=" + digest.FromString("x").String() + "&repository=%s"} {
		denied := v.do("", http.MethodGet, fmt.Sprintf("/v2/_ext/"+path, "all/r001"), nil).print()
		absent := v.do("", http.MethodGet, fmt.Sprintf("/v2/_ext/"+path, "all/none"), nil).print()
		if strings.ReplaceAll(denied, "all/r001", "all/none") != absent || !strings.Contains(absent, "404") {
			t.Errorf("denied\n%s\nabsent\n%s", denied, absent)
		}
	}
}

// One damaged record does not hide a repository's other tags: that tag is said to be damaged,
// on its page too, and what is not known of it is left out.
func TestDamagedTagsAreShown(t *testing.T) {
	data := t.TempDir()
	r := start(t, data, "")
	var damaged v1.Descriptor
	for _, tag := range []string{"a", "b", "c"} {
		damaged = r.pushImage("team/app", tag, v1.Image{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}}, []byte(tag))
		if a := r.get("/v2/team/app/manifests/" + tag); a.status != http.StatusOK { // which is written down
			t.Fatalf("%s: %d", tag, a.status)
		}
	}
	r.end()
	files := []string{"r/team/app/_m/sha256/" + damaged.Digest.Encoded(), "r/team/app/_t/b"}
	pulls, err := filepath.Glob(filepath.Join(data, "records/pulled/team/app/_/*"))
	if err != nil || len(pulls) == 0 {
		t.Fatalf("%v, %v", pulls, err)
	}
	for _, name := range append(pulls, filepath.Join(data, "records", files[0]), filepath.Join(data, "records", files[1])) {
		if err := os.WriteFile(name, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r = start(t, data, "")
	a := r.get("/v2/_ext/tags?repository=team/app")
	describe(t).holds(t, "/v2/_ext/tags?repository=team/app", a)
	var list struct{ Tags []view.Tag }
	if err := json.Unmarshal(a.body, &list); err != nil || len(list.Tags) != 3 {
		t.Fatalf("%d %s, %v", a.status, a.body, err)
	}
	for i, damaged := range []bool{false, true, true} {
		if tag := list.Tags[i]; tag.Damaged != damaged || (len(tag.Platforms) == 0) != damaged || (tag.Digest == "") != damaged {
			t.Errorf("%+v", tag)
		}
	}
	page := r.get("/ui/repository?name=team/app")
	if n := strings.Count(string(page.body), ">damaged</span>"); page.status != http.StatusOK || n != 2 {
		t.Errorf("the page: %d, %d are damaged", page.status, n)
	}
}
