package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/observe/otlptest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/coord/coordtest"
)

// secretFields gives the fields of a type, or those of a value that are set, that hold a
// secret: by their path, without indices.
func secretFields(t reflect.Type, v *reflect.Value, path string, found map[string]bool) {
	switch {
	case t == reflect.TypeFor[config.Secret]():
		if v == nil || !v.Interface().(config.Secret).IsZero() {
			found[path] = true
		}
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.IsExported() {
				continue
			}
			if v == nil {
				secretFields(f.Type, nil, path+"."+f.Name, found)
			} else {
				field := v.Field(i)
				secretFields(f.Type, &field, path+"."+f.Name, found)
			}
		}
	case t.Kind() == reflect.Slice && v == nil:
		secretFields(t.Elem(), nil, path, found)
	case t.Kind() == reflect.Slice:
		for i := range v.Len() {
			e := v.Index(i)
			secretFields(t.Elem(), &e, path, found)
		}
	}
}

// echo answers with all that it is sent, wherever an answer has room for it.
func echo(status int) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := fmt.Sprint(r.Header)
		for name, value := range map[string]string{
			"Www-Authenticate": `Bearer realm="http://127.0.0.1:1/` + url.QueryEscape(said) + `"`, "Location": "http://127.0.0.1:1/" + url.QueryEscape(said),
			"Content-Type": "application/json", "X-Said": said,
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, said)
	}))
}

