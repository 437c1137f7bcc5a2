package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/origin/origintest"
)

// These are past failures of registries, by the names they were given. Those that other
// tests prove are listed in conformance/advisories_test.go.

// CVE-2023-2253: a page's length was allocated as it was asked for.
func TestCVE20232253(t *testing.T) {
	w := newWorld(t, []string{"ann"}, `{default: allow}`, "")
	ann := w.visitor("basic", "ann")
	img := sameImage()
	img.Push(t, w.app.registry, "team/app", "v1")
	for _, path := range []string{"/v2/_catalog", "/v2/team/app/tags/list", "/v2/team/app/referrers/" + img.Digest().String()} {
		for n, want := range map[string]int{
			"1000000000": 200, "18446744073709551616": 200, "99999999999999999999999999": 200, "0": 200, "-1": 400, "abc": 400, "1e9": 400, "0x10": 400,
		} {
			if a := ann.do("team/app", http.MethodGet, path+"?n="+n, nil); a.status != want {
				t.Errorf("%s?n=%s: %d %s", path, n, a.status, a.body)
			}
		}
	}
}

// CVE-2024-39897: a blob that one may not read was given under a repository that one may.
// What is there elsewhere cannot be told from what is nowhere, by any of the ways to ask.
func TestCVE202439897(t *testing.T) {
	w := newWorld(t, []string{"bob"}, `{allow: ['request.repository.startsWith("bob/") && identity.authenticated']}`, "")
	bob := w.visitor("basic", "bob")
	secret := origintest.Bytes(4, 900)
	d := origintest.PushBlob(t, w.app.registry, "ann/secret", secret).String()
	origintest.PushBlob(t, w.app.registry, "bob/app", []byte("mine"))
	random := digest.FromString("nowhere").String()
	ask := func(d, header, method, query string) string {
		path := "/v2/bob/app/blobs/" + d
		if query != "" {
			path = "/v2/bob/app/blobs/uploads/" + strings.ReplaceAll(query, "DIGEST", d)
		}
		a := bob.do("bob/app", method, path, nil, "Range", header)
		return strings.ReplaceAll(strings.ReplaceAll(a.print(), d, "DIGEST"), strings.Split(a.header.Get("Location"), "?")[0], "LOCATION")
	}
	for _, x := range [][3]string{
		{"", "GET", ""},
		{"", "HEAD", ""},
		{"bytes=0-9", "GET", ""},
		{"bytes=-1", "GET", ""},
		{"", "DELETE", ""},
		{"", "POST", "?mount=DIGEST&from=ann/secret"},
		{"", "POST", "?mount=DIGEST"},
		{"", "POST", "?mount=DIGEST&from=bob/app"},
	} {
		if there, nowhere := ask(d, x[0], x[1], x[2]), ask(random, x[0], x[1], x[2]); there != nowhere {
			t.Errorf("%v:\n%s\nand of a random one\n%s", x, there, nowhere)
		}
	}
}

// CVE-2026-35172: a blob that was deleted came back in one repository when it was read in
// another.
func TestCVE202635172(t *testing.T) {
	w := newWorld(t, []string{"ann"}, `{default: allow}`, "")
	ann := w.visitor("basic", "ann")
	blob := origintest.Bytes(3, 500)
	var d digest.Digest
	for _, repo := range []string{"a/app", "b/app"} {
		d = origintest.PushBlob(t, w.app.registry, repo, blob)
	}
	read := func(repo string) int {
		return ann.do(repo, http.MethodGet, "/v2/"+repo+"/blobs/"+d.String(), nil).status
	}
	for range 3 {
		if read("a/app") != 200 || read("b/app") != 200 {
			t.Fatal("it is not there")
		}
		if a := ann.do("a/app", http.MethodDelete, "/v2/a/app/blobs/"+d.String(), nil); a.status != 202 {
			t.Fatal(a.status)
		}
		if a, b, again := read("a/app"), read("b/app"), read("a/app"); a != 404 || b != 200 || again != 404 {
			t.Errorf("deleted: %d, elsewhere %d, again %d", a, b, again)
		}
		origintest.PushBlob(t, w.app.registry, "a/app", blob)
	}
}

