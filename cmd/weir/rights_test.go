package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/origin/serve"
)

// secretRepo is a repository that an upstream shows to weir's credentials alone, and
// hidden is what it has.
const secretRepo = "acme/private"

type hidden struct {
	img, child remotetest.Image
	index      digest.Digest
	signature  digest.Digest // of img
}

func hide(u *remotetest.Upstream) hidden {
	var h hidden
	h.img = u.AddImage(secretRepo, "secret", origintest.Bytes(1, 3000), origintest.Bytes(2, 300<<10))
	h.child = u.AddImage(secretRepo, "", origintest.Bytes(3, 100))
	h.index = u.AddIndex(secretRepo, "secrets", h.img.Descriptor, h.child.Descriptor).Digest
	h.signature = u.AddReferrer(secretRepo, "application/vnd.example.signature", h.img.Descriptor).Digest
	return h
}

func (h hidden) digests() []string {
	return append(digests(h.img), h.img.Config.Digest.String(), h.img.Digest.String(), h.index.String(), h.signature.String())
}

// paths are where what weir keeps of it is had.
func (h hidden) paths() []string {
	list := []string{"manifests/secret", "manifests/secrets", "manifests/" + h.img.Digest.String(), "manifests/" + h.signature.String()}
	for _, d := range append(digests(h.img), h.img.Config.Digest.String()) {
		list = append(list, "blobs/"+d)
	}
	return list
}

// knock is a request of somebody who may not have what is hidden.
type knock struct {
	method, path string
	headers      []string
	body         []byte
}

func (p knock) String() string { return fmt.Sprintf("%s %s %v", p.method, p.path, p.headers) }

// aim is a name that is asked for what is hidden, as it stands in a path, with a query
// that it needs.
type aim struct{ path, query, image string }

func (a aim) url(rest, query string) string {
	q := strings.Trim(a.query+"&"+query, "&")
	if q != "" {
		q = "?" + q
	}
	return a.path + "/" + rest + q
}

// row gives the requests of a route under a name; session is an upload there, or
// elsewhere.
type row func(h hidden, a aim, session string) []knock