// TestSecretsStaySecret puts a canary into every field of the configuration that holds a
// secret, and into all that clients show, and looks for it wherever weir says something,
// with its log at debug and all traced: the log, its answers, spans, metrics, profiles, check --print
// (trust.md, S-12; zot's CVE-2025-48374, Harbor's GHSA-prh4-vhfh-24mj). Upstreams and
// webhooks echo what they are sent.
func TestSecretsStaySecret(t *testing.T) {
	const canary, asked = "c4n4ry", "qu3ry" // what is asked may be in an answer
	hash := basic.NewHash(canary + "-password").Text()
	redis := coordtest.Start(t)
	receiver := otlptest.New(t)
	var looked, logged []string
	seen := map[string]bool{}
	for _, status := range []int{200, 302, 401, 403, 500} {
		upstream, hook := echo(status), echo(status)
		defer upstream.Close()
		defer hook.Close()
		op := newProvider(t)
		authz := fmt.Sprintf(`authz:
  basic: {users: [{name: ann, hash: %q}]}
  oidc: [{name: op, issuer: '%s', audience: weir, algorithms: [ES256], client_id: weir, client_secret: %s-client}]
  token: {key: '%s-key-of-32-characters-or-more'}
  policy: {allow: ["identity.authenticated"]}
  webhooks:
    - {name: bearer, url: '%s', bearer_token: %s-bearer}
    - {name: basic, url: 'http://hook:%s-user@%s/', cache_ttl: 0s}
    - {name: keys, url: '%s', username: hook, password: %s-hook}
repositories:
  - {match: 'bearer/**', webhook: bearer}
  - {match: 'basic/**', webhook: basic}
  - {match: 'keys/**', webhook: keys}
events: [{name: ci, url: '%s', secret: %s-events}]
`, hash, op.URL, canary, canary, hook.URL, canary, canary, strings.TrimPrefix(hook.URL, "http://"), hook.URL, canary, hook.URL, canary)
		data := t.TempDir()
		head := "log: {format: json, level: debug}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '" + data + "'}}, redis: {url: 'redis://weir:" + canary + "-redis@" + redis.Addr() + "'}}\n"
		for kind, middle := range map[string]string{
			"mirror": fmt.Sprintf("mirror:\n  well_known: false\n  upstreams:\n    - {name: docker.io, endpoints: [{url: '%s', username: bot, password: %s-upstream}]}\n", upstream.URL, canary),
			"origin": fmt.Sprintf("origin: {url: '%s', username: bot, password: %s-origin}\nmirror: {well_known: false}\n", upstream.URL, canary),
		} {
			text := head + middle + authz + "tracing: {endpoint: 'http://" + receiver.Address() + "'}\n"
			file := filepath.Join(t.TempDir(), "weir.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := config.Load([]string{file}, os.LookupEnv)
			if err != nil {
				t.Fatal(err)
			}
			v := reflect.ValueOf(*c)
			secretFields(v.Type(), &v, "Config", seen)
			printed, err := c.Effective()
			if err != nil {
				t.Fatal(err)
			}
			looked = append(looked, string(printed), fmt.Sprintf("%v %+v %#v", c, c, c), strings.Join(c.Warnings(), "\n"))

			r := startText(t, data, text)
			say := func(a answer) { looked = append(looked, fmt.Sprint(a.header)+string(a.body)) }
			login := func(password string) string {
				return "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:"+password))
			}
			// The refresh token goes on below; what /token gives is for who asked.
			token := r.get("/token?offline_token=true&service=weir&scope=repository:team/app:pull,push", "Authorization", login(canary+"-password"))
			if token.status != 200 {
				t.Fatalf("%s: token: %d %s", kind, token.status, token.body)
			}
			for _, authorization := range []string{
				login(canary + "-password"), login(canary + "-wrong"), "Bearer " + canary + "-token", "Bearer " + op.token(t, "ann", `,"secret":"`+canary+`-claim"`),
				canary + "-scheme x", "Bearer " + canary + "." + canary + "." + canary,
			} {
				for _, path := range []string{
					"/v2/", "/v2/docker.io/library/nginx/manifests/1?x=" + asked, "/v2/team/app/tags/list", "/v2/_catalog?last=" + asked,
					"/v2/bearer/app/tags/list", "/v2/basic/app/tags/list", "/v2/keys/app/tags/list", "/token?service=weir&scope=" + asked, "/v2/_ext/upstreams", "/v2/_ext/explain?image=docker.io/library/nginx", "/ui/activity", "/ui/config", "/ui/login", "/ui/login/provider?name=op",
				} {
					for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
						a := r.do(method, path, strings.NewReader("grant_type=password&client_id=x&username=ann&password="+canary+"-form"), "Authorization", authorization, "Content-Type", "application/x-www-form-urlencoded",
							"Cookie", "session="+canary+"-cookie", "X-Api-Key", canary+"-key", "Baggage", "token="+canary+"-baggage")
						if !strings.HasPrefix(path, "/token") {
							say(a)
						}
					}
				}
			}
			for _, path := range []string{"/metrics", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline", "/debug/pprof/"} {
				resp, err := http.Get(r.admin + path)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				looked = append(looked, string(b))
			}
			r.end()
			logged = append(logged, r.log.String())
			if len(receiver.Spans()) == 0 {
				t.Errorf("%s: nothing is traced", kind)
			}
			if !strings.Contains(r.log.String(), `"level":"DEBUG"`) {
				t.Errorf("%s: the log is not at debug", kind)
			}
		}
	}
	// A bucket that is away is no bucket: weir does not start, and says so without its keys.
	for _, half := range []string{"blobs", "metadata"} {
		file := filepath.Join(t.TempDir(), "weir.yaml")
		text := fmt.Sprintf("store: {blobs: {filesystem: {root: '%s'}}, %s: {s3: {bucket: b, endpoint: 'http://127.0.0.1:1', access_key_id: id, secret_access_key: %s-%s}}}", t.TempDir(), half, canary, half)
		if half == "blobs" {
			text = strings.Replace(text, "blobs: {filesystem", "metadata: {filesystem", 1)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load([]string{file}, os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		v := reflect.ValueOf(*c)
		secretFields(v.Type(), &v, "Config", seen)
		printed, err := c.Effective()
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		if _, err = compose(c, newLogs(&log, c.Log)); err == nil {
			t.Fatal("started without its bucket")
		}
		looked = append(looked, string(printed), fmt.Sprintf("%v %+v %#v", c, c, c), err.Error(), log.String())
	}
	// What is wrong with a configuration is said without its secrets.
	for _, wrong := range []string{
		"authz: {token: {key: " + canary + "}}", "authz: {basic: {users: [{name: ann, hash: " + canary + "}]}}", "authz: {webhooks: [{name: a, url: 'http://u:" + canary + "@/'}]}",
		"mirror: {upstreams: [{name: a, endpoints: [{url: 'https://a', password: " + canary + "}]}]}", "mirror: {upstreams: [{name: a, endpoints: [{url: 'https://a', password: {a: " + canary + "}}]}]}",
		"authz: {webhooks: [{name: a, url: 'http://h/', password: [" + canary + "]}]}", "origin: {url: 'http://u:" + canary + "@h'}",
	} {
		file := filepath.Join(t.TempDir(), "weir.yaml")
		if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load([]string{file}, os.LookupEnv)
		if err == nil {
			t.Errorf("%s is taken", strings.ReplaceAll(wrong, canary, "..."))
			continue
		}
		looked = append(looked, err.Error())
	}
	find := func(texts []string, hidden ...string) {
		for _, text := range texts {
			for line := range strings.Lines(text) {
				for _, h := range hidden {
					if strings.Contains(line, h) {
						t.Fatalf("%q is in %.600s", h, line)
					}
				}
			}
		}
	}
	logged = append(logged, receiver.Raw())
	find(append(looked, logged...), canary, hash, base64.StdEncoding.EncodeToString([]byte("bot:" + canary))[:12], base64.StdEncoding.EncodeToString([]byte("ann:" + canary))[:12])
	find(logged, asked)
	all := map[string]bool{}
	secretFields(reflect.TypeFor[config.Config](), nil, "Config", all)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !seen[path] {
			t.Errorf("no canary is in %s", path)
		}
	}
}

