//go:build deploy

package deploy

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// internet is who answers, with TLS on port 443, to the names that examples and guides show.
type internet struct {
	t         *testing.T
	authority *mtlstest.Authority
	ca        string // file

	mu    sync.Mutex
	hosts map[string]http.Handler
	asked map[string]int // requests, by host
}

// names are all that there are.
var names = []string{
	"registry-1.docker.io", "mirror.gcr.io", "ghcr.io", "quay.io", "registry.k8s.io", "token.actions.githubusercontent.com",
	"weir.corp.example", "s3.corp.example", "harbor.corp.example",
}

// newInternet starts those hosts, until the test ends.
func newInternet(t *testing.T, hosts map[string]http.Handler) *internet {
	t.Helper()
	n := &internet{t: t, authority: mtlstest.NewAuthority(t, "internet"), hosts: hosts, asked: map[string]int{}}
	n.ca = write(t, filepath.Join(t.TempDir(), "ca.crt"), string(n.authority.CertificatePEM()))
	before := read(t, "/etc/hosts")
	write(t, "/etc/hosts", "127.0.0.1 localhost "+strings.Join(names, " ")+"\n")
	l, err := net.Listen("tcp", ":443") // of containers, too
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.asked[r.Host]++
		h := n.hosts[r.Host]
		n.mu.Unlock()
		if h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, "nobody is there", http.StatusBadGateway)
	}))
	_ = server.Listener.Close()
	server.Listener = l
	server.Config.ErrorLog = log.New(os.Stderr, "internet: ", 0)
	shown := mtlstest.Server()
	shown.DNSNames = names
	server.TLS = &tls.Config{Certificates: []tls.Certificate{n.authority.Issue(t, shown).TLS()}}
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		write(t, "/etc/hosts", before)
	})
	return n
}

// env has a program believe the internet's authority.
func (n *internet) env() []string { return []string{"SSL_CERT_FILE=" + n.ca, "SSL_CERT_DIR=/none"} }

// leave has a host answer no more.
func (n *internet) leave(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, host)
}

// count gives how many requests a host has taken.
func (n *internet) count(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[host]
}

// client reaches everybody, whatever their name, on this machine.
func (n *internet) client() *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: n.authority.Pool()},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
		},
	}
}

// options are how an image is asked for as that user; "" is nobody.
func (n *internet) options(user, password string) []remote.Option {
	who := authn.Anonymous
	if user != "" {
		who = &authn.Basic{Username: user, Password: password}
	}
	return []remote.Option{remote.WithTransport(n.client()), remote.WithAuth(who), remote.WithContext(n.t.Context())}
}

// pull fetches an image whole, and gives its digest.
func (n *internet) pull(image string, o ...remote.Option) (v1.Hash, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return v1.Hash{}, err
	}
	img, err := remote.Image(ref, o...)
	if err != nil {
		return v1.Hash{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return v1.Hash{}, err
	}
	if _, err := img.RawConfigFile(); err != nil {
		return v1.Hash{}, err
	}
	for _, layer := range layers {
		body, err := layer.Compressed()
		if err != nil {
			return v1.Hash{}, err
		}
		_, err = io.Copy(io.Discard, body)
		_ = body.Close()
		if err != nil {
			return v1.Hash{}, err
		}
	}
	return img.Digest()
}

// push makes an image and sends it there.
func (n *internet) push(image string, o ...remote.Option) error {
	ref, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	return remote.Write(ref, newImage(n.t), o...)
}

func newImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(64<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// someRegistry is a registry that has these images, all of which are one.
func someRegistry(t *testing.T, images ...string) (http.Handler, v1.Hash) {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	img := newImage(t)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		ref, err := name.ParseReference("registry.test/" + image)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img, remote.WithTransport(within{h})); err != nil {
			t.Fatal(err)
		}
	}
	return h, digest
}

// within asks a handler without a network.
type within struct{ http.Handler }

func (h within) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// closed lets nobody in but that user.
func closed(h http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// proxy passes everything on as it came, as what stands before a server with the certificate does.
func proxy(t *testing.T, to string) http.Handler {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0), // who is stopped does not answer
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
	}
}

// issuer gives tokens of the kind that GitHub gives to jobs.
type issuer struct {
	http.Handler
	sign func(repository, ref string) string
}

func newIssuer(t *testing.T, at, audience string) issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := jose.JSONWebKey{Key: key, KeyID: "1", Algorithm: string(jose.RS256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: private}, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": at, "jwks_uri": at + "/jwks", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}})
	})
	return issuer{mux, func(repository, ref string) string {
		now := time.Now()
		owner, _, _ := strings.Cut(repository, "/")
		token, err := jwt.Signed(signer).Claims(map[string]any{
			"iss": at, "aud": audience, "sub": fmt.Sprintf("repo:%s:ref:%s", repository, ref), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"repository": repository, "repository_owner": owner, "ref": ref,
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}}
}
