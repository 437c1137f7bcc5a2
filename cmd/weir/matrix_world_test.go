package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// provider is an OpenID Connect provider that signs whatever it is asked to.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"1","x":%q,"y":%q}]}`, part(point[1:33]), part(point[33:]))
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// token is one of somebody, for weir.
func (p *provider) token(t testing.TB, subject string, more ...string) string {
	t.Helper()
	return p.tokenOf(t, p.URL, subject, more...)
}

// tokenOf is one of an issuer of that name.
func (p *provider) tokenOf(t testing.TB, issuer, subject string, more ...string) string {
	t.Helper()
	part := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":"weir","iat":%d,"exp":%d%s}`,
		issuer, subject, time.Now().Unix(), time.Now().Add(time.Hour).Unix(), strings.Join(more, ""))
	signed := part([]byte(`{"alg":"ES256","kid":"1","typ":"JWT"}`)) + "." + part([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + part(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// world is a weir over TLS at which people can log in by every method, in front of an
// upstream.
type world struct {
	t        testing.TB
	app      *app
	address  string
	hub      *remotetest.Upstream
	provider *provider
	clients  *mtlstest.Authority
	roots    *tls.Config
	plain    *http.Client // shows no certificate
	log      *logBuffer
}

// password is everybody's.
const password = "correct horse"

// newWorld makes a weir that people of those names can log in at, each by every method.
// more is what the configuration has besides: what is below authz.policy, and then
// whatever there is.
func newWorld(t testing.TB, people []string, policy, more string) *world {
	t.Helper()
	w := &world{
		t: t, hub: remotetest.New(t), provider: newProvider(t), clients: mtlstest.NewAuthority(t, "clients"),
		log: &logBuffer{changed: make(chan struct{})},
	}
	servers, files := mtlstest.NewAuthority(t, "servers"), mtlstest.NewFiles(t)
	files.PutPair(t, servers.Issue(t, mtlstest.Server()))
	mtlstest.Put(t, files.ClientCA, w.clients.CertificatePEM())
	var users []string
	hash := basic.NewHash(password).Text()
	for _, name := range people {
		users = append(users, fmt.Sprintf("{name: %s, hash: %q}", name, hash))
	}
	dir := t.TempDir()
	text := fmt.Sprintf(`log: {format: json, level: debug}
server: {listen: '127.0.0.1:0', tls: {certificate: '%s', key: '%s', client_ca: '%s'}}
store: {blobs: {filesystem: {root: '%s'}}}
mirror:
  well_known: false
  upstreams: [{name: docker.io, endpoints: [{url: '%s'}]}]
authz:
  token: {ttl: 1h}
  basic: {users: [%s]}
  oidc: [{name: op, issuer: '%s', audience: weir, algorithms: [ES256]}]
  policy: %s
%s`, files.Certificate, files.Key, files.ClientCA, filepath.Join(dir, "data"), w.hub.URL(), strings.Join(users, ", "), w.provider.URL, policy, more)
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	logs := newLogs(w.log, c.Log)
	if w.app, err = compose(c, logs); err != nil {
		t.Fatal(err)
	}
	server := newServer(w.app.public, c.Server, logs.room("server"))
	encrypt(server, w.app.secured, c.Server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		if err := w.app.close(context.Background()); err != nil {
			t.Error(err)
		}
		logs.release()
	})
	w.roots = &tls.Config{RootCAs: servers.Pool(), ServerName: "localhost"}
	w.plain = w.client()
	return w
}

// client shows a certificate, if it is given one.
func (w *world) client(shown ...mtlstest.Pair) *http.Client {
	c := w.roots.Clone()
	for _, p := range shown {
		c.Certificates = append(c.Certificates, p.TLS())
	}
	transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true, DisableCompression: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// visitor is somebody who shows who they are in one way.
type visitor struct {
	w      *world
	client *http.Client
	// credentials gives the Authorization header for a repository; "" = none.
	credentials func(repo string) string
}

// visitor gives somebody of that name who uses that method: none, basic, bearer, oidc
// or mtls.
func (w *world) visitor(method, name string) *visitor {
	w.t.Helper()
	v := &visitor{w: w, client: w.plain, credentials: func(string) string { return "" }}
	login := "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
	switch method {
	case "none":
	case "basic":
		v.credentials = func(string) string { return login }
	case "oidc":
		token := w.provider.token(w.t, name)
		v.credentials = func(string) string { return "Bearer " + token }
	case "mtls":
		v.client = w.client(w.clients.Issue(w.t, mtlstest.Client(name)))
	case "bearer":
		kept := map[string]string{}
		v.credentials = func(repo string) string {
			if kept[repo] == "" {
				kept[repo] = "Bearer " + w.token(login, "repository:"+repo+":pull,push,delete", "registry:catalog:*")
			}
			return kept[repo]
		}
	default:
		w.t.Fatalf("no method is called %s", method)
	}
	return v
}

// token fetches one of weir's.
func (w *world) token(login string, scopes ...string) string {
	w.t.Helper()
	a := w.send(w.plain, http.MethodGet, "/token?"+url.Values{"service": {"weir"}, "scope": scopes}.Encode(), nil, "Authorization", login)
	var said struct{ Token string }
	if err := json.Unmarshal(a.body, &said); err != nil || a.status != http.StatusOK || said.Token == "" {
		w.t.Fatalf("token: %d %s", a.status, a.body)
	}
	return said.Token
}

// do asks something about a repository; its name is what a token is asked for.
func (v *visitor) do(repo, method, path string, body []byte, headers ...string) answer {
	v.w.t.Helper()
	if c := v.credentials(repo); c != "" {
		headers = append(headers, "Authorization", c)
	}
	return v.w.send(v.client, method, path, body, headers...)
}

func (w *world) send(c *http.Client, method, path string, body []byte, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, "https://"+w.address+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: b, err: err}
}

// session begins an upload and gives its id.
func (v *visitor) session(repo string) string {
	v.w.t.Helper()
	a := v.do(repo, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
	if a.status != http.StatusAccepted {
		v.w.t.Fatalf("upload to %s: %d %s", repo, a.status, a.body)
	}
	return a.header.Get("Docker-Upload-UUID")
}

// sameImage is what every repository of a world has that has something, under tag v1. No
// client refers to others' bytes by it: it is the same everywhere.
func sameImage() origintest.Tree { return origintest.Image([]byte(`{}`), origintest.Bytes(1, 2000)) }