// rows has one for every route: see TestEveryRouteHasARow.
func rows() map[string]row {
	get := func(path string, headers ...string) knock { return knock{http.MethodGet, path, headers, nil} }
	head := func(path string, headers ...string) knock { return knock{http.MethodHead, path, headers, nil} }
	each := func(h hidden, do func(d string) []knock) []knock {
		var list []knock
		for _, d := range h.digests() {
			list = append(list, do(d)...)
		}
		return list
	}
	upload := func(method string) row {
		return func(_ hidden, a aim, session string) []knock {
			return []knock{{method, a.url("blobs/uploads/"+session, ""), nil, []byte("x")}}
		}
	}
	return map[string]row{
		"base": func(hidden, aim, string) []knock { return []knock{get("/v2/"), head("/v2/")} },
		"list-catalog": func(hidden, aim, string) []knock {
			return []knock{get("/v2/_catalog?n=1000"), head("/v2/_catalog?n=1000")}
		},
		"extension": func(h hidden, a aim, _ string) []knock {
			list := []knock{get("/v2/_ext/fills"), get("/v2/_ext/upstreams"), head("/v2/_ext/upstreams"), get("/v2/_ext/nothing")}
			for _, name := range []string{"repositories", "uploads", "events", "openapi.json"} {
				list = append(list, get("/v2/_ext/"+name))
			}
			of := "?repository=" + url.QueryEscape(a.image)
			list = append(list, get("/v2/_ext/tags"+of), head("/v2/_ext/tags"+of), get("/v2/_ext/tags"+of+"&n=1&search=secret"),
				get("/v2/_ext/tags"+of+"&n=0&search=secret"), get("/v2/_ext/repositories?n=0&search=private"))
			for _, d := range h.digests() {
				list = append(list, get("/v2/_ext/manifests"+of+"&digest="+d), get("/v2/_ext/referrers"+of+"&digest="+d))
			}
			for _, ref := range append([]string{":secret", ":secrets"}, h.digests()...) {
				if ref[0] != ':' {
					ref = "@" + ref
				}
				list = append(list, get("/v2/_ext/explain?image="+url.QueryEscape(a.image+ref)))
			}
			return list
		},
		"list-tags": func(_ hidden, a aim, _ string) []knock {
			return []knock{get(a.url("tags/list", "")), head(a.url("tags/list", "")), get(a.url("tags/list", "n=1000"))}
		},
		"get-manifest": func(h hidden, a aim, _ string) []knock {
			list := []knock{head(a.url("manifests/secret", "")), get(a.url("manifests/secret", ""))}
			return append(list, each(h, func(d string) []knock {
				at := a.url("manifests/"+d, "")
				return []knock{head(at), get(at), get(at, "If-None-Match", `"`+d+`"`)}
			})...)
		},
		"get-blob": func(h hidden, a aim, _ string) []knock {
			return each(h, func(d string) []knock {
				at := a.url("blobs/"+d, "")
				return []knock{
					head(at), get(at), get(at, "Range", "bytes=0-0"), get(at, "Range", "bytes=-1"), get(at, "Range", "bytes=100000000-"),
					get(at, "Range", "bytes=-0"), get(at, "If-None-Match", `"`+d+`"`), head(at, "If-None-Match", `"`+d+`"`),
				}
			})
		},
		"get-referrers": func(h hidden, a aim, _ string) []knock {
			return each(h, func(d string) []knock {
				return []knock{get(a.url("referrers/"+d, "")), head(a.url("referrers/"+d, "")), get(a.url("referrers/"+d, "n=1"))}
			})
		},
		"put-manifest": func(h hidden, a aim, _ string) []knock {
			return []knock{
				{http.MethodPut, a.url("manifests/mine", ""), []string{"Content-Type", h.img.MediaType}, h.img.Bytes},
				{http.MethodPut, a.url("manifests/"+h.img.Digest.String(), ""), []string{"Content-Type", h.img.MediaType}, h.img.Bytes},
			}
		},
		"start-upload": func(h hidden, a aim, _ string) []knock {
			list := []knock{{http.MethodPost, a.url("blobs/uploads/", ""), nil, nil}}
			return append(list, each(h, func(d string) []knock {
				var mounts []knock
				for _, from := range []string{"", "from=team/app", "from=team/none", "from=docker.io/library/none", "from=ghcr.io/acme/other", "from=acme/private"} {
					mounts = append(mounts, knock{http.MethodPost, a.url("blobs/uploads/", strings.Trim("mount="+d+"&"+from, "&")), nil, nil})
				}
				return append(mounts, get(a.url("blobs/"+d, "")),
					knock{http.MethodPost, a.url("blobs/uploads/", "digest="+d), nil, []byte("not that")})
			})...)
		},
		"get-upload": func(_ hidden, a aim, session string) []knock {
			at := a.url("blobs/uploads/"+session, "")
			return []knock{get(at), head(at)}
		},
		"patch-upload": upload(http.MethodPatch),
		"put-upload": func(h hidden, a aim, session string) []knock {
			return each(h, func(d string) []knock {
				return []knock{{http.MethodPut, a.url("blobs/uploads/"+session, "digest="+d), nil, nil}, get(a.url("blobs/"+d, ""))}
			})
		},
		"cancel-upload": upload(http.MethodDelete),
		"delete-blob": func(h hidden, a aim, _ string) []knock {
			return each(h, func(d string) []knock { return []knock{{http.MethodDelete, a.url("blobs/"+d, ""), nil, nil}} })
		},
		"delete-manifest": func(h hidden, a aim, _ string) []knock {
			list := []knock{{http.MethodDelete, a.url("manifests/secret", ""), nil, nil}}
			return append(list, each(h, func(d string) []knock { return []knock{{http.MethodDelete, a.url("manifests/"+d, ""), nil, nil}} })...)
		},
	}
}

// A route, or an address of _ext, that is not in the matrix of rights has no place in
// the server.
func TestEveryRouteHasARow(t *testing.T) {
	h := hide(remotetest.New(t))
	asked, extended := map[string]bool{}, map[string]bool{}
	all := rows()
	for _, route := range serve.Routes() {
		if all[route.Name] == nil {
			t.Errorf("route %s has no row", route.Name)
			continue
		}
		for _, p := range all[route.Name](h, aim{"/v2/team/app", "", "team/app"}, "00000000-0000-4000-8000-000000000000") {
			at, err := url.Parse(p.path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := serve.Parse(p.method, at)
			if err == nil && c.Kind == route.Kind {
				asked[route.Name+" "+p.method] = true
			}
			extended[c.Extension] = true
		}
		for _, method := range route.Methods {
			if !asked[route.Name+" "+method] {
				t.Errorf("the row of route %s has no %s", route.Name, method)
			}
		}
	}
	for name := range extensions(nil) {
		if !extended[name] {
			t.Errorf("no row asks _ext/%s", name)
		}
	}
	if len(all) != len(serve.Routes()) {
		t.Errorf("%d rows for %d routes", len(all), len(serve.Routes()))
	}
}

var (
	uploadID  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|uploads/[A-Za-z0-9_-]{16,}`)
	requestID = regexp.MustCompile(`"request_id":"[^"]*"`)
)

