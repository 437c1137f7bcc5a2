package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/origin/serve"
)

// annsAlone is a weir whose credentials for its upstreams are for ann alone. What is below
// team is bob's, and everybody may list.
func annsAlone(t *testing.T, standard string, upstreams map[string]*remotetest.Upstream) *running {
	t.Helper()
	var list strings.Builder
	for name, u := range upstreams {
		fmt.Fprintf(&list, "    - name: %s\n      timeouts: {stall: 10m}\n      endpoints: [{url: '%s', username: bot, password: hunter2}]\n", name, u.URL())
		u.Basic("bot", "hunter2")
	}
	hash := basic.NewHash(password).Text()
	return start(t, "", fmt.Sprintf(`  default: %q
  upstreams:
%sauthz:
  basic: {users: [{name: ann, hash: %q}, {name: bob, hash: %q}]}
  policy:
    allow:
      - identity.username == "ann" && request.upstream != ""
      - identity.username == "bob" && request.upstream == "" && request.repository.startsWith("team/")
      - request.action == "list"
`, standard, list.String(), hash, hash))
}

// as asks as somebody; "": as nobody.
func (r *running) as(who string, p knock) answer {
	r.t.Helper()
	headers := p.headers
	if who != "" {
		headers = append(slices.Clone(headers), "Authorization", basicAuth(who, password))
	}
	return r.do(p.method, p.path, bytes.NewReader(p.body), headers...)
}

// pages are those about what is hidden.
func (h hidden) pages(image string) []knock {
	of := "name=" + url.QueryEscape(image)
	list := []string{"repository?" + of, "repository?search=secret&" + of}
	for _, page := range []string{"image?", "manifest?"} {
		for _, ref := range []string{"tag=secret", "tag=secrets", "digest=" + h.img.Digest.String(), "digest=" + h.signature.String()} {
			list = append(list, page+ref+"&"+of)
		}
	}
	for _, d := range append(digests(h.img), h.img.Config.Digest.String()) {
		list = append(list, "blob?digest="+d+"&"+of)
	}
	all := []knock{{http.MethodHead, "/ui/blob?digest=" + h.img.Config.Digest.String() + "&" + of, nil, nil}}
	for _, page := range list {
		all = append(all, knock{http.MethodGet, "/ui/" + page, nil, nil})
	}
	return all
}

// TestPrivateUpstream: what an upstream shows to weir's credentials, and weir to ann, does
// not exist for bob and for nobody, by whatever name, route and page (trust.md, S-2): they
// are answered as by a weir that never had it, to the byte, and nobody is asked about it.
func TestPrivateUpstream(t *testing.T) {
	t.Parallel()
	const image = "ghcr.io/" + secretRepo
	ghcr := remotetest.New(t)
	h := hide(ghcr)
	upstreams := map[string]*remotetest.Upstream{"ghcr.io": ghcr}
	with, without := annsAlone(t, "ghcr.io", upstreams), annsAlone(t, "ghcr.io", upstreams)

	// Ann has all of it but for a layer, which is coming.
	coming := digests(h.img)[1]
	gate := ghcr.GateAt("/blobs/"+coming, 100)
	var pull sync.WaitGroup
	pull.Go(func() { with.as("ann", knock{method: http.MethodGet, path: "/v2/" + image + "/blobs/" + coming}) })
	t.Cleanup(pull.Wait)
	t.Cleanup(gate.Open)
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(h.paths(), "tags/list", "referrers/"+h.img.Digest.String()) {
		if strings.HasSuffix(path, coming) {
			continue
		}
		if a := with.as("ann", knock{method: http.MethodGet, path: "/v2/" + image + "/" + path}); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	eventually(t, "all other fills end", func() bool { return with.count("weir_fills_active") == 1 })
	ghcr.Take()
	for _, page := range h.pages(image) { // or it would say nothing that others are not shown them
		if a := with.as("ann", page); a.status != http.StatusOK && !strings.Contains(page.path, coming) {
			t.Errorf("ann, %s: %d %s", page, a.status, a.body)
		}
	}

	for _, who := range []string{"bob", ""} {
		alike := func(route string, p, other knock, want ...int) {
			got := with.as(who, p)
			mine := strings.ReplaceAll(got.print(), strings.TrimPrefix(with.url, "http://"), "weir.test")
			theirs := strings.ReplaceAll(without.as(who, other).print(), strings.TrimPrefix(without.url, "http://"), "weir.test")
			if mine != theirs {
				t.Errorf("%q, %s: %s: answered\n%s\nand by a weir that never had it\n%s", who, route, p, mine, theirs)
			}
			if want != nil && !slices.Contains(want, got.status) {
				t.Errorf("%q, %s: %s: %d, want %v", who, route, p, got.status, want)
			}
		}
		denied, base := http.StatusForbidden, http.StatusOK
		if who == "" {
			denied, base = http.StatusUnauthorized, http.StatusUnauthorized
		}
		for i, a := range []aim{
			{"/v2/" + image, "", image},
			{"/v2/" + secretRepo, "", secretRepo},
			{"/v2/" + secretRepo, "ns=ghcr.io", image},
			{"/ghcr.io/v2/" + secretRepo, "", secretRepo},
		} {
			again := i >= 2 // what names an image otherwise was asked of it
			for _, route := range serve.Routes() {
				if again && slices.Contains([]string{"base", "list-catalog", "extension"}, route.Name) {
					continue
				}
				for _, p := range rows()[route.Name](h, a, strings.Repeat("0", 64)) {
					switch route.Name {
					case "extension":
						alike(route.Name, p, p, http.StatusOK, http.StatusNotFound) // 200: of lists
					case "list-catalog":
						alike(route.Name, p, p, http.StatusOK)
					case "base":
						alike(route.Name, p, p, base)
					default:
						alike(route.Name, p, p, denied)
					}
				}
			}
			if again {
				continue
			}
			for _, p := range h.pages(a.image) {
				alike("page", p, p, http.StatusNotFound)
			}
		}
		alike("page", knock{http.MethodGet, "/ui/", nil, nil}, knock{http.MethodGet, "/ui/", nil, nil}, http.StatusOK)
		if who == "" {
			continue
		}

		// Nor does it come to what is his own.
		own := aim{"/v2/team/app", "", "team/app"}
		for _, name := range []string{"get-blob", "get-manifest", "get-referrers", "start-upload", "put-upload", "put-manifest", "get-blob"} {
			mine, theirs := rows()[name](h, own, with.upload(who)), rows()[name](h, own, without.upload(who))
			for i := range mine {
				alike(name, mine[i], theirs[i])
			}
		}
		for _, d := range h.digests() {
			for _, from := range []string{image, secretRepo} {
				p := knock{http.MethodPost, own.url("blobs/uploads/", "mount="+d+"&from="+url.QueryEscape(from)), nil, nil}
				alike("mount", p, p, http.StatusAccepted)
			}
		}
	}
	if asked := ghcr.Take(); len(asked) > 0 {
		t.Errorf("the upstream was asked\n%s", strings.Join(asked, "\n"))
	}
}

// upload begins one of somebody's to team/app.
func (r *running) upload(who string) (session string) {
	r.t.Helper()
	a := r.as(who, knock{method: http.MethodPost, path: "/v2/team/app/blobs/uploads/"})
	if a.status != http.StatusAccepted {
		r.t.Fatalf("upload: %d %s", a.status, a.body)
	}
	return a.header.Get("Docker-Upload-UUID")
}
