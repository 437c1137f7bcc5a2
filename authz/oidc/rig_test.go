package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/weir-registry/weir/authz"
)

// signingKeys are made once: an RSA key takes its time.
type signingKeys struct {
	rsa, rsa2 *rsa.PrivateKey
	weak      *rsa.PrivateKey
	ec        *ecdsa.PrivateKey
	ed        ed25519.PrivateKey
}

var someKeys = sync.OnceValue(makeKeys)

func makeKeys() signingKeys {
	var k signingKeys
	var err error
	must := func() {
		if err != nil {
			panic(err)
		}
	}
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must()
	k.rsa2, err = rsa.GenerateKey(rand.Reader, 2048)
	must()
	k.weak, err = rsa.GenerateKey(rand.Reader, 1024)
	must()
	k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must()
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must()
	return k
}

// provider is an issuer that answers without a network, and writes down what it is
// asked.
type provider struct {
	url string

	mu    sync.Mutex
	keys  []jose.JSONWebKey
	asked []string
	fail  error                                            // in place of an answer
	serve func(r *http.Request, path string) (int, string) // instead of the documents, unless it gives 0
	gate  chan struct{}                                    // answers wait for its end
}

func newProvider(url string, keys ...jose.JSONWebKey) *provider {
	return &provider{url: url, keys: keys}
}

func public(kid string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: kid, Use: "sig"}
}

func (p *provider) publish(keys ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func (p *provider) breaks(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

// requests gives the paths that were asked for since it was last called.
func (p *provider) requests() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := strings.Join(p.asked, " ")
	p.asked = nil
	return asked
}

// RoundTrip implements http.RoundTripper.
func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(r.URL.String(), strings.TrimSuffix(p.url, "/"))
	p.mu.Lock()
	p.asked = append(p.asked, path)
	gate, fail := p.gate, p.fail
	p.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	status, body := http.StatusNotFound, ""
	if p.serve != nil {
		status, body = p.serve(r, path)
	}
	if p.serve == nil || status == 0 {
		status, body = p.documents(path)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (p *provider) documents(path string) (int, string) {
	switch path {
	case "/.well-known/openid-configuration":
		return http.StatusOK, encode(map[string]string{"issuer": p.url, "jwks_uri": strings.TrimSuffix(p.url, "/") + "/jwks"})
	case "/jwks":
		return http.StatusOK, encode(jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey{}, p.keys...)})
	}
	return http.StatusNotFound, ""
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

type claims = map[string]any

// with is c with some claims set; nil takes one away.
func with(c, other claims) claims {
	c = maps.Clone(c)
	for name, value := range other {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// sign makes a token.
func sign(alg jose.SignatureAlgorithm, key any, header, c claims) string {
	return signText(alg, key, header, encode(c))
}

func signText(alg jose.SignatureAlgorithm, key any, header claims, payload string) string {
	options := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, value := range header {
		options.ExtraHeaders[jose.HeaderKey(name)] = value
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		panic(err)
	}
	signed, err := s.Sign([]byte(payload))
	if err != nil {
		panic(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

// raw makes a token of any header and a signature of any bytes.
func raw(header, payload string, signature []byte) string {
	b := base64.RawURLEncoding
	return b.EncodeToString([]byte(header)) + "." + b.EncodeToString([]byte(payload)) + "." + b.EncodeToString(signature)
}

func bearer(token string) *http.Request {
	return &http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}
}

func password(user, token string) *http.Request {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, token)
	return r
}

// good are the claims of a token that counts.
func good(issuer string) claims {
	now := float64(time.Now().Unix())
	return claims{"iss": issuer, "aud": "weir", "sub": "ann", "groups": []string{"dev", "ops"}, "iat": now, "exp": now + 300}
}

func of(p *provider, name string) Provider {
	return Provider{Name: name, Issuer: p.url, Audience: "weir", GroupsClaim: "groups", Leeway: time.Minute, Transport: p}
}

func newAuthenticator(t *testing.T, outage func(string, error), providers ...Provider) *Authenticator {
	t.Helper()
	a, err := New(providers, outage)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// outcome puts what became of a token into a word.
func outcome(err error) string {
	_, refused := errors.AsType[*Refused](err)
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, authz.ErrUnavailable):
		return "unavailable"
	case refused && errors.Is(err, authz.ErrNone):
		return "refused"
	case errors.Is(err, authz.ErrNone):
		return "none"
	}
	return err.Error()
}
