package token_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/token"
)

// secret is a key for HMAC.
const secret = "0123456789abcdef0123456789abcdef"

// keys gives one key of each kind, as people write them.
func keys(t testing.TB) map[string]string {
	t.Helper()
	_, ed, err1 := ed25519.GenerateKey(rand.Reader)
	r, err2 := rsa.GenerateKey(rand.Reader, 2048)
	p256, err3 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err4 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, err5 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ec, err := x509.MarshalECPrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"HMAC":    secret,
		"RSA":     pkcs8(t, r),
		"PKCS1":   string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(r)})),
		"Ed25519": pkcs8(t, ed),
		"P-256":   pkcs8(t, p256),
		"SEC1":    string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})),
		"P-384":   pkcs8(t, p384),
		"P-521":   pkcs8(t, p521),
	}
}

func pkcs8(t testing.TB, key crypto.Signer) string {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

// fixed is a key that stays.
func fixed(t testing.TB, text string) token.Source {
	t.Helper()
	k, err := token.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(context.Context) (*token.Key, error) { return k, nil }
}

func issuer(t testing.TB) *token.Issuer {
	t.Helper()
	return token.New("weir", token.LeastTTL, fixed(t, secret))
}

// somebody is an Identity that has everything.
func somebody() authz.Identity {
	return authz.Identity{
		ID: "oidc:github:1", Username: "ann", Groups: []string{"dev", "ops"}, Method: authz.MethodOIDC,
		Certificate: &authz.Certificate{CommonName: "ann", Organizations: []string{"corp"}, DNSNames: []string{"a.corp"}, URIs: []string{"spiffe://corp/ann"}},
		OIDC:        &authz.OIDC{Provider: "github", Subject: "1", Claims: map[string]any{"repository": "corp/app", "run": 7.0, "list": []any{"a", true, nil}}},
	}
}

func pullOf(names ...string) authz.Scope {
	s := authz.Scope{}
	for _, name := range names {
		s = append(s, authz.Grant{Type: "repository", Name: name, Actions: []string{"pull"}})
	}
	return s
}

// bearer is a request with a token.
func bearer(token string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}