// CVE-2026-41888 and CVE-2026-31801: what a rule says of a tag held for one spelling of a
// change, and not for another.
func TestCVE202641888(t *testing.T) {
	w := newWorld(t, []string{"ann"}, `{allow: ['identity.authenticated'], deny: ['request.tag == "latest" && request.action in ["push", "delete"]', 'request.operation == "delete-manifest"']}`, "")
	img := sameImage()
	img.Push(t, w.app.registry, "team/app", "latest")
	ann := w.visitor("basic", "ann")
	for _, x := range []struct{ method, rest string }{
		{http.MethodPut, "manifests/latest"},
		{http.MethodPut, "manifests/" + img.Digest().String() + "?tag=latest"},
		{http.MethodPut, "manifests/v1?tag=latest"},
		{http.MethodPut, "manifests/v1?tag=v2&tag=latest"},
		{http.MethodPut, "manifests/" + img.Digest().String() + "?tag=v1&tag=latest"},
		{http.MethodDelete, "manifests/latest"},
		{http.MethodDelete, "manifests/" + img.Digest().String()},
	} {
		if a := ann.do("team/app", x.method, "/v2/team/app/"+x.rest, img.Manifest.Bytes, "Content-Type", img.Manifest.MediaType); a.status != 403 {
			t.Errorf("%v: %d %s", x, a.status, a.body)
		}
	}
	if a := ann.do("team/app", http.MethodGet, "/v2/team/app/tags/list", nil); !strings.Contains(string(a.body), `["latest"]`) {
		t.Errorf("tags: %s", a.body)
	}
}

// Harbor #23681: a right followed from the beginning of a name that its owner could
// choose. Whoever is called like somebody else is not them.
func TestHarbor23681(t *testing.T) {
	w := newWorld(t, []string{"ann", "none", "nobody", "weir", "token"}, `{allow: ['identity.id == "basic:ann"']}`, "")
	push := func(v *visitor) int {
		return v.do("team/app", http.MethodPost, "/v2/team/app/blobs/uploads/", nil).status
	}
	if got := push(w.visitor("basic", "ann")); got != 202 {
		t.Fatalf("ann: %d", got)
	}
	for _, v := range map[string]*visitor{
		"another user": w.visitor("basic", "weir"), "called none": w.visitor("basic", "none"), "called nobody": w.visitor("bearer", "nobody"), "called like a method": w.visitor("basic", "token"),
		"ann of the provider": w.visitor("oidc", "ann"), "a subject like an id": w.visitor("oidc", "basic:ann"), "ann of a certificate": w.visitor("mtls", "ann"), "a certificate like an id": w.visitor("mtls", "basic:ann"),
		"a claim like an id": {w: w, client: w.plain, credentials: func(string) string {
			return "Bearer " + w.provider.token(t, "x", `,"id":"basic:ann","method":"basic","username":"ann","groups":["basic:ann"]`)
		}},
		"a long common name": {w: w, client: w.client(w.clients.Issue(t, mtlstest.Client("ann,O=basic:ann"))), credentials: func(string) string { return "" }},
	} {
		if got := push(v); got != 403 {
			t.Errorf("%d", got)
		}
	}
}

// Pulp #1286, OpenShift #9755 and #9593: a mount took what one may not pull. It begins an
// upload, as if nothing were there.
func TestPulp1286(t *testing.T) {
	w := newWorld(t, []string{"bob"}, `{allow: ['request.repository.startsWith("bob/") && identity.authenticated']}`, "")
	for _, method := range []string{"basic", "bearer", "oidc", "mtls"} {
		bob := w.visitor(method, "bob")
		blob := []byte("of ann, not for " + method)
		d := origintest.PushBlob(t, w.app.registry, "ann/secret", blob)
		for _, from := range []string{"&from=ann/secret", "&from=ann/none", "&from=bob/none", ""} {
			a := bob.do("bob/app", http.MethodPost, "/v2/bob/app/blobs/uploads/?mount="+d.String()+from, nil)
			if a.status != 202 || a.header.Get("Docker-Upload-UUID") == "" {
				t.Errorf("%s%s: %d %s", method, from, a.status, a.body)
			}
		}
		if a := bob.do("bob/app", http.MethodGet, "/v2/bob/app/blobs/"+d.String(), nil); a.status != 404 {
			t.Errorf("%s: %d", method, a.status)
		}
	}
}

// CVE-2017-11468: there was no limit on what a request may bring. Who may push nothing is
// told so before the bytes of a manifest are read.
func TestCVE201711468(t *testing.T) {
	w := newWorld(t, []string{"ann"}, `{default: deny}`, "")
	w.hub.Take()
	body := bytes.Repeat([]byte(" "), 4<<20+1)
	for method, want := range map[string]int{"none": 401, "basic": 403} {
		a := w.visitor(method, "ann").do("team/app", http.MethodPut, "/v2/team/app/manifests/v1", body, "Content-Type", sameImage().Manifest.MediaType)
		if a.status != want {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	open := newWorld(t, []string{"ann"}, `{default: allow}`, "")
	if a := open.visitor("basic", "ann").do("team/app", http.MethodPut, "/v2/team/app/manifests/v1", body, "Content-Type", sameImage().Manifest.MediaType); a.status != 413 {
		t.Errorf("who may: %d %s", a.status, fmt.Sprintf("%.100s", a.body))
	}
}
