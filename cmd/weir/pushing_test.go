package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// While the upstream refuses connections, HEAD of what is not kept is 404 only for whom the
// same credentials would let push there, and who shows none yet; whoever pulls is told of
// the outage, and a token to pull makes even who may push one of them.
func TestHeadInAnOutage(t *testing.T) {
	u := remotetest.New(t)
	r := start(t, "", "  default: docker.io\n"+hub(u, "      writable: true\n")+fmt.Sprintf(`authz:
  basic: {users: [{name: ci, hash: %q}]}
  policy: {default: deny, allow: ["request.action == 'pull'", "request.action == 'push' && identity.id == 'basic:ci'"]}
`, basic.NewHash("secret").Text()))
	u.Refuse()
	login := func(req *http.Request) { req.SetBasicAuth("ci", "secret") }
	token := func(repo, actions string, loggedIn bool) func(*http.Request) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/token?service=weir&scope=repository:"+repo+":"+actions, nil)
		if err != nil {
			t.Fatal(err)
		}
		if loggedIn {
			login(req)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var said struct {
			Token string `json:"token"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || said.Token == "" {
			t.Fatalf("no token: %s, %v", resp.Status, err)
		}
		return func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+said.Token) }
	}
	d := digest.FromString("not kept").String()
	const resolves = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
	for _, repo := range []string{"docker.io/team/app", "team/app"} {
		for _, who := range []struct {
			name string
			as   func(*http.Request)
			no   int // the status of what may be about to be pushed
		}{
			{"nobody yet", func(*http.Request) {}, http.StatusNotFound},
			{"nobody, with a token to pull", token(repo, "pull", false), http.StatusBadGateway},
			{"who may push", login, http.StatusNotFound},
			{"a token to pull", token(repo, "pull", true), http.StatusBadGateway},
			{"a token to push", token(repo, "pull,push", true), http.StatusNotFound},
		} {
			for _, ask := range []struct {
				method, path, accept string
				want                 int
			}{
				{http.MethodHead, "/manifests/1", "", who.no},
				{http.MethodHead, "/manifests/" + d, "", who.no},
				{http.MethodHead, "/blobs/" + d, "", who.no},
				{http.MethodHead, "/manifests/1", resolves, http.StatusBadGateway},
				{http.MethodGet, "/manifests/1", "", http.StatusBadGateway},
				{http.MethodGet, "/manifests/" + d, "", http.StatusBadGateway},
				{http.MethodGet, "/blobs/" + d, "", http.StatusBadGateway},
			} {
				req, err := http.NewRequestWithContext(t.Context(), ask.method, r.url+"/v2/"+repo+ask.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				who.as(req)
				req.Header.Set("Accept", ask.accept)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != ask.want {
					t.Errorf("%s %s%s by %s (%s): %s, want %d", ask.method, repo, ask.path, who.name, ask.accept, resp.Status, ask.want)
				}
			}
		}
	}
}

// Where nobody can say who they are and the policy lets nobody push, nobody is taken for
// one who does.
func TestHeadInAnOutageWherePushesAreDenied(t *testing.T) {
	u := remotetest.New(t)
	r := start(t, "", "  default: docker.io\n"+hub(u, "      writable: true\n")+`authz:
  policy: {default: deny, allow: ["request.action == 'pull'"]}
`)
	u.Refuse()
	for _, path := range []string{"/manifests/1", "/blobs/" + digest.FromString("not kept").String()} {
		for _, repo := range []string{"docker.io/team/app", "team/app"} {
			resp, err := http.Head(r.url + "/v2/" + repo + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusBadGateway {
				t.Errorf("HEAD %s%s: %s", repo, path, resp.Status)
			}
		}
	}
}
