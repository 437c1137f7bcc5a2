package main

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// keysOf are the keys of a type of the configuration; [] is each item of a list.
func keysOf(t reflect.Type, path string) []string {
	text := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && len(keysOf(t.Elem(), path)) > 1:
		return keysOf(t.Elem(), path+"[]")
	case t.Kind() != reflect.Struct || text || t == reflect.TypeFor[config.Secret]():
		return []string{path}
	}
	var keys []string
	for field := range t.Fields() {
		key := field.Tag.Get("yaml")
		if path != "" {
			key = path + "." + key
		}
		keys = append(keys, keysOf(field.Type, key)...)
	}
	return keys
}

// keyWorld is a weir whose configuration is base, and what a row says on top of it.
type keyWorld struct {
	*testing.T
	*lives
	up       *remotetest.Upstream
	files    mtlstest.Files
	other    mtlstest.Files
	ca       *mtlstest.Authority
	out      *logBuffer // the log
	followed config.Server
	token    string
	moved    int
	hooked   atomic.Int64 // questions to the webhook
	shown    atomic.Value // and who asked the last one
	webhook  *httptest.Server
	file     string
}

func newKeyWorld(t *testing.T) *keyWorld {
	w := &keyWorld{T: t, up: remotetest.New(t), files: mtlstest.NewFiles(t), other: mtlstest.NewFiles(t), ca: mtlstest.NewAuthority(t, "ca"), out: &logBuffer{changed: make(chan struct{})}}
	for _, f := range []mtlstest.Files{w.files, w.other} {
		f.PutPair(t, w.ca.Issue(t, mtlstest.Server()))
		mtlstest.Put(t, f.ClientCA, w.ca.CertificatePEM())
	}
	mtlstest.Put(t, filepath.Join(filepath.Dir(w.files.Key), "htpasswd"), []byte("ci:"+basic.NewHash("pw").Text()+"\n"))
	w.up.AddImage("library/nginx", "1", []byte("layer"))
	w.webhook = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.hooked.Add(1)
		w.shown.Store(r.Header.Get("Authorization"))
		if r.URL.Path == "/no" {
			rw.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(w.webhook.Close)
	return w
}

// text puts this world's addresses and files into what a row says.
func (w *keyWorld) text(s string) string {
	return strings.NewReplacer(
		"UP", w.up.URL().String(), "HOOK", w.webhook.URL, "HASH", basic.NewHash("pw").Text(),
		"CERT2", w.other.Certificate, "KEY2", w.other.Key, "CA2", w.other.ClientCA,
		"CERT", w.files.Certificate, "KEY", w.files.Key, "CA", w.files.ClientCA,
		"HTPASSWD", filepath.Join(filepath.Dir(w.files.Key), "htpasswd"),
	).Replace(s)
}

// begin composes what a row says first.
func (w *keyWorld) begin(text string) {
	dir := w.TempDir()
	base := filepath.Join(dir, "base.yaml")
	mtlstest.Put(w, base, fmt.Appendf(nil, "store: {blobs: {filesystem: {root: %q}}}\nserver: {listen: '127.0.0.1:0'}\nmirror: {well_known: false}\n", filepath.Join(dir, "data")))
	w.file = filepath.Join(dir, "row.yaml")
	mtlstest.Put(w, w.file, []byte("{}\n"+w.text(text)))
	if text != "" {
		mtlstest.Put(w, w.file, []byte(w.text(text)))
	}
	from := configuration{files: []string{base, w.file}}
	c, err := from.load()
	if err != nil {
		w.Fatal(err)
	}
	logs := newLogs(w.out, c.Log)
	a, err := compose(c, logs)
	if err != nil {
		w.Fatal(err)
	}
	w.lives = newLives(logs, a, &commands{})
	w.lives.from, w.lives.follow, w.followed = from, func(s config.Server) { w.followed = s }, c.Server
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.life = w.tend(ctx)
	w.first()
	w.Cleanup(func() {
		w.life.end()
		w.drain()
		if err := w.close(context.Background()); err != nil {
			w.Error(err)
		}
		_ = w.watcher.notify.Close()
		logs.release()
	})
}

// over has the configuration be text.
func (w *keyWorld) over(text string) {
	mtlstest.Put(w, w.file, []byte(w.text(text)))
	w.reload(true)
}

func (w *keyWorld) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rw := httptest.NewRecorder()
	w.public().ServeHTTP(rw, r)
	return rw
}

