package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/weir-registry/weir/authz"
)

// exchanged is what a provider was asked for a code.
type exchanged struct {
	form url.Values
	user string
	pass string
}

// newLoginRig is a provider that gives answer for any code, and a Login with it.
func newLoginRig(t *testing.T, change func(*Provider, *Client, map[string]string), answer func() (int, string)) (*Login, *exchanged) {
	t.Helper()
	p, asked := newProvider("https://op.example", public("1", someKeys().rsa.Public())), &exchanged{}
	document := map[string]string{
		"issuer": p.url, "jwks_uri": p.url + "/jwks", "authorization_endpoint": p.url + "/auth?tenant=1", "token_endpoint": p.url + "/token",
	}
	provider, client := of(p, "corp"), Client{ID: "ui", Secret: func() (string, error) { return "s:ecret", nil }, Scopes: []string{"groups"}}
	if change != nil {
		change(&provider, &client, document)
	}
	p.serve = func(r *http.Request, path string) (int, string) {
		switch {
		case path == wellKnown:
			return http.StatusOK, encode(document)
		case r.Method == http.MethodPost:
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			asked.form = r.PostForm
			asked.user, asked.pass, _ = r.BasicAuth()
			return answer()
		}
		return 0, ""
	}
	l, err := NewLogin(provider, client, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, asked
}

// A browser is sent with a question that only we can have the answer to, and what comes of
// the code is who signed in.
func TestLogin(t *testing.T) {
	claim := with(good("https://op.example"), claims{"aud": "ui", "nonce": "n1"})
	l, asked := newLoginRig(t, nil, func() (int, string) {
		return http.StatusOK, encode(map[string]any{"access_token": "x", "id_token": sign(jose.RS256, someKeys().rsa, claims{"kid": "1"}, claim)})
	})
	at, err := l.Begin(t.Context(), "https://weir.example/ui/login/callback", "s1", "n1", "v1")
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("v1"))
	want := url.Values{
		"tenant": {"1"}, "response_type": {"code"}, "client_id": {"ui"}, "redirect_uri": {"https://weir.example/ui/login/callback"}, "scope": {"openid groups"},
		"state": {"s1"}, "nonce": {"n1"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	if to.Host != "op.example" || to.Path != "/auth" || !maps.EqualFunc(to.Query(), want, slices.Equal) {
		t.Errorf("sent to %s", at)
	}
	who, err := l.Finish(t.Context(), "https://weir.example/ui/login/callback", "c1", "n1", "v1")
	if err != nil || who.ID != "oidc:corp:ann" || !slices.Equal(who.Groups, []string{"dev", "ops"}) || who.Method != authz.MethodOIDC {
		t.Errorf("%v, %v", who, err)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {"c1"}, "redirect_uri": {"https://weir.example/ui/login/callback"}, "code_verifier": {"v1"}}
	if !maps.EqualFunc(asked.form, form, slices.Equal) || asked.user != "ui" || asked.pass != "s%3Aecret" {
		t.Errorf("bought with %v", asked)
	}
}

func TestLoginRefused(t *testing.T) {
	fine := with(good("https://op.example"), claims{"aud": "ui", "nonce": "n1"})
	token := func(c claims) string { return sign(jose.RS256, someKeys().rsa, claims{"kid": "1"}, c) }
	answer := func(id any) string { return encode(map[string]any{"id_token": id}) }
	for what, c := range map[string]struct {
		status int
		body   string
		err    error
	}{
		"another nonce":      {200, answer(token(with(fine, claims{"nonce": "n2"}))), authz.ErrRejected},
		"no nonce":           {200, answer(token(with(fine, claims{"nonce": nil}))), authz.ErrRejected},
		"another audience":   {200, answer(token(with(fine, claims{"aud": "weir"}))), authz.ErrRejected},
		"another issuer":     {200, answer(token(with(fine, claims{"iss": "https://evil.example"}))), authz.ErrRejected},
		"expired":            {200, answer(token(with(fine, claims{"exp": 1000.}))), authz.ErrRejected},
		"another key":        {200, answer(sign(jose.RS256, someKeys().rsa2, claims{"kid": "1"}, fine)), authz.ErrRejected},
		"no token":           {200, `{}`, authz.ErrRejected},
		"a token of no kind": {200, answer(7), authz.ErrRejected},
		"not JSON":           {200, `<html>`, authz.ErrRejected},
		"twice":              {200, `{"id_token":"a","id_token":"b"}`, authz.ErrRejected},
		"refused":            {400, `{"error":"invalid_grant"}`, authz.ErrRejected},
		"led elsewhere":      {302, ``, authz.ErrRejected},
		"broken":             {503, `{}`, authz.ErrUnavailable},
	} {
		l, _ := newLoginRig(t, nil, func() (int, string) { return c.status, c.body })
		who, err := l.Finish(t.Context(), "https://weir.example/cb", "c1", "n1", "v1")
		if !errors.Is(err, c.err) || who.ID != "" {
			t.Errorf("%s: %q, %v", what, who.ID, err)
		}
		if err != nil && strings.Contains(err.Error(), "ecret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The secret goes to where the issuer's own document says, in a form where that is another
// host; a public client has none; and nothing leads from https to http.
func TestLoginEndpoints(t *testing.T) {
	none := func() (int, string) { return http.StatusBadRequest, "{}" }
	l, asked := newLoginRig(t, func(_ *Provider, _ *Client, d map[string]string) {
		d["token_endpoint"] = "https://tokens.example/token"
	}, none)
	if _, err := l.Finish(t.Context(), "https://weir.example/cb", "c1", "n1", "v1"); !errors.Is(err, authz.ErrRejected) || asked.user != "" ||
		asked.form.Get("client_id") != "ui" || asked.form.Get("client_secret") != "s:ecret" {
		t.Errorf("elsewhere: %v, %v", asked, err)
	}
	l, asked = newLoginRig(t, func(_ *Provider, c *Client, _ map[string]string) { c.Secret = nil }, none)
	if _, err := l.Finish(t.Context(), "https://weir.example/cb", "c1", "n1", "v1"); !errors.Is(err, authz.ErrRejected) || asked.user != "" ||
		asked.form.Get("client_id") != "ui" || asked.form.Has("client_secret") {
		t.Errorf("public: %v, %v", asked, err)
	}
	for _, name := range []string{"token_endpoint", "authorization_endpoint", "issuer"} {
		for _, at := range []string{"http://op.example/x", "", "javascript:alert(1)", "https://user@op.example/x"} {
			l, _ := newLoginRig(t, func(_ *Provider, _ *Client, d map[string]string) { d[name] = at }, none)
			if to, err := l.Begin(t.Context(), "https://weir.example/cb", "s1", "n1", "v1"); !errors.Is(err, authz.ErrUnavailable) || to != "" {
				t.Errorf("%s %q: %q, %v", name, at, to, err)
			}
		}
	}
}

// Whoever begins to sign in while the provider is away has it asked once a second, however
// many they are; and who has gone spoils it for nobody.
func TestLoginWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newLoginRig(t, func(_ *Provider, _ *Client, d map[string]string) { d["issuer"] = "" }, nil)
		asked := 0
		inner := l.source.client.Transport
		l.source.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			asked++
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return inner.RoundTrip(r)
		})
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.Begin(gone, "https://weir.example/cb", "s1", "n1", "v1"); err == nil || asked != 1 {
			t.Errorf("asked %d times: %v", asked, err)
		}
		for round := range 3 {
			for range 50 {
				if _, err := l.Begin(t.Context(), "https://weir.example/cb", "s1", "n1", "v1"); !errors.Is(err, authz.ErrUnavailable) {
					t.Error(err)
				}
			}
			if asked != round+2 {
				t.Errorf("asked %d times in round %d", asked, round)
			}
			time.Sleep(time.Second)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
