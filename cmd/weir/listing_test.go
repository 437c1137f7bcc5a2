package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// pages follows the Links of a listing from path on, and gives what pick finds in them.
func (r *running) pages(path string, pick func(answer) []string) (all []string, n int) {
	r.t.Helper()
	for path != "" {
		a := r.get(path)
		if a.status != http.StatusOK || a.err != nil {
			r.t.Fatalf("%s: %d %s, %v", path, a.status, a.body, a.err)
		}
		all, n = append(all, pick(a)...), n+1
		link, found := strings.CutSuffix(a.header.Get("Link"), `>; rel="next"`)
		if path = strings.TrimPrefix(link, "<"); found && !strings.HasPrefix(path, "/v2/") {
			r.t.Errorf("link to %s", path)
		}
	}
	return all, n
}

func pickReferrers(a answer) []string {
	var index v1.Index
	var all []string
	if json.Unmarshal(a.body, &index) != nil || index.MediaType != v1.MediaTypeImageIndex {
		return nil
	}
	for _, d := range index.Manifests {
		all = append(all, d.Digest.String())
	}
	return all
}

func pickTags(a answer) []string {
	var list struct{ Tags []string }
	if json.Unmarshal(a.body, &list) != nil {
		return nil
	}
	return list.Tags
}

// Referrers come from the upstream's API, or from the tag that stands in for it: in
// order, in pages, of a type, asked for once; and while the upstream is down, by a weir
// that has begun since, said to be stale.
func TestReferrersThroughTheMirror(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("API %v", api), func(t *testing.T) {
			u := remotetest.New(t)
			img := u.AddImage("library/app", "1", []byte("layer"))
			var want, sboms []string
			var index v1.Index
			for i := range 5 {
				kind := []string{"application/sig", "application/sbom"}[i%2]
				d := u.AddReferrer("library/app", kind, v1.Descriptor{MediaType: img.MediaType, Digest: img.Digest, Size: img.Size + int64(i)})
				index.Manifests = append(index.Manifests, d)
				want = append(want, d.Digest.String())
				if i%2 == 1 {
					sboms = append(sboms, d.Digest.String())
				}
			}
			asked := []string{"GET /v2/library/app/referrers/" + img.Digest.String() + " 200"}
			if api {
				u.PageSize(100)
			} else {
				u.NoReferrersAPI()
				index.Versioned, index.MediaType = specs.Versioned{SchemaVersion: 2}, v1.MediaTypeImageIndex
				b, err := json.Marshal(index)
				if err != nil {
					t.Fatal(err)
				}
				tag := "sha256-" + img.Digest.Encoded()
				u.AddManifest("library/app", v1.MediaTypeImageIndex, b, tag)
				asked = []string{"GET /v2/library/app/referrers/" + img.Digest.String() + " 404", "GET /v2/library/app/manifests/" + tag + " 200"}
			}
			slices.Sort(want)
			slices.Sort(sboms)
			data := t.TempDir()
			mirror := hub(u, "      referrers_ttl: 1h\n")
			r := start(t, data, mirror)
			path := "/v2/docker.io/library/app/referrers/" + img.Digest.String()
			if got, n := r.pages(path+"?n=2", pickReferrers); !slices.Equal(got, want) || n != 3 {
				t.Errorf("in %d pages %v, want %v", n, got, want)
			}
			if got, n := r.pages(path+"?n=1&artifactType=application/sbom", pickReferrers); !slices.Equal(got, sboms) || n != 2 {
				t.Errorf("of a type, in %d pages %v, want %v", n, got, sboms)
			}
			got := slices.DeleteFunc(u.Take(), func(line string) bool { return line == "GET /v2/ 200" })
			if !slices.Equal(got, asked) {
				t.Errorf("the upstream was asked %v, want %v", got, asked)
			}
			a := r.get(path + "?artifactType=application/sbom")
			if a.header.Get("OCI-Filters-Applied") != "artifactType" || a.header.Get("Weir-Cache") != "hit" {
				t.Errorf("header %v", a.header)
			}
			// What nobody knows is referred to by nothing.
			none := "/v2/docker.io/library/app/referrers/" + digest.FromString("none").String()
			if a := r.get(none); a.status != http.StatusOK || len(pickReferrers(a)) != 0 || !strings.Contains(string(a.body), `"manifests":[]`) {
				t.Errorf("unknown digest: %d %s", a.status, a.body)
			}
			if metrics := r.metrics(); !strings.Contains(metrics, `weir_mirror_requests_total{kind="referrers",result="hit",upstream="docker.io"}`) {
				t.Error("not counted")
			}
			r.end()

			r = start(t, data, strings.Replace(mirror, "1h", "0s", 1))
			u.Fault("/v2/", remotetest.Status(http.StatusServiceUnavailable))
			a = r.get(path)
			if !slices.Equal(pickReferrers(a), want) || a.header.Get("Weir-Cache") != "stale" || !strings.Contains(a.header.Get("Warning"), "stale: upstream docker.io is not available") {
				t.Errorf("upstream down: %d %v %s", a.status, a.header, a.body)
			}
		})
	}
}

