package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// teams are rules: ann may do all below team/ but delete, anyone may pull from public/.
func teams() []string {
	return []string{
		`request.action == "pull" && request.repository.startsWith("public/")`,
		`identity.id == "basic:ann" && request.action != "delete" && (request.repository.startsWith("team/") || request.repository.startsWith("public/"))`,
	}
}

// loginWorld is a registry with passwords and tokens in front of it.
type loginWorld struct {
	t    *testing.T
	url  string
	host string

	mu   sync.Mutex
	seen []string // methods, paths, and how somebody showed who they are
}

func newLoginWorld(t *testing.T, c config.Authz) *loginWorld {
	t.Helper()
	w := &loginWorld{t: t}
	whole := config.Default()
	whole.Authz, whole.Mirror = c, config.Mirror{Fills: whole.Mirror.Fills}
	whole.Store.Blobs.Filesystem.Root = t.TempDir()
	whole.Store.Metadata = whole.Store.Blobs
	for _, text := range teams() {
		rule, err := policy.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		whole.Authz.Policy.Allow = append(whole.Authz.Policy.Allow, rule)
	}
	app, err := compose(whole, newLogs(io.Discard, whole.Log))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		how, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		w.mu.Lock()
		w.seen = append(w.seen, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+how))
		w.mu.Unlock()
		app.public.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		server.Close()
		if err := app.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w.url, w.host = server.URL, strings.TrimPrefix(server.URL, "http://")
	return w
}

func (w *loginWorld) ref(image string) name.Reference {
	w.t.Helper()
	ref, err := name.ParseReference(w.host + "/" + image)
	if err != nil {
		w.t.Fatal(err)
	}
	return ref
}