// TestMetricsAreBounded: whatever clients put into paths, methods and headers, and upstreams
// into their statuses, the number of series has a bound (trust.md, S-12 and section 3, row 32).
func TestMetricsAreBounded(t *testing.T) {
	c := config.Default()
	c.Mirror = config.Mirror{Fills: c.Mirror.Fills}
	c.Store.Blobs.Filesystem.Root = t.TempDir()
	c.Store.Metadata = c.Store.Blobs
	c.Authz.Basic.Users = []config.User{{Name: "ann", Hash: config.NewSecret(basic.NewHash("x").Text())}}
	app, err := compose(c, newLogs(io.Discard, c.Log))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	series := func() (n int) {
		w := httptest.NewRecorder()
		app.admin.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			if !strings.HasPrefix(line, "#") {
				n++
			}
		}
		return n
	}
	ask := func(i int) {
		text := fmt.Sprintf("x%07d", i)
		path := []string{
			"/" + text, "/v2/" + text + "/tags/list", "/v2/app/manifests/" + text, "/v2/_ext/" + text, "/v2/" + text + "/" + text,
			"/token?scope=" + text, "/" + text + "/v2/", "/v2/app/tags/list?ns=" + text,
		}[i%8]
		r := httptest.NewRequest([]string{"GET", "HEAD", "B" + text, "OPTIONS"}[i/8%4], path, nil)
		r.Header.Set("User-Agent", text)
		r.Header.Set("X-"+text, text)
		if i%3 == 0 {
			r.Header.Set("Authorization", []string{text, "Bearer", "Negotiate"}[i/3%3]+" "+text)
		}
		app.public.ServeHTTP(httptest.NewRecorder(), r)
	}
	for i := range 1000 {
		ask(i)
	}
	before := series()
	for i := range 100_000 {
		ask(i)
	}
	if after := series(); after > 1000 || after > before {
		t.Errorf("%d series after 1,000 requests, %d after 100,000", before, after)
	} else {
		t.Logf("%d series", after)
	}

	u := remotetest.New(t)
	var status atomic.Int64
	u.Fault("", func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	})
	// Not by way of its upstream, which asks no endpoint again that answers with errors.
	endpoint, reader, err := newEndpoint(ways{name: "docker.io"}, config.Endpoint{URL: config.URL{URL: *u.URL()}}, app.meter(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	before = series()
	for i := range 800 {
		status.Store(int64(200 + i))
		_, _ = endpoint.Reader.Manifest(t.Context(), origintest.Repo(t, "library/app"), origintest.Ref(t, "v1"))
	}
	if n := u.Count("manifests"); n != 800 {
		t.Errorf("the upstream answered %d times", n)
	}
	if more := series() - before; more > 70 { // RFC 9110 and its like have 60
		t.Errorf("an upstream has made %d series", more)
	} else {
		t.Logf("%d series of an upstream", more)
	}
}