// print is all that a client sees of an answer, without what differs each time.
func (a answer) print() string {
	var b strings.Builder
	fmt.Fprintln(&b, a.status, a.err)
	var keys []string
	for key := range a.header {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		switch key {
		case "Date", "X-Request-Id":
		case "Docker-Upload-Uuid":
			fmt.Fprintln(&b, key)
		default:
			fmt.Fprintln(&b, key, uploadID.ReplaceAllString(strings.Join(a.header[key], "; "), "ID"))
		}
	}
	b.Write(requestID.ReplaceAll(a.body, nil))
	return b.String()
}

// secretive is a weir with credentials for ghcr.io, and a default upstream.
func secretive(t *testing.T, ghcr, hub *remotetest.Upstream) *running {
	return start(t, "", fmt.Sprintf(`  default: docker.io
  upstreams:
    - {name: docker.io, endpoints: [{url: '%s'}]}
    - name: ghcr.io
      public: true
      timeouts: {stall: 10m}
      endpoints: [{url: '%s', username: bot, password: hunter2}]
`, hub.URL(), ghcr.URL()))
}

// push pushes a blob and gives its digest.
func (r *running) push(repo string, content []byte) digest.Digest {
	r.t.Helper()
	d := digest.FromBytes(content)
	if a := r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), bytes.NewReader(content)); a.status != http.StatusCreated {
		r.t.Fatalf("push: %d %s", a.status, a.body)
	}
	return d
}

// What weir keeps of one repository does not exist under another name, unless that
// name's own upstream says so: every route answers as a weir does that never had it,
// to the byte, and nobody is asked about it under its own name.
func TestRights(t *testing.T) {
	aims := map[string]aim{
		"same upstream":       {"/v2/ghcr.io/acme/other", "", "ghcr.io/acme/other"},
		"same upstream, ns":   {"/v2/acme/other", "ns=ghcr.io", "ghcr.io/acme/other"},
		"below it":            {"/v2/ghcr.io/acme/private/below", "", "ghcr.io/acme/private/below"},
		"another upstream":    {"/v2/docker.io/library/other", "", "docker.io/library/other"},
		"the same name there": {"/v2/docker.io/acme/private", "", "docker.io/acme/private"},
		"the default's":       {"/v2/acme/private", "", "acme/private"},
		"local":               {"/v2/team/app", "", "team/app"},
		"another local":       {"/v2/team/new", "", "team/new"},
	}
	// How weir came to have it, or is about to.
	states := map[string]func(t *testing.T, ghcr *remotetest.Upstream, r *running, h hidden){
		"kept": func(t *testing.T, _ *remotetest.Upstream, r *running, h hidden) {
			for _, path := range h.paths() {
				if a := r.get("/v2/ghcr.io/" + secretRepo + "/" + path); a.status != 200 {
					t.Fatalf("%s: %d %s", path, a.status, a.body)
				}
			}
			r.settled()
		},
		"its manifest kept": func(t *testing.T, _ *remotetest.Upstream, r *running, h hidden) {
			if a := r.get("/v2/ghcr.io/" + secretRepo + "/manifests/secret"); a.status != 200 {
				t.Fatal(a.status)
			}
		},
		"coming": func(t *testing.T, ghcr *remotetest.Upstream, r *running, h hidden) {
			var all sync.WaitGroup
			t.Cleanup(all.Wait)
			gate := ghcr.GateAt("/blobs/", 100)
			t.Cleanup(gate.Open)
			for _, d := range digests(h.img) {
				all.Go(func() { r.get("/v2/ghcr.io/" + secretRepo + "/blobs/" + d) })
				if err := gate.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	for what, a := range aims {
		for state, have := range states {
			for says, fault := range sayings() {
				if fault != nil && (what != "same upstream" || state != "kept") {
					continue // once will do
				}
				t.Run(fmt.Sprintf("%s/%s/%s", what, state, says), func(t *testing.T) {
					t.Parallel()
					ghcr, hub := remotetest.New(t), remotetest.New(t)
					ghcr.Basic("bot", "hunter2")
					h := hide(ghcr)
					ghcr.AddImage("acme/other", "mine", []byte("other"))
					hub.AddImage("library/other", "mine", []byte("other"))
					with, without := secretive(t, ghcr, hub), secretive(t, ghcr, hub)
					for _, r := range []*running{with, without} {
						r.push("team/app", []byte("ours"))
					}
					have(t, ghcr, with, h)
					if fault != nil {
						ghcr.Fault("/v2/acme/other/", fault)
					}
					with.compare(without, ghcr, hub, h, a)
				})
			}
		}
	}
}

// othersSettled waits until no fill runs but those of what is hidden. How far a fill is
// that the last request began, and that is to fail, is not what answers are compared for.
func (r *running) othersSettled() {
	r.t.Helper()
	eventually(r.t, "fills end", func() bool {
		list := string(r.get("/v2/_ext/fills").body)
		return strings.Count(list, `"repository":`) == strings.Count(list, `"repository":"ghcr.io/`+secretRepo+`"`)
	})
}

// sayings are what an upstream may say of what it has not, or does not show.
func sayings() map[string]remotetest.Fault {
	faults := map[string]remotetest.Fault{
		"404":  nil,
		"HTML": remotetest.HTML(),
		"text": func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				_, _ = fmt.Fprint(w, "Welcome")
			})
		},
	}
	for _, status := range []int{401, 403, 410, 429, 500} {
		faults[fmt.Sprint(status)] = remotetest.Status(status)
	}
	return faults
}

