package serve_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d differs from what was agreed:\n%s", name, i+1, strings.Join(gotLines[max(0, i-5):min(i+10, len(gotLines))], "\n"))
		}
	}
	t.Fatalf("%s: %d lines, %d agreed", name, len(gotLines), len(wantLines))
}

// TestAnswers plays a client's requests against a registry in memory and holds
// every answer, header by header, against a golden file that reads as the
// protocol's documentation.
func TestAnswers(t *testing.T) {
	var (
		h      = serve.New(newLocal(t), serve.Options{})
		layer  = "the layer's bytes"
		tree   = origintest.Image([]byte("{}"), []byte(layer))
		image  = tree.Manifest
		sbom   = origintest.Artifact(image.Descriptor.Descriptor, "application/vnd.example.sbom", map[string]string{"k": "<v>"}, []byte("sbom"))
		d      = digest.FromString(layer)
		cfg    = digest.FromString("{}")
		absent = digest.FromString("absent")
		wide   = digest.SHA512.FromString(layer)
		out    bytes.Buffer
		last   string // Location of the answer before
	)
	type step struct {
		title, method, target, content string
		headers                        []string
	}
	octets := []string{"Content-Type", "application/octet-stream"}
	upload := func(repo string, d digest.Digest, content string) step {
		return step{"", "POST", "/v2/" + repo + "/blobs/uploads/?digest=" + string(d), content, octets}
	}
	steps := []step{
		{"The base", "GET", "/v2/", "", nil},
		{"", "HEAD", "/v2", "", nil},
		{"", "PUT", "/v2/", "", nil},
		{"", "GET", "/", "", nil},
		{"", "GET", "/v2/team/app", "", nil},

		{"A blob in one request", "POST", "/v2/team/app/blobs/uploads/?digest=" + string(d), layer, octets},
		{"", "POST", "/v2/team/app/blobs/uploads/?digest=" + string(d), "other bytes", octets},
		{"A blob in chunks", "POST", "/v2/team/app/blobs/uploads/", "", nil},
		{"", "PATCH", "LOCATION", "{", []string{"Content-Range", "0-0"}},
		{"a chunk twice", "PATCH", "LOCATION", "{", []string{"Content-Range", "0-0"}},
		{"a chunk that is not as long as it says", "PATCH", "LOCATION", "}}}", []string{"Content-Range", "1-1"}},
		{"no range of a chunk", "PATCH", "LOCATION", "}", []string{"Content-Range", "from 1 on"}},
		{"how far is it?", "GET", "LOCATION", "", nil},
		{"no digest", "PUT", "LOCATION", "", nil},
		{"", "PUT", "LOCATION?digest=" + string(cfg), "}", []string{"Content-Range", "1-1"}},
		{"again", "PUT", "/v2/team/app/blobs/uploads/" + uploadID + "?digest=" + string(cfg), "", nil},
		{"An upload that is cancelled", "POST", "/v2/team/app/blobs/uploads/?digest-algorithm=sha512", "", nil},
		{"in another repository", "DELETE", "OTHER", "", nil},
		{"", "DELETE", "LOCATION", "", nil},
		{"", "GET", "LOCATION", "", nil},
		{"Mounts", "POST", "/v2/team/copy/blobs/uploads/?mount=" + string(d) + "&from=team/app", "", nil},
		{"from anywhere", "POST", "/v2/team/copy/blobs/uploads/?mount=" + string(cfg), "", nil},
		{"what is not there", "POST", "/v2/team/copy/blobs/uploads/?mount=" + string(absent) + "&from=team/app", "", nil},

		{"Blobs", "GET", "/v2/team/app/blobs/" + string(d), "", nil},
		{"", "HEAD", "/v2/team/app/blobs/" + string(d), "", nil},
		{"", "HEAD", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=0-0"}},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=4-8"}},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=0-"}},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=12-"}},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=-5"}},
		{"longer than it is", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=-500"}},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=17-"}},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=5-4"}},
		{"several: the whole", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=0-1,4-5"}},
		{"of this content", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=0-2", "If-Range", `"` + string(d) + `"`}},
		{"of other content", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"Range", "bytes=0-2", "If-Range", `"x"`}},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", []string{"If-None-Match", `"` + string(d) + `"`}},
		{"", "GET", "/v2/team/app/blobs/" + string(absent), "", nil},
		{"", "HEAD", "/v2/team/app/blobs/" + string(absent), "", nil},
		{"", "GET", "/v2/team/app/blobs/" + string(absent), "", []string{"If-None-Match", "*"}},
		{"in another repository", "GET", "/v2/team/other/blobs/" + string(d), "", nil},
		{"as sha512", "POST", "/v2/team/app/blobs/uploads/?digest=" + string(wide), layer, octets},
		{"", "GET", "/v2/team/app/blobs/" + string(wide), "", nil},

		{"Manifests", "PUT", "/v2/team/app/manifests/latest", string(image.Bytes), []string{"Content-Type", image.MediaType + "; charset=utf-8"}},
		{"", "PUT", "/v2/team/app/manifests/" + string(image.Digest) + "?tag=v1&tag=v2", string(image.Bytes), []string{"Content-Type", image.MediaType}},
		{"", "PUT", "/v2/team/app/manifests/" + string(absent), string(image.Bytes), []string{"Content-Type", image.MediaType}},
		{"no media type", "PUT", "/v2/team/app/manifests/latest", string(image.Bytes), nil},
		{"of which the blobs are not there", "PUT", "/v2/team/other/manifests/latest", string(image.Bytes), []string{"Content-Type", image.MediaType}},
		{"that is none", "PUT", "/v2/team/app/manifests/latest", "[]", []string{"Content-Type", image.MediaType}},
		{"", "GET", "/v2/team/app/manifests/latest", "", []string{"Accept", "text/html"}},
		{"", "HEAD", "/v2/team/app/manifests/" + string(image.Digest), "", nil},
		{"", "GET", "/v2/team/app/manifests/v1", "", []string{"If-None-Match", string(image.Digest)}},
		{"", "HEAD", "/v2/team/app/manifests/v1", "", []string{"If-None-Match", `"x", W/"` + string(image.Digest) + `"`}},
		{"", "GET", "/v2/team/app/manifests/absent", "", nil},
		{"", "HEAD", "/v2/team/app/manifests/" + string(absent), "", nil},
		{"", "GET", "/v2/absent/manifests/latest", "", nil},

		{"Tags", "GET", "/v2/team/app/tags/list", "", nil},
		{"", "GET", "/v2/team/app/tags/list?n=2", "", nil},
		{"", "GET", "/v2/team/app/tags/list?n=2&last=v1", "", nil},
		{"", "GET", "/v2/team/app/tags/list?n=0", "", nil},
		{"", "GET", "/v2/team/app/tags/list?n=-1", "", nil},
		{"", "GET", "/v2/absent/tags/list", "", nil},
		{"", "HEAD", "/v2/team/app/tags/list", "", nil},
		{"The catalog", "GET", "/v2/_catalog", "", nil},
		{"", "GET", "/v2/_catalog?n=1", "", nil},
		{"", "GET", "/v2/_catalog?n=1&last=team/app", "", nil},

		{"Referrers", "GET", "/v2/team/app/referrers/" + string(image.Digest), "", nil},
		upload("team/app", digest.FromString("sbom"), "sbom"),
		{"", "PUT", "/v2/team/app/manifests/" + string(sbom.Manifest.Digest), string(sbom.Manifest.Bytes), []string{"Content-Type", sbom.Manifest.MediaType}},
		{"", "GET", "/v2/team/app/referrers/" + string(image.Digest), "", nil},
		{"", "GET", "/v2/team/app/referrers/" + string(image.Digest) + "?artifactType=application/vnd.example.sbom", "", nil},
		{"", "GET", "/v2/team/app/referrers/" + string(image.Digest) + "?artifactType=none", "", nil},
		{"", "GET", "/v2/team/app/referrers/latest", "", nil},

		{"Namespaces", "GET", "/v2/library/nginx/manifests/1.27?ns=docker.io", "", nil},
		{"", "GET", "/docker.io/v2/library/nginx/manifests/1.27", "", nil},
		{"", "GET", "/docker.io/v2/", "", nil},
		{"", "GET", "/v2/_catalog?ns=docker.io", "", nil},

		{"Invalid names", "GET", "/v2/team%2fapp/manifests/latest", "", nil},
		{"", "GET", "/v2/Team/manifests/latest", "", nil},
		{"", "GET", "/v2/team/../manifests/latest", "", nil},
		{"", "GET", "/v2/team//manifests/latest", "", nil},
		{"", "GET", "/v2/team/app/manifests/-x", "", nil},
		{"", "GET", "/v2/team/app/blobs/sha256:0", "", nil},

		{"Deletions", "DELETE", "/v2/team/app/manifests/v2", "", nil},
		{"", "DELETE", "/v2/team/app/manifests/v2", "", nil},
		{"", "DELETE", "/v2/team/app/manifests/" + string(image.Digest), "", nil},
		{"", "GET", "/v2/team/app/manifests/latest", "", nil},
		{"", "DELETE", "/v2/team/app/blobs/" + string(d), "", nil},
		{"", "GET", "/v2/team/app/blobs/" + string(d), "", nil},

		{"Other methods, other places", "POST", "/v2/team/app/manifests/latest", "x", nil},
		{"", "BREW", "/v2/team/app/blobs/" + string(d), "", nil},
		{"", "GET", "/v2/_ext/nothing", "", nil},
	}
	for _, s := range steps {
		target := strings.ReplaceAll(s.target, "LOCATION", last)
		target = strings.ReplaceAll(target, "OTHER", strings.Replace(last, "team/app", "team/other", 1))
		w := get(t, h, s.method, target, s.content, s.headers...)
		if loc := w.Header().Get("Location"); strings.Contains(loc, "/uploads/") {
			last = loc
		}
		if w.Header().Get("Docker-Distribution-API-Version") != "registry/2.0" {
			t.Errorf("%s %s: no version header", s.method, target)
		}
		w.Header().Del("Docker-Distribution-API-Version")
		if s.title != "" {
			fmt.Fprintf(&out, "# %s\n", s.title)
		}
		fmt.Fprintf(&out, "%s %s\n", s.method, target)
		for i := 0; i < len(s.headers); i += 2 {
			fmt.Fprintf(&out, "%s: %s\n", s.headers[i], s.headers[i+1])
		}
		fmt.Fprintf(&out, "\n%d\n", w.Code)
		for _, k := range slices.Sorted(maps.Keys(w.Header())) {
			for _, v := range w.Header()[k] {
				fmt.Fprintf(&out, "%s: %s\n", k, v)
			}
		}
		if w.Body.Len() > 0 {
			fmt.Fprintf(&out, "%s\n", w.Body)
		}
		out.WriteString("\n")
		if s.method == "HEAD" && w.Body.Len() > 0 {
			t.Errorf("HEAD %s has a body", target)
		}
	}
	ids := regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	got := out.String()
	for _, line := range regexp.MustCompile(`(?m)^Docker-Upload-Uuid: (.*)$`).FindAllStringSubmatch(got, -1) {
		got = strings.ReplaceAll(got, line[1], "ID")
	}
	if left := ids.FindString(strings.ReplaceAll(regexp.MustCompile(`sha(256|512):[0-9a-f]+`).ReplaceAllString(got, ""), "ID", "")); left != "" {
		t.Errorf("%s is neither a digest nor an id", left)
	}
	golden(t, "answers.txt", []byte(got))
	if image.MediaType != v1.MediaTypeImageManifest {
		t.Errorf("media type %s", image.MediaType)
	}
}
