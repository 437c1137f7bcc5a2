//go:build conformance

package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/oidc"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// newTokens verifies tokens of issuers, as cmd/weir has it.
func newTokens(t *testing.T, names []string, issuers []string, change func(*oidc.Provider)) *oidc.Authenticator {
	t.Helper()
	var providers []oidc.Provider
	for i, issuer := range issuers {
		u, err := url.Parse(issuer)
		if err != nil {
			t.Fatal(err)
		}
		client := egress.New(egress.Options{URL: u})
		t.Cleanup(client.Close)
		p := oidc.Provider{Name: names[i], Issuer: issuer, Audience: "weir", GroupsClaim: "groups", Leeway: time.Minute, Transport: client}
		if change != nil {
			change(&p)
		}
		providers = append(providers, p)
	}
	a, err := oidc.New(providers, func(provider string, err error) { t.Errorf("%s: %v", provider, err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// show shows a token in both ways; what becomes of it is the same.
func show(t *testing.T, a *oidc.Authenticator, token string) (authz.Identity, error) {
	t.Helper()
	var who [2]authz.Identity
	var errs [2]error
	for i, header := range []string{"Bearer " + token, "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+token))} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://weir.invalid/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
		who[i], errs[i] = authz.Chain{a}.Authenticate(r)
	}
	if who[0].ID != who[1].ID || (errs[0] == nil) != (errs[1] == nil) {
		t.Errorf("as Bearer it is for %q (%v), as a password for %q (%v)", who[0].ID, errs[0], who[1].ID, errs[1])
	}
	return who[0], errs[0]
}

func expectWho(t *testing.T, what string, a *oidc.Authenticator, token, id, username, groups string) {
	t.Helper()
	who, err := show(t, a, token)
	if err != nil || who.ID != id || who.Username != username || strings.Join(who.Groups, ",") != groups || who.Method != authz.MethodOIDC {
		t.Errorf("%s: %s, %q, groups %q, %v", what, who.ID, who.Username, who.Groups, err)
	}
}

func expectRejected(t *testing.T, what string, a *oidc.Authenticator, token string) {
	t.Helper()
	if who, err := show(t, a, token); !errors.Is(err, authz.ErrRejected) {
		t.Errorf("%s: for %q, %v", what, who.ID, err)
	}
}

// TestProvidersCertified: oidc-provider, as it is certified, signs a person in by the
// code flow and gives machines access tokens that are JWTs.
func TestProvidersCertified(t *testing.T) {
	op := startIssuers(t, "provider.mjs").Issuers[0]
	a := newTokens(t, []string{"corp"}, []string{op}, func(p *oidc.Provider) { p.UsernameClaim = "email" })
	signedIn := codeFlow(t, op, "weir", "ann")
	expectWho(t, "ID token", a, signedIn.IDToken, "oidc:corp:ann", "ann@corp.example", "dev,ops")
	expectRejected(t, "an access token that is no JWT", a, signedIn.AccessToken)
	expectRejected(t, "ID token for another client", a, codeFlow(t, op, "other", "ann").IDToken)

	machines := newTokens(t, []string{"corp"}, []string{op}, nil)
	expectWho(t, "access token", machines, clientCredentials(t, op, "https://weir.example"), "oidc:corp:ci", "ci", "")
	expectRejected(t, "access token for another resource", machines, clientCredentials(t, op, "https://other.example"))
	expectRejected(t, "access token without the username_claim", a, clientCredentials(t, op, "https://weir.example"))
}

// tokenAnswer is what a token endpoint gives (RFC 6749, 5.1).
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	IDToken     string `json:"id_token"`
}

func clientCredentials(t *testing.T, op, resource string) string {
	t.Helper()
	return buy(t, op, "ci", url.Values{"grant_type": {"client_credentials"}, "resource": {resource}, "scope": {"pull"}}).AccessToken
}

// buy asks the token endpoint.
func buy(t *testing.T, op, client string, form url.Values) tokenAnswer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, op+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(client, "secret")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer tokenAnswer
	if status, body := do(t, http.DefaultClient, req); status.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil {
		t.Fatalf("%s: %s\n%s", req.URL, status.Status, body)
	}
	return answer
}

func do(t *testing.T, client *http.Client, req *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // what counts was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// codeFlow does what a browser would for a person who signs in and consents, and what
// the client does with the code.
func codeFlow(t *testing.T, op, client, user string) tokenAnswer {
	t.Helper()
	const callback = "https://client.example/callback"
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	at := op + "/auth?" + url.Values{"client_id": {client}, "response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {callback}}.Encode()
	prompts := []url.Values{{"prompt": {"login"}, "login": {user}, "password": {"x"}}, {"prompt": {"consent"}}}
	for range 20 {
		method, body := http.MethodGet, ""
		if strings.Contains(at, "/interaction/") && len(prompts) > 0 {
			method, body = http.MethodPost, prompts[0].Encode()
			prompts = prompts[1:]
		}
		req, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, text := do(t, browser, req)
		to, err := resp.Location()
		if err != nil {
			t.Fatalf("%s %s: %s\n%s", method, at, resp.Status, text)
		}
		if at = to.String(); strings.HasPrefix(at, callback) {
			return buy(t, op, client, url.Values{"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {callback}})
		}
	}
	t.Fatal("the provider leads on and on")
	return tokenAnswer{}
}

// TestProvidersMocked: what oauth2-mock-server signs on demand, as GitHub Actions does
// and as nobody should.
func TestProvidersMocked(t *testing.T) {
	m := startIssuers(t, "mock.mjs")
	post := func(order map[string]any) string {
		t.Helper()
		body, err := json.Marshal(order)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.Control, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, text := do(t, http.DefaultClient, req)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%v: %s", order, text)
		}
		return string(text)
	}
	now := time.Now().Unix()
	github := map[string]any{
		"iss": m.Issuers[0], "aud": "weir", "sub": "repo:acme/app:ref:refs/heads/main", "iat": now, "nbf": now - 5, "exp": now + 300,
		"jti": "a1", "repository": "acme/app", "repository_owner": "acme", "repository_id": "74", "ref": "refs/heads/main", "ref_type": "branch",
		"actor": "octocat", "workflow": "push", "event_name": "push", "run_id": "1", "runner_environment": "github-hosted",
	}
	// token signs these claims, with changes, by a key of an issuer.
	token := func(issuer int, kid string, changes map[string]any) string {
		claims := maps.Clone(github)
		maps.Copy(claims, changes)
		return post(map[string]any{"issuer": issuer, "kid": kid, "header": map[string]any{}, "claims": claims})
	}
	a := newTokens(t, []string{"github", "other"}, m.Issuers, nil)

	expectWho(t, "GitHub Actions", a, token(0, "1", nil), "oidc:github:repo:acme/app:ref:refs/heads/main", "repo:acme/app:ref:refs/heads/main", "")
	if who, err := show(t, a, token(0, "1", nil)); err != nil || who.OIDC.Claims["repository"] != "acme/app" || who.OIDC.Provider != "github" {
		t.Errorf("its claims: %+v, %v", who.OIDC, err)
	}
	expectWho(t, "the same subject elsewhere", a, token(1, "1", map[string]any{"iss": m.Issuers[1]}), "oidc:other:repo:acme/app:ref:refs/heads/main", "repo:acme/app:ref:refs/heads/main", "")

	for what, bad := range map[string]string{
		"signed by the other, same kid":     token(1, "1", nil),
		"naming the other":                  token(0, "1", map[string]any{"iss": m.Issuers[1]}),
		"of an issuer that is not known":    token(0, "1", map[string]any{"iss": "https://token.actions.githubusercontent.com"}),
		"expired":                           token(0, "1", map[string]any{"exp": now - 61}),
		"to come":                           token(0, "1", map[string]any{"nbf": now + 3600}),
		"for another audience":              token(0, "1", map[string]any{"aud": "sigstore"}),
		"for no audience":                   token(0, "1", map[string]any{"aud": nil}),
		"without a subject":                 token(0, "1", map[string]any{"sub": nil}),
		"by an algorithm that is not named": token(0, "ec", nil),
		"a logout token":                    post(map[string]any{"issuer": 0, "kid": "1", "header": map[string]any{"typ": "logout+jwt"}, "claims": github}),
		"a kid that was made up":            post(map[string]any{"issuer": 0, "kid": "1", "header": map[string]any{"kid": "2"}, "claims": github}),
	} {
		expectRejected(t, what, a, bad)
	}
	good := token(0, "1", nil)
	forged := strings.Split(good, ".")
	forged[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(decode(t, forged[1]), "acme/app:ref", "acme/prod:ref", 1)))
	expectRejected(t, "with another payload", a, strings.Join(forged, "."))
	elliptic := newTokens(t, []string{"github"}, m.Issuers[:1], func(p *oidc.Provider) { p.Algorithms = []string{"ES256"} })
	expectWho(t, "by an elliptic curve", elliptic, token(0, "ec", nil), "oidc:github:repo:acme/app:ref:refs/heads/main", "repo:acme/app:ref:refs/heads/main", "")
	expectRejected(t, "by RS256 where that is not named", elliptic, token(0, "1", nil))

	post(map[string]any{"issuer": 0, "generate": "2"})
	rotated := token(0, "2", nil)
	expectRejected(t, "by a new key within a minute of the last fetch", a, rotated)
	later := newTokens(t, []string{"github"}, m.Issuers[:1], nil)
	expectWho(t, "by a new key", later, rotated, "oidc:github:repo:acme/app:ref:refs/heads/main", "repo:acme/app:ref:refs/heads/main", "")
	expectWho(t, "by the old one beside it", later, good, "oidc:github:repo:acme/app:ref:refs/heads/main", "repo:acme/app:ref:refs/heads/main", "")
}

func decode(t *testing.T, part string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
