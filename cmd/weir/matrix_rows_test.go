package main

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin/serve"
)

// What a repository of the matrix is to a visitor. Rights are on what is below own.
type spot string

const (
	own      spot = "own"      // it is there, and the visitor's rights are for it
	missing  spot = "missing"  // the rights are for it, and it is not there
	mirrored spot = "mirrored" // from an upstream, with rights
	other    spot = "other"    // it is there, and no right is for it
	gone     spot = "gone"     // it is not there, nor is a right
	barred   spot = "barred"   // from an upstream, without a right
)

func spots() []spot { return []spot{own, missing, mirrored, other, gone, barred} }

// granted reports whether rights are for it.
func (p spot) granted() bool { return p == own || p == missing || p == mirrored }

// ask is one request of a row. repo is the repository; session an upload there that the
// visitor began, where there can be one.
type ask struct {
	route  string // as serve.Routes, or the path of something else that is mounted
	what   string // tells asks of a route apart
	method string
	path   func(repo, session string) string
	body   []byte
	header []string

	needs   authz.Action // "": none
	free    bool         // it is about no repository
	session bool
	// answers are what those are answered with who may; nothing for a spot: 404.
	answers map[spot][]int
}

// asks are all rows of the matrix.
func asks() []ask {
	img := sameImage()
	manifest, layer := img.Digest().String(), img.Blobs[1].Digest.String()
	x := digest.FromString("x").String()
	in := func(rest string) func(repo, session string) string {
		return func(repo, _ string) string { return "/v2/" + repo + "/" + rest }
	}
	at := func(path string) func(string, string) string { return func(string, string) string { return path } }
	here := map[spot][]int{own: {200}, mirrored: {200}}
	gone := map[spot][]int{own: {202}, mirrored: {202, 404}} // of what is mirrored there is what was pulled
	always := map[spot][]int{own: {200}, missing: {200}, mirrored: {200}}
	begun := map[spot][]int{own: {202}, missing: {202}, mirrored: {405}}
	mount := func(from string) func(repo, session string) string {
		return func(repo, _ string) string { return "/v2/" + repo + "/blobs/uploads/?mount=" + layer + "&from=" + from }
	}
	upload := func(query string) func(repo, session string) string {
		return func(repo, session string) string { return "/v2/" + repo + "/blobs/uploads/" + session + query }
	}
	extended := func(name, digest string) func(repo, session string) string {
		return func(repo, _ string) string {
			q := url.Values{"repository": {repo}}
			if digest != "" {
				q.Set("digest", digest)
			}
			return "/v2/_ext/" + name + "?" + q.Encode()
		}
	}
	all := []ask{
		{route: "base", path: at("/v2/"), free: true, answers: always},
		{route: "list-catalog", path: at("/v2/_catalog?n=1000"), needs: authz.List, free: true, answers: always},
		{route: "extension", what: "fills", path: at("/v2/_ext/fills"), needs: authz.List, free: true, answers: always},
		{route: "extension", what: "upstreams", path: at("/v2/_ext/upstreams"), needs: authz.List, free: true, answers: always},
		{route: "extension", what: "repositories", path: at("/v2/_ext/repositories"), needs: authz.List, free: true, answers: always},
		// Whoever may list, and pull nothing, is shown nothing: that is not there, or no entry.
		{route: "extension", what: "tags", path: extended("tags", ""), needs: authz.List, free: true, answers: map[spot][]int{own: {404}}},
		{route: "extension", what: "manifests", path: extended("manifests", manifest), needs: authz.List, free: true, answers: map[spot][]int{own: {404}}},
		{route: "extension", what: "referrers", path: extended("referrers", manifest), needs: authz.List, free: true, answers: always},
		{route: "extension", what: "uploads", path: at("/v2/_ext/uploads"), needs: authz.List, free: true, answers: always},
		{route: "extension", what: "events", path: at("/v2/_ext/events"), needs: authz.List, free: true, answers: always},
		{route: "extension", what: "openapi.json", path: at("/v2/_ext/openapi.json"), needs: authz.List, free: true, answers: always},
		{route: "extension", what: "explain", path: func(repo, _ string) string {
			return "/v2/_ext/explain?image=" + url.QueryEscape(repo+":v1")
		}, needs: authz.List, free: true, answers: always},
		// What replicas ask each other for is there for nobody else, whoever he is.
		{route: "extension", what: "fill", path: func(repo, _ string) string {
			return hopPath + "?upstream=docker.io&repository=" + repo + "&digest=" + layer
		}, header: []string{hopHeader, "1 0123"}, free: true, answers: map[spot][]int{own: {404}}},
		{route: "list-tags", path: in("tags/list"), needs: authz.Pull, answers: here},
		{route: "get-manifest", what: "tag", path: in("manifests/v1"), needs: authz.Pull, answers: here},
		{route: "get-manifest", what: "digest", path: in("manifests/" + manifest), needs: authz.Pull, answers: here},
		{route: "get-blob", path: in("blobs/" + layer), needs: authz.Pull, answers: here},
		{route: "get-blob", what: "range", path: in("blobs/" + layer), header: []string{"Range", "bytes=0-9"}, needs: authz.Pull, answers: map[spot][]int{own: {206, 200}, mirrored: {206, 200}}},
		{route: "get-referrers", path: in("referrers/" + manifest), needs: authz.Pull, answers: always},
		{
			route: "put-manifest", what: "tag", path: in("manifests/mine"), body: img.Manifest.Bytes, header: []string{"Content-Type", img.Manifest.MediaType},
			needs: authz.Push, answers: map[spot][]int{own: {201}, mirrored: {405}},
		},
		{
			route: "put-manifest", what: "digest", path: in("manifests/" + manifest), body: img.Manifest.Bytes, header: []string{"Content-Type", img.Manifest.MediaType},
			needs: authz.Push, answers: map[spot][]int{own: {201}, mirrored: {405}},
		},
		{route: "put-manifest", what: "existing tag", path: in("manifests/v1"), body: img.Manifest.Bytes, header: []string{"Content-Type", img.Manifest.MediaType}, needs: authz.Push, answers: map[spot][]int{own: {201}, mirrored: {405}}},
		{route: "delete-manifest", what: "tag", path: in("manifests/v1"), needs: authz.Delete, answers: gone},
		{route: "delete-manifest", what: "digest", path: in("manifests/" + manifest), needs: authz.Delete, answers: gone},
		{route: "delete-blob", path: in("blobs/" + layer), needs: authz.Delete, answers: gone},
		{route: "start-upload", path: in("blobs/uploads/"), needs: authz.Push, answers: begun},
		{route: "start-upload", what: "at once", path: in("blobs/uploads/?digest=" + x), body: []byte("x"), needs: authz.Push, answers: map[spot][]int{own: {201}, missing: {201}, mirrored: {405}}},
		// Whoever may push may not pull: there is nothing to mount for them, and no error.
		{route: "start-upload", what: "mount from one's own", path: mount("own/app"), needs: authz.Push, answers: begun},
		{route: "start-upload", what: "mount from another's", path: mount("other/app"), needs: authz.Push, answers: begun},
		{route: "start-upload", what: "mount from nowhere", path: mount("other/nil"), needs: authz.Push, answers: begun},
		{route: "get-upload", path: upload(""), session: true, needs: authz.Push, answers: map[spot][]int{own: {204}, missing: {204}, mirrored: {405}}},
		{route: "patch-upload", path: upload(""), session: true, body: []byte("x"), needs: authz.Push, answers: begun},
		{route: "put-upload", path: upload("?digest=" + x), session: true, body: []byte("x"), needs: authz.Push, answers: map[spot][]int{own: {201}, missing: {201}, mirrored: {405}}},
		{route: "cancel-upload", path: upload(""), session: true, needs: authz.Push, answers: map[spot][]int{own: {204}, missing: {204}, mirrored: {405}}},
	}
	// Each is asked by all methods of its route.
	var each []ask
	for _, route := range serve.Routes() {
		for _, method := range route.Methods {
			for _, a := range all {
				if a.route == route.Name {
					a.method = method
					each = append(each, a)
				}
			}
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		each = append(each, ask{route: tokenPath, method: method, free: true, path: func(repo, _ string) string {
			return tokenPath + "?service=weir&scope=repository:" + repo + ":pull,push,delete"
		}})
	}
	return each
}

// TestMatrixHasEveryRoute: a route of the table, a method of one, or an address of _ext
// that no row asks has no spot in the server.
func TestMatrixHasEveryRoute(t *testing.T) {
	asked, extended := map[string]bool{}, map[string]bool{}
	for _, a := range asks() {
		if a.route == tokenPath {
			continue // it is all that is mounted besides: see TestNothingElseIsMounted
		}
		at, err := url.Parse(a.path("own/app", "0123456789abcdef"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := serve.Parse(a.method, at)
		if err != nil {
			t.Errorf("%s %s: %v", a.route, a.what, err)
		}
		i := slices.IndexFunc(serve.Routes(), func(r serve.Route) bool { return r.Name == a.route })
		if i < 0 || serve.Routes()[i].Kind != c.Kind {
			t.Errorf("%s %s asks something else", a.route, a.what)
		}
		asked[a.route+" "+a.method], extended[c.Extension] = true, true
	}
	for _, route := range serve.Routes() {
		for _, method := range route.Methods {
			if !asked[route.Name+" "+method] {
				t.Errorf("nobody asks %s of route %s", method, route.Name)
			}
		}
	}
	if !extended[serve.FillExtension] {
		t.Errorf("nobody asks %s", hopPath)
	}
	for name := range extensions(nil) {
		if !extended[name] {
			t.Errorf("nobody asks _ext/%s", name)
		}
	}
}

// TestNothingElseIsMounted: beside the routes there is /token, and what is for operators
// is on their listener alone, however it is spelt (Harbor's CVE-2020-29662; trust.md,
// section 3, row 45).
func TestNothingElseIsMounted(t *testing.T) {
	w := newWorld(t, []string{"ann"}, "{default: allow}", "")
	for _, path := range []string{
		"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/vars", "/debug/pprof/cmdline", "/", "/v1/", "/v2", "/api/", "/admin",
		"/v2/metrics", "/v2/_ext", "/v2/_ext/", "/v2/_ext/config", "/v2/_ext/debug", "/v2/_catalog/", "/V2/_catalog", "//v2/_catalog", "/v2//_catalog", "/v2/%5fcatalog", "/v2/_CATALOG",
		"/token/", "/Token", "//token", "/v2/token", "/token%2f", "/%74oken/x", "/x/../token",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodTrace, "PROPFIND"} {
			for _, override := range []string{"", "GET", "DELETE"} {
				a := w.send(w.plain, method, path, nil, "X-HTTP-Method-Override", override, "X-Original-URL", "/v2/_catalog")
				if a.status == http.StatusUnauthorized && path == "/v2" {
					continue // GET /v2/ by another spelling
				}
				if a.status < 400 || a.status == http.StatusUnauthorized {
					t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
				}
			}
		}
	}
}
