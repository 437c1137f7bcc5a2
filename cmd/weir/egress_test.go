package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// A password file that changes counts from the next request on, with basic
// authentication and for tokens.
func TestPasswordFileThatChanges(t *testing.T) {
	for name, arm := range map[string]func(u *remotetest.Upstream, password string){
		"basic": func(u *remotetest.Upstream, password string) { u.Basic("u", password) },
		"bearer": func(u *remotetest.Upstream, password string) {
			u.Bearer(remotetest.Bearer{Username: "u", Password: password, Own: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			file := filepath.Join(t.TempDir(), "password")
			change := func(password string) {
				arm(u, password)
				if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			change("one")
			r := start(t, "", fmt.Sprintf("  upstreams:\n    - name: a.io\n      public: true\n      endpoints: [{url: '%s', username: u, password_file: '%s'}]\n", u.URL(), file))
			for i, password := range []string{"one", "two", "three"} {
				change(password)
				tag := fmt.Sprint(i)
				u.AddImage("x", tag)
				if a := r.get("/v2/a.io/x/manifests/" + tag); a.status != http.StatusOK {
					t.Errorf("password %s: %d %s after %q", password, a.status, a.body, u.Requests())
				}
			}
		})
	}
}

// An endpoint with a private CA that wants a certificate gets it, and a changed one
// without a restart.
func TestMutualTLSOfAnEndpoint(t *testing.T) {
	u := remotetest.New(t)
	u.AddImage("x", "1")
	s := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(u.URL()))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, text []byte) {
		if err := os.WriteFile(file(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Minute)
		if err := os.Chtimes(file(name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	cert, key := selfSigned(t)
	write("cert.pem", cert)
	write("key.pem", key)
	write("ca.pem", cert) // which is none that the server has
	r := start(t, "", fmt.Sprintf("  upstreams:\n    - name: a.io\n      public: true\n      endpoints: [{url: '%s', ca: '%s', certificate: '%s', key: '%s'}]\n",
		s.URL, file("ca.pem"), file("cert.pem"), file("key.pem")))
	if a := r.get("/v2/a.io/x/manifests/1"); a.status < 500 {
		t.Errorf("an authority that is not named is believed: %d", a.status)
	}
	if lines := u.Requests(); lines != nil {
		t.Errorf("it was asked %q", lines)
	}
	write("ca.pem", authority)
	eventually(t, "the changed authority is believed", func() bool { return r.get("/v2/a.io/x/manifests/1").status == http.StatusOK })
}

// proxy is one that leads every host to one place, and writes down for whom.
type proxy struct {
	*httptest.Server
	to    string
	mu    sync.Mutex
	asked []string
}

func newProxy(t *testing.T, to *url.URL) *proxy {
	t.Helper()
	p := &proxy{to: to.Host}
	forward := httputil.NewSingleHostReverseProxy(to)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.URL.Host)
		p.mu.Unlock()
		if r.Method != http.MethodConnect {
			forward.ServeHTTP(w, r)
			return
		}
		there, err := net.Dial("tcp", p.to)
		if err != nil {
			t.Error(err)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	hosts := slices.Clone(p.asked)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// The proxies of the environment are used, but for the hosts of NO_PROXY and for
// this machine.
func TestProxiesOfTheEnvironment(t *testing.T) {
	plain, secure := remotetest.New(t), remotetest.NewTLS(t)
	for _, u := range []*remotetest.Upstream{plain, secure} {
		u.AddImage("x", "1")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	plainly, https := newProxy(t, plain.URL()), newProxy(t, secure.URL())
	t.Setenv("HTTP_PROXY", plainly.URL)
	t.Setenv("HTTPS_PROXY", https.URL)
	t.Setenv("NO_PROXY", "no.invalid,.corp.invalid,10.0.0.0/8")
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	p := newProcess(t, t.TempDir(), `  upstreams:
    - {name: plain.io, endpoints: [{url: 'http://registry.invalid'}]}
    - {name: secure.io, endpoints: [{url: 'https://example.com', ca: '`+ca+`'}]}
    - {name: here.io, endpoints: [{url: '`+plain.URL().String()+`'}]}
    - {name: none.io, endpoints: [{url: 'http://no.invalid'}]}
    - {name: below.io, endpoints: [{url: 'http://a.corp.invalid'}]}
`)
	p.start()
	for name, want := range map[string]bool{"plain.io": true, "secure.io": true, "here.io": true, "none.io": false, "below.io": false} {
		resp, err := p.client.Get("http://" + p.public + "/v2/" + name + "/x/manifests/1")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.StatusCode == http.StatusOK; got != want || !want && resp.StatusCode < 500 {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
	if got, want := plainly.hosts(), []string{"GET registry.invalid"}; !slices.Equal(got, want) {
		t.Errorf("the proxy for http was asked for %q, want %q", got, want)
	}
	if got, want := https.hosts(), []string{"CONNECT example.com:443"}; !slices.Equal(got, want) {
		t.Errorf("the proxy for https was asked for %q, want %q", got, want)
	}
	p.stop()
	p.saidNothingBad()
}

// What a client says (ns), and what an image says (the urls of a layer), is nowhere
// to go: trust.md's S-1. The upstream is on loopback, so that the addresses alone
// would keep nobody away.
func TestNobodysWordIsDialled(t *testing.T) {
	conns := 0
	var mu sync.Mutex
	canary := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	canary.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			mu.Lock()
			defer mu.Unlock()
			conns++
		}
	}
	canary.Start()
	defer canary.Close()
	host := strings.TrimPrefix(canary.URL, "http://")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	u := remotetest.New(t)
	r := start(t, "", hub(u, ""))
	for i, at := range []string{
		host, "localhost:" + port, "2130706433:" + port, "[::ffff:127.0.0.1]:" + port, "0.0.0.0:" + port, "0x7f000001:" + port,
		"u:p@" + host, "docker.io@" + host, "169.254.169.254", "docker.io/" + host, host + "/docker.io", canary.URL,
	} {
		a := r.get("/v2/library/x/manifests/1?ns=" + url.QueryEscape(at))
		known := map[int]string{http.StatusNotFound: "NAME_UNKNOWN", http.StatusBadRequest: "NAME_INVALID"}
		if code, ok := known[a.status]; !ok || a.code() != code {
			t.Errorf("ns %s: %d %s", at, a.status, a.body)
		}
		layer := digest.FromString(at)
		b, err := json.Marshal(map[string]any{
			"schemaVersion": 2, "mediaType": origin.MediaTypeOCIManifest,
			"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": u.AddBlob("library/x", []byte("{}")).Digest},
			"layers": []any{map[string]any{
				"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 1, "digest": layer,
				"urls": []string{"http://" + at + "/layer", canary.URL + "/layer"},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		tag := fmt.Sprint("t", i)
		u.AddManifest("library/x", origin.MediaTypeOCIManifest, b, tag)
		if a := r.get("/v2/docker.io/library/x/manifests/" + tag); a.status != http.StatusOK {
			t.Errorf("a manifest with urls: %d %s", a.status, a.body)
		}
		if a := r.get("/v2/docker.io/library/x/blobs/" + layer.String()); a.status != http.StatusNotFound {
			t.Errorf("a layer that is elsewhere: %d", a.status)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if conns > 0 {
		t.Errorf("%d connections to where nobody may send weir", conns)
	}
}

// selfSigned is a certificate and its key, as files hold them.
func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}
