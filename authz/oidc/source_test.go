package oidc

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// zeros are a body without an end.
type zeros struct{ read int64 }

func (z *zeros) Read(p []byte) (int, error) { z.read += int64(len(p)); clear(p); return len(p), nil }
func (*zeros) Close() error                 { return nil }

type endless struct {
	*provider
	at   string
	body zeros
}

func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.provider.RoundTrip(r)
	if err == nil && r.URL.Path == e.at {
		resp.Body = &e.body
	}
	return resp, err
}

// CVE-2023-25153 (containerd), CVE-2024-29893 (argo): of a document no more is read
// than it may have.
func TestDocumentsWithoutAnEnd(t *testing.T) {
	for at, most := range map[string]int64{"/.well-known/openid-configuration": 64 << 10, "/jwks": 1 << 20} {
		p := newProvider("https://op.example")
		e := &endless{provider: p, at: at}
		o := of(p, "corp")
		o.Transport = e
		a := newAuthenticator(t, nil, o)
		_, err := a.Authenticate(bearer(raw(`{"alg":"RS256","kid":"1"}`, encode(good(p.url)), []byte("x"))))
		if outcome(err) != "unavailable" || !strings.Contains(err.Error(), fmt.Sprint("larger than ", most)) {
			t.Errorf("%s: %v", at, err)
		}
		if e.body.read < most || e.body.read > most+512<<10 {
			t.Errorf("%s: %d bytes were read", at, e.body.read)
		}
	}
}

// A document that is not what it should be is an outage, whatever it says.
func TestBadDocuments(t *testing.T) {
	const issuer = "https://op.example"
	for name, test := range map[string]struct{ discovery, jwks, want string }{
		"of another issuer":     {`{"issuer":"https://evil.example","jwks_uri":"https://op.example/jwks"}`, "", "another issuer's"},
		"of a similar one":      {`{"issuer":"https://op.example/","jwks_uri":"https://op.example/jwks"}`, "", "another issuer's"},
		"of none":               {`{"jwks_uri":"https://op.example/jwks"}`, "", "another issuer's"},
		"in capitals":           {`{"ISSUER":"https://op.example","jwks_uri":"https://op.example/jwks"}`, "", "another issuer's"},
		"without keys":          {`{"issuer":"https://op.example"}`, "", "no URL"},
		"keys on a path":        {`{"issuer":"https://op.example","jwks_uri":"/jwks"}`, "", "no URL"},
		"keys in a file":        {`{"issuer":"https://op.example","jwks_uri":"file:///etc/passwd"}`, "", "no URL"},
		"keys with credentials": {`{"issuer":"https://op.example","jwks_uri":"https://u:hunter2@op.example/jwks"}`, "", "no URL"},
		"keys in the clear":     {`{"issuer":"https://op.example","jwks_uri":"http://op.example/jwks"}`, "", "from https to http"},
		"keys twice":            {`{"issuer":"https://op.example","jwks_uri":"https://op.example/jwks","jwks_uri":"https://evil.example"}`, "", "not a JSON object"},
		"a page":                {`<html>`, "", "not a JSON object"},
		"nothing":               {``, "", "not a JSON object"},
		"keys that are a page":  {"", `<html>`, "not a set"},
		"keys without keys":     {"", `{}`, "not a set"},
		"keys that are null":    {"", `{"keys":null}`, "not a set"},
		"keys that are a key":   {"", `{"kty":"RSA"}`, "not a set"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(issuer)
			p.serve = func(_ *http.Request, path string) (int, string) {
				switch {
				case path == "/jwks" && test.jwks != "":
					return http.StatusOK, test.jwks
				case path != "/jwks" && test.jwks == "":
					return http.StatusOK, test.discovery
				}
				return 0, ""
			}
			a := newAuthenticator(t, nil, of(p, "corp"))
			_, err := a.Authenticate(bearer(raw(`{"alg":"RS256","kid":"1"}`, encode(good(issuer)), []byte("x"))))
			if outcome(err) != "unavailable" || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Error(err)
			}
		})
	}
	for _, status := range []int{http.StatusFound, http.StatusNotFound, http.StatusInternalServerError, http.StatusNoContent} {
		p := newProvider(issuer)
		p.serve = func(*http.Request, string) (int, string) { return status, "{}" }
		a := newAuthenticator(t, nil, of(p, "corp"))
		_, err := a.Authenticate(bearer(raw(`{"alg":"RS256","kid":"1"}`, encode(good(issuer)), []byte("x"))))
		if outcome(err) != "unavailable" {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

// Where jwks_uri is configured, nothing is discovered.
func TestConfiguredKeys(t *testing.T) {
	k := someKeys()
	p := newProvider("https://op.example", public("1", &k.rsa.PublicKey))
	o := of(p, "corp")
	o.JWKSURI = p.url + "/jwks"
	a := newAuthenticator(t, nil, o)
	if _, err := a.Authenticate(bearer(sign(jose.RS256, k.rsa, claims{"kid": "1"}, good(p.url)))); err != nil {
		t.Error(err)
	}
	if got := p.requests(); got != "/jwks" {
		t.Errorf("asked for %q", got)
	}
}

// Keys that are for something else, or not understood, do not spoil a set.
func TestSets(t *testing.T) {
	k := someKeys()
	one := encode(public("1", &k.rsa.PublicKey))
	private := encode(jose.JSONWebKey{Key: k.rsa2, KeyID: "1"})
	s, err := parseSet([]byte(`{"keys":[` + strings.Join([]string{
		`{"kty":"oct","k":"AAAA","kid":"1"}`, `{"kty":"OKP","crv":"Ed448","x":"AA","kid":"1"}`, `{"kty":"new"}`, `7`, `null`, `{}`,
		`{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"1"}`, private, one, encode(public("1", &k.ec.PublicKey)),
	}, ",") + `]}`))
	if err != nil || len(s.keys) != 2 {
		t.Fatal(s, err)
	}
	for want, ask := range map[int][][2]string{
		1: {{"1", "RS256"}, {"1", "PS512"}, {"1", "ES256"}, {"", "RS256"}},
		0: {{"2", "RS256"}, {"1", "HS256"}, {"1", "EdDSA"}, {"1", ""}, {"", "none"}},
	} {
		for _, a := range ask {
			if got := len(s.find(a[0], a[1])); got != want {
				t.Errorf("%q: %d keys, want %d", a, got, want)
			}
		}
	}
}