// A hybrid takes pushes, lists both sides' tags with links that lead on here, and is
// nothing but what is allowed.
func TestHybridOverHTTP(t *testing.T) {
	u := remotetest.New(t)
	for _, tag := range []string{"1", "2", "3"} {
		u.AddImage("team/app", tag, []byte("layer "+tag))
	}
	u.AddImage("secret/app", "1", []byte("secret"))
	r := start(t, "", hub(u, "      allow: ['team/**']\n      writable: true\n"))
	layer := []byte("ours")
	d := digest.FromBytes(layer).String()
	blob := "/v2/docker.io/team/app/blobs/"
	if a := r.do(http.MethodHead, blob+d, nil); a.status != http.StatusNotFound {
		t.Errorf("HEAD of a blob: %d", a.status)
	}
	for _, b := range [][]byte{layer, []byte("{}")} {
		if a := r.do(http.MethodPost, blob+"uploads/?digest="+digest.FromBytes(b).String(), bytes.NewReader(b)); a.status != http.StatusCreated {
			t.Fatalf("push of a blob: %d %s", a.status, a.body)
		}
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"a/b","digest":%q,"size":%d}]}`,
		v1.MediaTypeImageManifest, digest.FromString("{}"), d, len(layer))
	for _, tag := range []string{"2", "2.1"} {
		if a := r.do(http.MethodPut, "/v2/team/app/manifests/"+tag+"?ns=docker.io", strings.NewReader(manifest), "Content-Type", v1.MediaTypeImageManifest); a.status != http.StatusCreated {
			t.Fatalf("push of a manifest: %d %s", a.status, a.body)
		}
	}
	if n := u.Count(""); n != 0 {
		t.Errorf("a push asked the upstream: %v", u.Take())
	}
	if a := r.get("/v2/docker.io/team/app/manifests/2"); string(a.body) != manifest || u.Count("") != 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got, n := r.pages("/v2/docker.io/team/app/tags/list?n=1", pickTags); !slices.Equal(got, []string{"1", "2", "2.1", "3"}) || n != 4 {
		t.Errorf("tags in %d pages: %v", n, got)
	}
	if a := r.do(http.MethodDelete, "/v2/docker.io/team/app/manifests/2", nil); a.status != http.StatusAccepted {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if a := r.get("/v2/docker.io/team/app/manifests/2"); a.status != http.StatusOK || string(a.body) == manifest {
		t.Errorf("the upstream's: %d %s", a.status, a.body)
	}

	u.Take()
	for _, path := range []string{
		"manifests/1", "manifests/" + d, "blobs/" + d, "tags/list", "referrers/" + d,
	} {
		for _, name := range []string{"docker.io/secret/app", "docker.io/app"} {
			if a := r.get("/v2/" + name + "/" + path); a.status != http.StatusNotFound || a.code() != "NAME_UNKNOWN" {
				t.Errorf("%s of %s: %d %s", path, name, a.status, a.body)
			}
		}
	}
	if a := r.get("/v2/_ext/explain?image=docker.io/secret/app:1"); a.status != http.StatusNotFound || a.code() != "NAME_UNKNOWN" {
		t.Errorf("explain: %d %s", a.status, a.body)
	}
	if n := u.Count(""); n != 0 {
		t.Errorf("the upstream was asked: %v", u.Take())
	}
}

// What prefetch.platforms names is there before it is asked for.
func TestPrefetchPlatforms(t *testing.T) {
	u := remotetest.New(t)
	var images []remotetest.Image
	var index []v1.Descriptor
	for i, arch := range []string{"amd64", "arm64", "s390x"} {
		img := u.AddImage("library/app", "", bytes.Repeat([]byte{byte(i)}, 3<<20))
		img.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		images, index = append(images, img), append(index, img.Descriptor)
	}
	u.AddIndex("library/app", "1", index...)
	r := start(t, "", hub(u, "      prefetch: {platforms: [linux/amd64, linux/arm64]}\n"))
	if a := r.get("/v2/docker.io/library/app/manifests/1"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var x struct {
		Blobs []struct{ Where string }
	}
	for _, img := range images[:2] {
		eventually(t, "it is there", func() bool {
			x.Blobs = nil
			a := r.get("/v2/_ext/explain?image=docker.io/library/app@" + img.Digest.String())
			return json.Unmarshal(a.body, &x) == nil && len(x.Blobs) == 2 && x.Blobs[0].Where == "stored" && x.Blobs[1].Where == "stored"
		})
	}
	if n := u.Count(images[2].Digest.String()) + u.Count(images[2].Layers[0].Digest.String()); n != 0 {
		t.Errorf("%d requests for what nobody named", n)
	}
	u.Take()
	for _, img := range images[:2] {
		if a := r.get("/v2/docker.io/library/app/blobs/" + img.Layers[0].Digest.String()); a.header.Get("Weir-Cache") != "hit" {
			t.Errorf("%d %v", a.status, a.header)
		}
	}
	if n := u.Count(""); n != 0 {
		t.Errorf("asked %v", u.Take())
	}
}