// ask makes a request and gives its status, header and body.
func (w *loginWorld) ask(method, path string, change func(*http.Request)) (int, http.Header, string) {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func annsConfig(tokens bool) config.Authz {
	hash := basic.NewHash("secret").Text()
	return config.Authz{
		Realm: "weir",
		Basic: config.Basic{Users: []config.User{{Name: "ann", Hash: config.NewSecret(hash)}, {Name: "bob", Hash: config.NewSecret(hash)}}},
		Token: config.Token{Enabled: tokens, TTL: config.Duration(5 * time.Minute)},
	}
}

// A client pushes and pulls with a password, by way of tokens and without; who may not
// is refused, and nobody in particular pulls what is public.
func TestLogin(t *testing.T) {
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []bool{true, false} {
		w := newLoginWorld(t, annsConfig(tokens))
		ann := remote.WithAuth(&authn.Basic{Username: "ann", Password: "secret"})
		bob := remote.WithAuth(&authn.Basic{Username: "bob", Password: "secret"})
		wrong := remote.WithAuth(&authn.Basic{Username: "ann", Password: "wrong"})
		want := func(what string, err error, status int) {
			t.Helper()
			if status == 0 {
				if err != nil {
					t.Errorf("tokens %v: %s: %v", tokens, what, err)
				}
				return
			}
			var refused *transport.Error
			if !errors.As(err, &refused) || refused.StatusCode != status {
				t.Errorf("tokens %v: %s: %v, want %d", tokens, what, err, status)
			}
		}
		want("push", remote.Write(w.ref("team/app:1"), img, ann), 0)
		want("push what is public", remote.Write(w.ref("public/app:1"), img, ann), 0)
		_, err := remote.Image(w.ref("team/app:1"), ann)
		want("pull", err, 0)
		_, err = remote.Image(w.ref("team/app:1"), bob)
		want("pull by bob", err, 403)
		_, err = remote.Image(w.ref("public/app:1"), bob)
		want("pull what is public", err, 0)
		_, err = remote.Image(w.ref("team/app:1"), wrong)
		want("pull with a wrong password", err, 401)
		_, err = remote.Image(w.ref("public/app:1"), remote.WithAuth(authn.Anonymous))
		want("pull by nobody", err, 0)
		_, err = remote.Image(w.ref("team/app:1"), remote.WithAuth(authn.Anonymous))
		want("pull by nobody of what is not public", err, 401)
		want("delete", remote.Delete(w.ref("team/app:1"), ann), 403)
		for _, line := range w.seen {
			if strings.HasPrefix(line, "PUT ") && !strings.HasSuffix(line, map[bool]string{true: "Bearer", false: "Basic"}[tokens]) {
				t.Errorf("tokens %v: %s", tokens, line)
			}
		}
	}
}

// As docker login does it: what GET /v2/ says, a token, a refresh token, and what they
// are good for.
func TestDockerLogin(t *testing.T) {
	w := newLoginWorld(t, annsConfig(true))
	status, header, _ := w.ask("GET", "/v2/", nil)
	if got, want := header.Get("Www-Authenticate"), `Bearer realm="`+w.url+`/token",service="weir"`; status != 401 || got != want {
		t.Fatalf("%d, %s; want %s", status, got, want)
	}
	ann := func(r *http.Request) { r.SetBasicAuth("ann", "secret") }
	var tokens struct {
		Token        string `json:"token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int    `json:"expires_in"`
	}
	get := func(path string, change func(*http.Request)) {
		t.Helper()
		tokens.Token = ""
		status, _, body := w.ask("GET", path, change)
		if err := json.Unmarshal([]byte(body), &tokens); err != nil || status != 200 || tokens.Token == "" || tokens.ExpiresIn != 300 {
			t.Fatalf("%d, %s, %v", status, body, err)
		}
	}
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+tokens.Token) }
	get("/token?account=ann&client_id=docker&offline_token=true&service=weir", ann)
	if status, _, body := w.ask("GET", "/v2/", bearer); status != 200 || tokens.RefreshToken == "" {
		t.Errorf("with a token for nothing: %d, %s", status, body)
	}

	// Its scope does not cover this, and a new one would.
	status, header, body := w.ask("GET", "/v2/team/app/tags/list", bearer)
	want := `Bearer realm="` + w.url + `/token",service="weir",scope="repository:team/app:pull",error="insufficient_scope"`
	if got := header.Get("Www-Authenticate"); status != 401 || got != want || !strings.Contains(body, "UNAUTHORIZED") {
		t.Errorf("%d, %s, %s", status, got, body)
	}
	// No new one would cover this.
	if status, header, _ := w.ask("GET", "/v2/other/app/tags/list", bearer); status != 403 || header.Get("Www-Authenticate") != "" {
		t.Errorf("%d, %v", status, header)
	}

	// The refresh token in the place of the password.
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}, "client_id": {"docker"}, "service": {"weir"}, "scope": {"repository:team/app:push,pull"}}
	resp, err := http.PostForm(w.url+"/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.Status, err)
	}
	if status, _, body := w.ask("POST", "/v2/team/app/blobs/uploads/", bearer); status != 202 {
		t.Errorf("push with it: %d, %s", status, body)
	}
	// GHSA-qg67-7m6v-qg25: a token that was not granted a deletion does not delete.
	if status, _, _ := w.ask("DELETE", "/v2/team/app/manifests/1", bearer); status != 403 {
		t.Errorf("delete with it: %d", status)
	}

	// Errors are OCI's, and say how to ask.
	for _, test := range []struct {
		method, path string
		change       func(*http.Request)
		status       int
		code         string
		challenge    string
	}{
		{"GET", "/token", func(r *http.Request) { r.SetBasicAuth("ann", "wrong") }, 401, "UNAUTHORIZED", `Basic realm="weir",charset="UTF-8"`},
		{"GET", "/token", bearer, 401, "UNAUTHORIZED", `Basic realm="weir",charset="UTF-8"`},
		{"POST", "/token", nil, 400, "UNSUPPORTED", ""},
		{"PUT", "/token", nil, 405, "UNSUPPORTED", ""},
		{"GET", "/v2/", func(r *http.Request) { r.SetBasicAuth("ann", "wrong") }, 401, "UNAUTHORIZED", `Bearer realm="` + w.url + `/token",service="weir"`},
		{"GET", "/v2/", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401, "UNAUTHORIZED", `Bearer realm="` + w.url + `/token",service="weir"`},
	} {
		status, header, body := w.ask(test.method, test.path, test.change)
		if status != test.status || !strings.Contains(body, `"code":"`+test.code+`"`) || header.Get("Www-Authenticate") != test.challenge {
			t.Errorf("%s %s: %d, %s, %s", test.method, test.path, status, header.Get("Www-Authenticate"), body)
		}
	}
}

// What a push to a local name finds here of the upstream that answers for it is what its
// token may pull: one for the catalog shows names and links nothing.
func TestPushWithATokenForTheCatalog(t *testing.T) {
	u := remotetest.New(t)
	image := u.AddImage("team/app", "1", []byte("layer"))
	data := t.TempDir()
	r := startText(t, data, fmt.Sprintf("log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n"+
		"store: {blobs: {filesystem: {root: '%s'}}}\nauthz: {basic: {users: [{name: ann, hash: '%s'}]}, policy: {default: allow}}\n"+
		"mirror:\n  well_known: false\n  default: docker.io\n%s", data, basic.NewHash("secret").Text(), hub(u, "")))
	ann := []string{"Authorization", basicAuth("ann", "secret")}
	for _, d := range append(image.Layers, image.Config) {
		path := "/v2/docker.io/team/app/blobs/" + d.Digest.String()
		eventually(t, "it is here", func() bool { return r.do(http.MethodGet, path, nil, ann...).header.Get("Weir-Cache") == "hit" })
	}
	for _, c := range []struct {
		scope  string
		head   int
		status int
		code   string
	}{
		{"registry:catalog:* repository:team/app:push", 401, 404, "MANIFEST_BLOB_UNKNOWN"},
		{"repository:team/app:pull,push", 200, 201, ""},
	} {
		given := r.do(http.MethodGet, "/token?scope="+url.QueryEscape(c.scope), nil, ann...)
		var token struct{ Token, Scope string }
		if err := json.Unmarshal(given.body, &token); err != nil || token.Token == "" {
			t.Fatalf("%d %s", given.status, given.body)
		}
		bearer := []string{"Authorization", "Bearer " + token.Token}
		if a := r.do(http.MethodHead, "/v2/team/app/blobs/"+image.Layers[0].Digest.String(), nil, bearer...); a.status != c.head {
			t.Errorf("with %s the layer is %d", token.Scope, a.status)
		}
		a := r.do(http.MethodPut, "/v2/team/app/manifests/mine", bytes.NewReader(image.Bytes), append(bearer, "Content-Type", image.MediaType)...)
		if a.status != c.status || !strings.Contains(string(a.body), c.code) {
			t.Errorf("with %s the push is %d %s", token.Scope, a.status, a.body)
		}
	}
}

// Without tokens GET /v2/ is open where nobody in particular may pull, and a 401 asks
// for a password.
func TestLoginWithoutTokens(t *testing.T) {
	w := newLoginWorld(t, annsConfig(false))
	if status, _, _ := w.ask("GET", "/v2/", nil); status != 200 {
		t.Errorf("%d", status)
	}
	status, header, _ := w.ask("GET", "/v2/team/app/tags/list", nil)
	if got := header.Get("Www-Authenticate"); status != 401 || got != `Basic realm="weir",charset="UTF-8"` {
		t.Errorf("%d, %s", status, got)
	}
	if status, _, _ := w.ask("GET", "/token", nil); status != 404 {
		t.Errorf("/token: %d", status)
	}
}

// absent is a store in which somebody else is always first.
type absent struct {
	store.Records
	puts int
}

func (a *absent) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if a.puts++; a.puts == 1 {
		if _, err := a.Records.Put(ctx, key, []byte("theirs"), store.Absent()); err != nil {
			return "", err
		}
	}
	return a.Records.Put(ctx, key, data, if_)
}

// The key for tokens that is kept is that of whoever came first.
func TestKeptKey(t *testing.T) {
	records := mem.NewRecords()
	for _, mine := range []string{"first", "second"} {
		if got, err := (keptKey{records, tokenKey}).Keep(t.Context(), []byte(mine)); err != nil || string(got) != "first" {
			t.Errorf("%s: %q, %v", mine, got, err)
		}
	}
	if got, err := (keptKey{&absent{Records: mem.NewRecords()}, tokenKey}).Keep(t.Context(), []byte("mine")); err != nil || string(got) != "theirs" {
		t.Errorf("%q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := (keptKey{away{}, tokenKey}).Keep(ctx, []byte("mine")); err == nil {
		t.Errorf("from a store that is away: %q", got)
	}
}

// away is a store that is.
type away struct{ store.Records }

func (away) Get(ctx context.Context, _ string) (store.Record, error) {
	return store.Record{}, ctx.Err()
}

func TestNewTokens(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	c := annsConfig(true)
	for key, ok := range map[string]bool{"": true, "0123456789abcdef0123456789abcdef": true, "short": false} {
		c.Token.Key = config.NewSecret(key)
		if i, err := newTokens(c, mem.NewRecords(), log); (err == nil) != ok || (i != nil) != ok {
			t.Errorf("%q: %v, %v", key, i, err)
		} else if err != nil && strings.Contains(err.Error(), key) {
			t.Errorf("the key is in %v", err)
		}
	}
	if b, err := newBasic(config.Basic{}, nil, log); b != nil || err != nil {
		t.Error(b, err)
	}
	whole := config.Default()
	if err := whole.Server.ExternalURL.UnmarshalText([]byte("https://weir.corp/")); err != nil {
		t.Fatal(err)
	}
	if got := newChallenge(whole, nil).Headers(t.Context(), nil, false)[0]; !strings.Contains(got, `realm="https://weir.corp/token"`) {
		t.Error(got)
	}
}