// collected collects garbage, if something is to go until it has gone, and gives the status
// of what there was.
func (w *keyWorld) collected(path string, goes bool) (status string) {
	w.Helper()
	once := func() bool {
		if _, err := w.current.Load().collect()(context.Background(), json.RawMessage("{}"), func(string) {}); err != nil {
			w.Error(err)
		}
		if strings.Contains(path, "/uploads/") {
			return w.ask("GET", path, "").Code == http.StatusNotFound
		}
		_, err := w.current.Load().registry.Holds(context.Background(), digest.FromString("nobody names it")) // a GET would renew its lease
		return origin.Unknown(err)
	}
	if once(); goes {
		eventually(w, "it has gone", once)
	}
	return fmt.Sprint(w.ask("GET", path, "").Code)
}

// status is that of a request.
func status(method, path, body string, headers ...string) func(*keyWorld) string {
	return func(w *keyWorld) string { return fmt.Sprint(w.ask(method, path, body, headers...).Code) }
}

// seen is a value of the app that serves.
func seen(what func(w *keyWorld, a *app) any) func(*keyWorld) string {
	return func(w *keyWorld) string { return fmt.Sprint(what(w, w.current.Load())) }
}

// Every key takes effect by a reload, or is said to need a restart. What a row sees before
// is old, and new after it; "" is anything else than before.
func TestEveryKeyOfAReload(t *testing.T) {
	const (
		hub   = "mirror: {upstreams: [{name: docker.io, endpoints: [{url: UP}]%s}]}"
		image = "/v2/docker.io/library/nginx/manifests/1"
		open  = "authz: {policy: {default: allow}}\n"
		ci    = "Basic Y2k6cHc="
	)
	ofHub := func(more string) string { return fmt.Sprintf(hub, more) }
	reader := seen(func(_ *keyWorld, a *app) any { return fmt.Sprintf("%p", a.table.Upstreams()[0].Reader) })
	endpoint := func(more string) string {
		return "authz: {policy: {allow: ['identity.authenticated']}, basic: {users: [{name: ci, hash: 'HASH'}]}}\nmirror: {upstreams: [{name: docker.io, endpoints: [{url: UP" + more + "}]}]}"
	}
	provider := func(more string) string {
		return "authz: {oidc: [{name: op, issuer: 'https://op.example', audience: weir" + more + "}]}"
	}
	providers := seen(func(_ *keyWorld, a *app) any { return fmt.Sprintf("%p", a.rights.known[len(a.rights.known)-1]) })
	hook := func(more string) string {
		return "authz: {policy: {default: allow}, webhook: opa, webhooks: [{name: opa" + more + "}]}"
	}
	known := seen(func(w *keyWorld, a *app) any {
		w.hooked.Store(0)
		for range 2 {
			w.ask("GET", "/v2/app/manifests/1", "")
		}
		return fmt.Sprint(w.hooked.Load(), " ", w.shown.Load())
	})
	webhooks := seen(func(_ *keyWorld, a *app) any {
		return fmt.Sprintf("%p %v", a.rights.policy, a.config.Authz.Webhooks[0])
	})
	sidecar := func(more string) string { return "origin: {url: 'http://127.0.0.1:1'" + more + "}" }
	// moves puts two manifests under a tag, one after the other.
	moves := func(w *keyWorld) string {
		said := ""
		for range 2 {
			w.moved++
			m := origintest.Image(fmt.Appendf(nil, `{"n":%d}`, w.moved))
			for _, b := range m.Blobs {
				origintest.PushBlob(w, w.current.Load().registry, "app", b.Bytes)
			}
			said = fmt.Sprint(w.ask("PUT", "/v2/app/manifests/v2", string(m.Manifest.Bytes), "Content-Type", m.Manifest.MediaType).Code)
		}
		return said
	}
	fills := seen(func(_ *keyWorld, a *app) any { return fillLimits(a.config) })
	front := seen(func(w *keyWorld, _ *app) any { return limitsOf(w.followed) })
	signsIn := seen(func(_ *keyWorld, a *app) any { return len(a.rights.logins) })
	told := func(more string) string { return "events: [{name: ci, url: HOOK/a" + more + "}]" }
	tellsOf := seen(func(w *keyWorld, a *app) any {
		keys := []string{}
		for _, write := range a.outbox.Pushed(context.Background(), origin.Change{Repo: origintest.Repo(w, "app")}).Writes {
			keys = append(keys, path.Dir(write.Key))
		}
		return keys
	})
	tracer := seen(func(_ *keyWorld, a *app) any { return fmt.Sprintf("%p", a.tracing) })
	rows := []struct {
		keys     string
		before   string
		after    string
		see      func(*keyWorld) string
		old, new string
	}{
		{"log.level", "", "log: {level: debug}", seen(func(w *keyWorld, _ *app) any { return w.logs.room("mirror").Enabled(context.Background(), -4) }), "false", "true"},
		{"log.levels", "", "log: {levels: {mirror: debug}}", seen(func(w *keyWorld, _ *app) any {
			return fmt.Sprint(w.logs.room("mirror").Enabled(context.Background(), -4), w.logs.room("store").Enabled(context.Background(), -4))
		}), "false false", "true false"},
		{"log.format", "log: {format: json}", "log: {format: text}", seen(func(w *keyWorld, _ *app) any { return w.logs.text.Load() }), "false", "true"},

		{"server.external_url", open, open + "server: {external_url: 'https://r.example'}", func(w *keyWorld) string {
			l := w.ask("POST", "/v2/app/blobs/uploads/", "").Header().Get("Location")
			return l[:strings.Index(l, "/v2")]
		}, "", "https://r.example"},
		{"server.http2 server.timeouts.header server.timeouts.idle", "", "server: {http2: false, timeouts: {header: 1s, idle: 2s}}", front, "", ""},
		{"server.timeouts.stall", "", "server: {timeouts: {stall: 20s}}", front, "", ""},
		{"server.tls.certificate server.tls.key", "server: {tls: {certificate: CERT, key: KEY}}", "server: {tls: {certificate: CERT2, key: KEY2}}", seen(func(_ *keyWorld, a *app) any {
			c, err := a.secured.Config().GetConfigForClient(nil)
			return fmt.Sprintf("%x %v", c.Certificates[0].Certificate[0][:64], err)
		}), "", ""},
		{"server.tls.client_ca server.tls.client_auth", "server: {tls: {certificate: CERT, key: KEY}}", "server: {tls: {certificate: CERT, key: KEY, client_ca: CA, client_auth: required}}", seen(func(w *keyWorld, a *app) any {
			c, err := a.secured.Config().GetConfigForClient(nil)
			return fmt.Sprint(c.ClientAuth, err, w.followed.TLS.ClientAuth, len(a.rights.known))
		}), "", ""},
		{"server.trusted_proxies", "authz: {policy: {allow: [\"identity.client_ip == '1.2.3.4'\"]}}", "server: {trusted_proxies: [127.0.0.0/8]}\nauthz: {policy: {allow: [\"identity.client_ip == '1.2.3.4'\"]}}", status("GET", "/v2/app/manifests/1", "", "X-Forwarded-For", "1.2.3.4"), "403", "404"},
		{"server.max_concurrent_requests", "server: {queue_timeout: 1ms}", "server: {queue_timeout: 1ms, max_concurrent_requests: 1}", func(w *keyWorld) string {
			_ = w.current.Load().turns.take(context.Background())
			defer w.current.Load().turns.release()
			return fmt.Sprint(w.ask("GET", "/v2/", "").Code)
		}, "200", "503"},
		{"server.queue_timeout", "", "server: {queue_timeout: 1ms}", seen(func(_ *keyWorld, a *app) any { return a.turns.patience }), "10s", "1ms"},
		{"server.drain", "", "server: {drain: 1s}", seen(func(_ *keyWorld, a *app) any { return a.config.Server.Drain }), "30s", "1s"},

		{"origin.username origin.password", sidecar(""), sidecar(", username: u, password: p"), seen(func(_ *keyWorld, a *app) any {
			l, err := a.outside.Login(context.Background())
			return fmt.Sprint(l.Username, l.Password.Reveal(), err)
		}), "<nil>", "up<nil>"},
		{"origin.ca origin.certificate origin.key", sidecar(""), sidecar(", ca: CA, certificate: CERT, key: KEY"), seen(func(_ *keyWorld, a *app) any {
			return fmt.Sprint(a.outside.trust().CA != nil, a.outside.trust().Certificate != nil)
		}), "false false", "true true"},
		{"origin.delete", open, open + "origin: {delete: false}", status("DELETE", "/v2/app/manifests/1", ""), "404", "405"},
		{"origin.max_manifest_size", open, open + "origin: {max_manifest_size: 10}", status("PUT", "/v2/app/manifests/1", strings.Repeat("x", 100), "Content-Type", "application/vnd.oci.image.manifest.v1+json"), "400", "413"},
		{"origin.max_blob_size", open, open + "origin: {max_blob_size: 10}", status("POST", "/v2/app/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64), strings.Repeat("x", 100)), "400", "413"},
		{"origin.upload_expiry", open, open + "origin: {upload_expiry: 1ns}", func(w *keyWorld) string {
			at := w.ask("POST", "/v2/app/blobs/uploads/", "").Header().Get("Location")
			return w.collected(at, w.current.Load().config.Origin.UploadExpiry == 1)
		}, "204", "404"},
		{"origin.gc.grace", open, open + "origin: {gc: {grace: 1s}}", func(w *keyWorld) string {
			d := origintest.PushBlob(w, w.current.Load().registry, "app", []byte("nobody names it"))
			return w.collected("/v2/app/blobs/"+d.String(), w.current.Load().config.Origin.GC.Grace.Std() == time.Second)
		}, "200", "404"},
		{"origin.immutable_tags", open, open + "origin: {immutable_tags: ['v.*']}", moves, "201", "403"},
		{"origin.immutable_tags_except", open + "origin: {immutable_tags: ['v.*']}", open + "origin: {immutable_tags: ['v.*'], immutable_tags_except: [v2]}", moves, "403", "201"},
		{"origin.gc.interval origin.scrub.interval origin.retention.interval", "", "origin: {gc: {interval: 2h}, scrub: {interval: 3h}, retention: {interval: 4h}}", seen(func(w *keyWorld, _ *app) any {
			return fmt.Sprint(w.life.rounds["gc"].interval, w.life.rounds["scrub"].interval, w.life.rounds["retention"].interval)
		}), "1h0m0s 0s 0s", "2h0m0s 3h0m0s 4h0m0s"},
		{"origin.scrub.rate", "", "origin: {scrub: {rate: 1KiB}}", seen(func(_ *keyWorld, a *app) any { return fmt.Sprintf("%p %v", a.scrubber, a.config.Origin.Scrub.Rate) }), "", ""},

		{"mirror.default", ofHub(""), strings.Replace(ofHub(""), "mirror: {", "mirror: {default: docker.io, ", 1), status("GET", "/v2/library/nginx/manifests/1", ""), "404", "200"},
		{"mirror.cache.max_size", "", "mirror: {cache: {max_size: 1KiB}}", seen(func(w *keyWorld, a *app) any {
			return a.cache.Reserve(origintest.Repo(w, "docker.io/app"), "sha256:x", 2048)
		}), "<nil>", "evict: no room within the cache's budget"},
		{"mirror.cache.min_free", "mirror: {cache: {min_free: 0%}}", "mirror: {cache: {min_free: 99.99%}}", seen(func(w *keyWorld, a *app) any {
			a.cache.Listed(w.Context())
			return a.cache.Reserve(origintest.Repo(w, "docker.io/app"), "sha256:x", 2048)
		}), "<nil>", "evict: no room within the cache's budget: others have filled the disk"},
		{"mirror.fills.concurrency mirror.fills.streams mirror.fills.part_size mirror.fills.linger", "", "mirror: {fills: {concurrency: 1, streams: 2, part_size: 1MiB, linger: 5s}}", fills, "", "{5s 1 2 1048576}"},
		{"mirror.well_known", "", "mirror: {well_known: true}", seen(func(_ *keyWorld, a *app) any { return len(a.table.Upstreams()) > 0 }), "false", "true"},
		{"mirror.upstreams[].name", strings.Replace(ofHub(""), "docker.io", "other.io", 1), ofHub(""), status("GET", image, ""), "404", "200"},
		{"mirror.upstreams[].aliases", ofHub(""), ofHub(", aliases: [hub.test]"), status("GET", "/v2/library/nginx/manifests/1?ns=hub.test", ""), "404", "200"},
		{"mirror.upstreams[].endpoints[].url", strings.Replace(ofHub(""), "UP", "'http://127.0.0.1:1'", 1), ofHub(""), status("GET", image, ""), "502", "200"},
		{"mirror.upstreams[].endpoints[].username mirror.upstreams[].endpoints[].password", endpoint(""), endpoint(", username: u, password: p"), reader, "", ""},
		{"mirror.upstreams[].endpoints[].credentials", endpoint(""), endpoint(", credentials: docker"), reader, "", ""},
		{"mirror.upstreams[].endpoints[].ca mirror.upstreams[].endpoints[].certificate mirror.upstreams[].endpoints[].key", endpoint(""), endpoint(", ca: CA, certificate: CERT, key: KEY"), reader, "", ""},
		{"mirror.upstreams[].endpoints[].realm_hosts", endpoint(""), endpoint(", realm_hosts: [auth.example]"), reader, "", ""},
		{"mirror.upstreams[].endpoints[].max_connections", endpoint(""), endpoint(", max_connections: 3"), reader, "", ""},
		{"mirror.upstreams[].endpoints[].fallback", endpoint(""), endpoint(", fallback: true"), reader, "", ""},
		{"mirror.upstreams[].hedge_after", ofHub(""), ofHub(", hedge_after: 1s"), reader, "", ""},
		{"mirror.upstreams[].timeouts.connect", ofHub(""), ofHub(", timeouts: {connect: 1s}"), reader, "", ""},
		{"mirror.upstreams[].timeouts.header", ofHub(""), ofHub(", timeouts: {header: 9s}"), reader, "", ""},
		{"mirror.upstreams[].timeouts.stall", ofHub(""), ofHub(", timeouts: {stall: 9s}"), reader, "", ""},
		{"mirror.upstreams[].tags.ttl mirror.upstreams[].tags.stale_if_error mirror.upstreams[].tags.stale_if_gone mirror.upstreams[].tags.negative_ttl mirror.upstreams[].referrers_ttl", ofHub(""), ofHub(", tags: {ttl: 1s, stale_if_error: 2s, stale_if_gone: false, negative_ttl: 3s}, referrers_ttl: 4s"), seen(func(_ *keyWorld, a *app) any {
			u := a.table.Upstreams()[0]
			return fmt.Sprint(u.Tags.TTL, u.Tags.StaleIfError, u.Tags.StaleIfGone, u.Tags.NegativeTTL, u.ReferrersTTL)
		}), "5m0s 720h0m0s true 10s 1m0s", "1s 2s false 3s 4s"},
		{"mirror.upstreams[].tags.immutable mirror.upstreams[].tags.immutable_except", ofHub(""), ofHub(", tags: {immutable: ['v.*'], immutable_except: [v2]}"), seen(func(_ *keyWorld, a *app) any {
			i := a.table.Upstreams()[0].Tags.Immutable
			return fmt.Sprint(i("v1"), i("v2"))
		}), "false false", "true false"},
		{"mirror.upstreams[].allow", ofHub(""), ofHub(", allow: ['nothing/**']"), status("GET", image, ""), "200", "404"},
		{"mirror.upstreams[].writable", open + ofHub(""), open + ofHub(", writable: true"), status("POST", "/v2/docker.io/team/app/blobs/uploads/", ""), "405", "202"},
		{"mirror.upstreams[].prefetch.platforms", ofHub(""), ofHub(", prefetch: {platforms: [linux/amd64]}"), seen(func(_ *keyWorld, a *app) any { return a.table.Upstreams()[0].Prefetch }), "[]", "[linux/amd64]"},
		{"mirror.upstreams[].public", ofHub(", public: true"), "mirror: {upstreams: [{name: docker.io, endpoints: [{url: UP, username: u, password: p}]}]}", seen(func(_ *keyWorld, a *app) any { return a.config.Mirror.Upstreams[0].Public }), "true", "true"},

		{"authz.realm", "authz: {token: {key: 0123456789abcdef0123456789abcdef}}", "authz: {realm: other, token: {key: 0123456789abcdef0123456789abcdef}}", func(w *keyWorld) string {
			_, service, _ := strings.Cut(w.ask("GET", "/v2/", "").Header().Get("WWW-Authenticate"), "service=")
			return service
		}, `"weir"`, `"other"`},
		{"authz.basic.htpasswd", "authz: {policy: {allow: ['identity.authenticated']}}", "authz: {policy: {allow: ['identity.authenticated']}, basic: {htpasswd: HTPASSWD}}", status("GET", "/v2/", "", "Authorization", ci), "401", "200"},
		{"authz.basic.users[].name authz.basic.users[].hash", "authz: {basic: {users: [{name: x, hash: 'HASH'}]}}", "authz: {basic: {users: [{name: ci, hash: 'HASH'}]}}", status("GET", "/v2/", "", "Authorization", ci), "401", "200"},
		{"authz.oidc[].name", provider(""), strings.Replace(provider(""), "name: op", "name: po", 1), providers, "", ""},
		{"authz.oidc[].issuer", provider(""), strings.Replace(provider(""), "op.example", "po.example", 1), providers, "", ""},
		{"authz.oidc[].audience", provider(""), strings.Replace(provider(""), "audience: weir", "audience: other", 1), providers, "", ""},
		{"authz.oidc[].algorithms", provider(""), provider(", algorithms: [ES256]"), providers, "", ""},
		{"authz.oidc[].username_claim authz.oidc[].groups_claim", provider(""), provider(", username_claim: email, groups_claim: roles"), providers, "", ""},
		{"authz.oidc[].required_claims", provider(""), provider(", required_claims: ['a=b']"), providers, "", ""},
		{"authz.oidc[].jwks_uri", provider(""), provider(", jwks_uri: 'https://op.example/keys'"), providers, "", ""},
		{"authz.oidc[].leeway", provider(""), provider(", leeway: 1s"), providers, "", ""},
		{"authz.oidc[].client_id", provider(""), provider(", client_id: ui"), signsIn, "0", "1"},
		{"authz.oidc[].client_secret authz.oidc[].scopes", provider(", client_id: ui"), provider(", client_id: ui, client_secret: s3, scopes: [groups]"), seen(func(w *keyWorld, a *app) any {
			return fmt.Sprintf("%p", a.rights.logins[0].Login)
		}), "", ""},
		{"authz.oidc[].ca", provider(""), provider(", ca: CA"), providers, "", ""},
		{"authz.token.enabled", "authz: {basic: {users: [{name: ci, hash: 'HASH'}]}}", "authz: {token: {enabled: false}, basic: {users: [{name: ci, hash: 'HASH'}]}}", status("GET", "/token", "", "Authorization", ci), "200", "404"},
		{"authz.token.ttl", "authz: {basic: {users: [{name: ci, hash: 'HASH'}]}}", "authz: {token: {ttl: 100s}, basic: {users: [{name: ci, hash: 'HASH'}]}}", func(w *keyWorld) string {
			var said struct {
				Expires int `json:"expires_in"`
			}
			err := json.Unmarshal(w.ask("GET", "/token", "", "Authorization", ci).Body.Bytes(), &said)
			return fmt.Sprint(said.Expires, err)
		}, "300 <nil>", "100 <nil>"},
		{"authz.token.key", "authz: {basic: {users: [{name: ci, hash: 'HASH'}]}}", "authz: {token: {key: 0123456789abcdef0123456789abcdef}, basic: {users: [{name: ci, hash: 'HASH'}]}}", func(w *keyWorld) string {
			if w.token == "" {
				var said struct{ Token string }
				if err := json.Unmarshal(w.ask("GET", "/token", "", "Authorization", ci).Body.Bytes(), &said); err != nil {
					w.Error(err)
				}
				w.token = said.Token
			}
			return fmt.Sprint(w.ask("GET", "/v2/", "", "Authorization", "Bearer "+w.token).Code)
		}, "200", "401"},
		{"authz.policy.default", "", "authz: {policy: {default: deny}}", status("GET", "/v2/app/manifests/1", ""), "404", "403"},
		{"authz.policy.allow", "", "authz: {policy: {allow: [\"request.action == 'push'\"]}}", status("GET", "/v2/app/manifests/1", ""), "404", "403"},
		{"authz.policy.deny", "", "authz: {policy: {deny: [\"request.repository == 'app'\"]}}", status("GET", "/v2/app/manifests/1", ""), "404", "403"},
		{"authz.webhook authz.webhooks[].name", "authz: {policy: {default: allow}, webhooks: [{name: opa, url: HOOK/no}]}", hook(", url: HOOK/no"), status("GET", "/v2/app/manifests/1", ""), "404", "403"},
		{"authz.webhooks[].url", hook(", url: HOOK/no"), hook(", url: HOOK/yes"), status("GET", "/v2/app/manifests/1", ""), "403", "404"},
		{"authz.webhooks[].cache_ttl", hook(", url: HOOK/a"), hook(", url: HOOK/a, cache_ttl: 0s"), known, "1 ", "2 "},
		{"authz.webhooks[].bearer_token", hook(", url: HOOK/a"), hook(", url: HOOK/a, bearer_token: s3"), known, "1 ", "1 Bearer s3"},
		{"authz.webhooks[].username authz.webhooks[].password", hook(", url: HOOK/a"), hook(", url: HOOK/a, username: ci, password: pw"), known, "1 ", "1 " + ci},
		{"authz.webhooks[].timeout", hook(", url: HOOK/a"), hook(", url: HOOK/a, timeout: 1s"), webhooks, "", ""},
		{"authz.webhooks[].ca authz.webhooks[].certificate authz.webhooks[].key", hook(", url: HOOK/a"), hook(", url: HOOK/a, ca: CA, certificate: CERT, key: KEY"), webhooks, "", ""},

		{"repositories[].match repositories[].policy.default", "repositories: [{match: other, policy: {default: deny}}]", "repositories: [{match: app, policy: {default: deny}}]", status("GET", "/v2/app/manifests/1", ""), "404", "403"},
		{"repositories[].policy.allow", "repositories: [{match: app, policy: {default: deny}}]", "repositories: [{match: app, policy: {default: deny, allow: ['true']}}]", status("GET", "/v2/app/manifests/1", ""), "403", "404"},
		{"repositories[].policy.deny", "repositories: [{match: app}]", "repositories: [{match: app, policy: {deny: ['true']}}]", status("GET", "/v2/app/manifests/1", ""), "404", "403"},
		{"repositories[].webhook", hook(", url: HOOK/no"), hook(", url: HOOK/no") + "\nrepositories: [{match: app, webhook: none}]", status("GET", "/v2/app/manifests/1", ""), "403", "404"},
		{"repositories[].redirect", "", "repositories: [{match: app, redirect: false}]", seen(func(w *keyWorld, a *app) any { return a.config.Redirects()(origintest.Repo(w, "app")) }), "true", "false"},
		{"repositories[].retention.keep", open, open + "repositories: [{match: app, retention: {keep: [\"image.tag == 'none'\"]}}]", func(w *keyWorld) string {
			a := w.current.Load()
			origintest.Image([]byte(`{}`)).Push(w, a.registry, "app", "v1")
			r, err := a.retainer.Run(context.Background(), true, true)
			return fmt.Sprint(len(r.Deleted), err)
		}, "0 <nil>", "1 <nil>"},
		{"repositories[].immutable_tags", "repositories: [{match: app}]", "repositories: [{match: app, immutable_tags: [v1]}]", seen(func(w *keyWorld, a *app) any { return a.registry.Immutable(origintest.Repo(w, "app"), "v1") }), "false", "true"},
		{"ui.enabled", "ui: {enabled: false}", "ui: {enabled: true}", status("GET", "/ui/", ""), "404", "200"},
		{"ui.title", "ui: {title: one}", "ui: {title: two}", func(w *keyWorld) string {
			page := w.ask("GET", "/ui/", "").Body.String()
			return fmt.Sprint(strings.Contains(page, "one</title>"), strings.Contains(page, "two</title>"))
		}, "true false", "false true"},
		{"events[].name events[].url", "", told(""), tellsOf, "[]", "[events/queue/ci]"},
		{"events[].events", told(", events: [pull]"), told(", events: [push]"), tellsOf, "[]", "[events/queue/ci]"},
		{"events[].repositories", told(", repositories: [other]"), told(", repositories: [app]"), tellsOf, "[]", "[events/queue/ci]"},
		{"events[].secret", told(""), told(", secret: s3"), seen(func(w *keyWorld, a *app) any {
			secret, err := a.receivers[0].Secret()
			return fmt.Sprint(secret, err)
		}), "<nil>", "s3<nil>"},
		{"events[].ca events[].certificate events[].key", told(""), told(", ca: CA, certificate: CERT, key: KEY"), seen(func(w *keyWorld, a *app) any {
			return fmt.Sprintf("%p", a.receivers[0].Transport)
		}), "", ""},
		{"tracing.endpoint", "", "tracing: {endpoint: 'http://127.0.0.1:1'}", tracer, "", ""},
		{"tracing.sampling", "tracing: {endpoint: 'http://127.0.0.1:1'}", "tracing: {endpoint: 'http://127.0.0.1:1', sampling: 0.5}", tracer, "", ""},
		{"repositories[].quota", open, open + "repositories: [{match: '**', quota: 10}]", func(w *keyWorld) string {
			pushed := w.ask("POST", "/v2/app/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64), strings.Repeat("x", 100)).Code
			return fmt.Sprint(pushed, w.current.Load().cache.Reserve(origintest.Repo(w, "docker.io/app"), "sha256:x", 100))
		}, "400 <nil>", "403 evict: no room within the cache's budget: the quota of docker.io/app is 10 bytes"},
	}
	missing := map[string]bool{}
	for _, key := range keysOf(reflect.TypeFor[config.Config](), "") {
		missing[key] = true
	}
	for _, row := range rows {
		for key := range strings.FieldsSeq(row.keys) {
			if !missing[key] {
				t.Errorf("%s is no key, or has two rows", key)
			}
			delete(missing, key)
		}
		t.Run(row.keys, func(t *testing.T) {
			w := newKeyWorld(t)
			w.begin(row.before)
			defer func() {
				if t.Failed() {
					t.Logf("it logged:\n%s", w.out.String())
				}
			}()
			was := row.see(w)
			if row.old != "" && was != row.old {
				t.Errorf("before: %s, want %s", was, row.old)
			}
			w.over(row.after)
			switch is := row.see(w); {
			case row.new != "" && is != row.new:
				t.Errorf("after: %s, want %s", is, row.new)
			case row.new == "" && is == was:
				t.Errorf("after as before: %s", is)
			}
		})
	}
	// Of a bucket only where clients are sent may change: that is an app's alone.
	for _, backend := range []string{"store.blobs.s3.", "store.metadata.s3."} {
		for _, name := range []string{"redirect", "redirect_ttl"} {
			delete(missing, backend+name)
			a, b := config.Default(), config.Default()
			setAnother(t, b, backend+name)
			if over, keys := b.Over(a); len(keys) > 0 || !reflect.DeepEqual(over, b) {
				t.Errorf("%s%s needs a restart: %v", backend, name, keys)
			}
		}
	}
	// What is left needs a restart, and says so.
	for key := range missing {
		a, b := config.Default(), config.Default()
		setAnother(t, b, key)
		if _, keys := b.Over(a); len(keys) != 1 || keys[0] != key {
			t.Errorf("%s is neither seen to apply, nor does it need a restart: %v", key, keys)
		}
	}
}

// setAnother sets a key to another value.
func setAnother(t *testing.T, c *config.Config, key string) {
	t.Helper()
	v := reflect.ValueOf(c).Elem()
	for name := range strings.SplitSeq(key, ".") {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("yaml") == name {
				v = v.Field(i)
				break
			}
		}
	}
	switch x := v.Addr().Interface().(type) {
	case *bool:
		*x = !*x
	case *string:
		*x += "x"
	case *config.Secret:
		*x = config.NewSecret("x")
	case *config.URL:
		x.Host = "x"
	case *config.Address:
		x.Addr = "x"
	case *config.Addresses:
		*x = nil
	case *config.Size:
		*x++
	case *config.Duration:
		*x++
	default:
		t.Errorf("%s has a type unknown here", key)
	}
}