// compare wants that r, which has what is hidden, answers all rows as never does, which
// has not.
func (r *running) compare(never *running, ghcr, hub *remotetest.Upstream, h hidden, a aim) {
	t := r.t
	t.Helper()
	ghcr.Take()
	hub.Take()
	session := func(r *running) string {
		p := r.do(http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
		if p.status != http.StatusAccepted {
			t.Fatalf("upload: %d", p.status)
		}
		return p.header.Get("Docker-Upload-UUID")
	}
	// Reads first: what is written may change what is read.
	names := []string{"base", "get-blob", "get-manifest", "get-referrers", "list-tags", "extension", "list-catalog", "get-upload"}
	for _, route := range serve.Routes() {
		if !slices.Contains(names, route.Name) {
			names = append(names, route.Name)
		}
	}
	for _, name := range names {
		mine, theirs := rows()[name](h, a, session(r)), rows()[name](h, a, session(never))
		for i := range mine {
			if strings.HasSuffix(mine[i].path, "/_ext/fills") || strings.HasSuffix(mine[i].path, "/_ext/uploads") {
				continue // it lists what runs, to whoever may ask that
			}
			if strings.Contains(name, "blob") {
				r.othersSettled()
				never.othersSettled()
			}
			got := r.do(mine[i].method, mine[i].path, bytes.NewReader(mine[i].body), mine[i].headers...).print()
			want := never.do(theirs[i].method, theirs[i].path, bytes.NewReader(theirs[i].body), theirs[i].headers...).print()
			switch {
			case name == "list-catalog", strings.HasSuffix(mine[i].path, "/_ext/repositories"):
				got, want = withoutSecret(got), withoutSecret(want)
			case strings.HasSuffix(mine[i].path, "/_ext/upstreams"):
				got, want = withoutHealth(got), withoutHealth(want)
			}
			if got != want {
				t.Errorf("%s: answered\n%s\nand by a weir that never had it\n%s", mine[i], got, want)
			}
		}
	}
	for _, u := range []*remotetest.Upstream{ghcr, hub} {
		for _, request := range u.Requests() {
			if strings.Contains(request, "/v2/"+secretRepo+"/") && u == ghcr && a.path != "/v2/ghcr.io/acme/private/below" {
				t.Errorf("the upstream was asked %s", request)
			}
		}
	}
}

// withoutSecret is a catalog's answer without the secret repository and what its length
// changes: that it is there is no secret of the catalog's yet.
func withoutSecret(s string) string {
	s = strings.ReplaceAll(s, `{"name":"ghcr.io/`+secretRepo+`","upstream":"ghcr.io"},`, "")
	s = strings.ReplaceAll(s, `"ghcr.io/`+secretRepo+`",`, "")
	s = strings.ReplaceAll(s, `"ghcr.io/`+secretRepo+`"`, "")
	return withoutLength(s)
}

// withoutHealth is what is said of upstreams without how their endpoints do, and without
// what was counted of them and of the cache, which is no content's.
func withoutHealth(s string) string {
	s = regexp.MustCompile(`"(requests|hits|served|fetched|bytes|free)":\d+|"at":"[^"]*"`).ReplaceAllString(s, "$1")
	return withoutLength(regexp.MustCompile(`("host":"[^"]*")[^}]*`).ReplaceAllString(s, "$1"))
}

func withoutLength(s string) string {
	return regexp.MustCompile(`(?m)^Content-Length .*$`).ReplaceAllString(s, "")
}
