package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/weir-registry/weir/authz"
)

// A token counts as Bearer, and as the password of any user; who it is for is what it
// says.
func TestWhoItIsFor(t *testing.T) {
	k := someKeys()
	p := newProvider("https://op.example/", public("1", &k.rsa.PublicKey))
	a := newAuthenticator(t, nil, of(p, "corp"))
	c := with(good(p.url), claims{"nested": claims{"a": []any{1, true, nil}}, "aud": []string{"other", "weir"}})
	token := sign(jose.RS256, k.rsa, claims{"kid": "1", "typ": "JWT"}, c)
	want := authz.Identity{
		ID: "oidc:corp:ann", Username: "ann", Groups: []string{"dev", "ops"}, Method: authz.MethodOIDC,
		OIDC: authz.OIDC{Provider: "corp", Subject: "ann", Claims: map[string]any{
			"iss": p.url, "aud": []any{"other", "weir"}, "sub": "ann", "groups": []any{"dev", "ops"},
			"iat": c["iat"], "exp": c["exp"], "nested": map[string]any{"a": []any{1.0, true, nil}},
		}}.Summed(),
	}
	lower := bearer(token)
	lower.Header.Set("Authorization", "bearer   "+token)
	for name, r := range map[string]*http.Request{
		"bearer": bearer(token), "in other words": lower,
		"basic": password("ann", token), "of another": password("bob", token), "of nobody": password("", token),
	} {
		if who, err := a.Authenticate(r); err != nil || !reflect.DeepEqual(who, want) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	if got, want := p.requests(), "/.well-known/openid-configuration /jwks"; got != want {
		t.Errorf("the provider was asked for %q, want %q", got, want)
	}
	two := bearer(token)
	two.Header.Add("Authorization", "Bearer x")
	for name, r := range map[string]*http.Request{
		"nothing": {Header: http.Header{}}, "two": two, "another scheme": {Header: http.Header{"Authorization": {"Digest " + token}}},
		"a password": password("ann", "secret"), "one with dots": password("ann", "a.b.c"), "a user name": password(token, "x"),
		"no space": {Header: http.Header{"Authorization": {"Bearer" + token}}}, "garbage": {Header: http.Header{"Authorization": {"Basic %%%"}}},
	} {
		if _, err := a.Authenticate(r); err != authz.ErrNone {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The chain rejects what this refuses.
func TestRefusedIsRejected(t *testing.T) {
	k := someKeys()
	p := newProvider("https://op.example", public("1", &k.rsa.PublicKey))
	a := newAuthenticator(t, nil, of(p, "corp"))
	bad := sign(jose.RS256, k.rsa, claims{"kid": "1"}, with(good(p.url), claims{"sub": nil}))
	if _, err := a.Authenticate(bearer(bad)); outcome(err) != "refused" || strings.Contains(err.Error(), bad) {
		t.Error(err)
	}
	if _, err := (authz.Chain{a}).Authenticate(password("ann", bad)); !errors.Is(err, authz.ErrRejected) {
		t.Error(err)
	}
}

func TestClaims(t *testing.T) {
	now := float64(time.Now().Unix())
	for name, test := range map[string]struct {
		provider Provider // what differs
		claims   claims
		username string // "" = refused
		groups   string
	}{
		"username_claim":              {Provider{UsernameClaim: "email"}, claims{"email": "a@b.c"}, "a@b.c", "dev,ops"},
		"none of it":                  {Provider{UsernameClaim: "email"}, nil, "", ""},
		"no text":                     {Provider{UsernameClaim: "email"}, claims{"email": []string{"a@b.c"}}, "", ""},
		"a single group":              {Provider{}, claims{"groups": "dev"}, "ann", "dev"},
		"no groups":                   {Provider{}, claims{"groups": nil}, "ann", ""},
		"other groups":                {Provider{GroupsClaim: "https://corp/roles"}, claims{"https://corp/roles": []string{"r"}}, "ann", "r"},
		"groups that are none":        {Provider{}, claims{"groups": []any{"dev", 7}}, "", ""},
		"groups by name":              {Provider{}, claims{"groups": claims{"dev": true}}, "", ""},
		"an empty group":              {Provider{}, claims{"groups": []any{""}}, "", ""},
		"too many groups":             {Provider{}, claims{"groups": nil, "_claim_names": claims{"groups": "s"}, "_claim_sources": claims{"s": claims{"endpoint": "https://x"}}}, "", ""},
		"required":                    {Provider{RequiredClaims: []Claim{{"hd", ""}, {"groups", "ops"}, {"email_verified", "true"}, {"n", "7"}}}, claims{"hd": "x", "email_verified": true, "n": 7}, "ann", "dev,ops"},
		"required and not there":      {Provider{RequiredClaims: []Claim{{"hd", ""}}}, nil, "", ""},
		"required and null":           {Provider{RequiredClaims: []Claim{{"hd", ""}}}, claims{"hd": (*int)(nil)}, "", ""},
		"required and another":        {Provider{RequiredClaims: []Claim{{"hd", "corp"}}}, claims{"hd": "corp.evil"}, "", ""},
		"required and not among them": {Provider{RequiredClaims: []Claim{{"groups", "admin"}}}, nil, "", ""},
		"required and only alike":     {Provider{RequiredClaims: []Claim{{"hd", "map[a:1]"}}}, claims{"hd": claims{"a": 1}}, "", ""},
		"expired within the leeway":   {Provider{}, claims{"exp": now - 30}, "ann", "dev,ops"},
		"expired beyond it":           {Provider{}, claims{"exp": now - 61}, "", ""},
		"fractions of seconds":        {Provider{}, claims{"exp": now + 0.5, "iat": now - 0.5}, "ann", "dev,ops"},
		"for ever":                    {Provider{}, claims{"exp": 1e18}, "ann", "dev,ops"},
		"nbf within the leeway":       {Provider{}, claims{"nbf": now + 30}, "ann", "dev,ops"},
		"without iat":                 {Provider{}, claims{"iat": nil}, "ann", "dev,ops"},
		"no kid, one key":             {Provider{}, claims{"kid": "none"}, "ann", "dev,ops"},
	} {
		t.Run(name, func(t *testing.T) {
			k := someKeys()
			p := newProvider("https://op.example", public("1", &k.rsa.PublicKey), public("2", &k.ec.PublicKey))
			o := of(p, "corp")
			o.UsernameClaim, o.RequiredClaims = test.provider.UsernameClaim, test.provider.RequiredClaims
			if test.provider.GroupsClaim != "" {
				o.GroupsClaim = test.provider.GroupsClaim
			}
			header := claims{"kid": "1"}
			if test.claims["kid"] != nil {
				header = nil
			}
			a := newAuthenticator(t, nil, o)
			who, err := a.Authenticate(bearer(sign(jose.RS256, k.rsa, header, with(good(p.url), test.claims))))
			want := "accepted"
			if test.username == "" {
				want = "refused"
			}
			if outcome(err) != want || who.Username != test.username || strings.Join(who.Groups, ",") != test.groups {
				t.Errorf("%q, groups %q, %v", who.Username, who.Groups, err)
			}
		})
	}
}

// All algorithms that may be listed verify what is signed with them, and no other one.
func TestAlgorithms(t *testing.T) {
	k := someKeys()
	keys := map[string]any{"RS": k.rsa, "PS": k.rsa, "ES": k.ec, "Ed": k.ed}
	p := newProvider("https://op.example", public("RS", &k.rsa.PublicKey), public("PS", &k.rsa.PublicKey), public("ES", &k.ec.PublicKey), public("Ed", k.ed.Public()))
	for _, listed := range Algorithms() {
		o := of(p, "corp")
		o.Algorithms = []string{listed}
		a := newAuthenticator(t, nil, o)
		for _, alg := range Algorithms() {
			if alg == "ES384" || alg == "ES512" { // for keys on other curves
				continue
			}
			token := sign(jose.SignatureAlgorithm(alg), keys[alg[:2]], claims{"kid": alg[:2]}, good(p.url))
			want := "refused"
			if alg == listed {
				want = "accepted"
			}
			if _, err := a.Authenticate(bearer(token)); outcome(err) != want {
				t.Errorf("%s where %s is listed: %v", alg, listed, err)
			}
		}
	}
}

func TestIncompleteProviders(t *testing.T) {
	p := newProvider("https://op.example")
	for name, change := range map[string]func(*Provider){
		"no name": func(o *Provider) { o.Name = "" }, "a colon": func(o *Provider) { o.Name = "a:b" },
		"no issuer": func(o *Provider) { o.Issuer = "" }, "no audience": func(o *Provider) { o.Audience = "" },
		"no transport": func(o *Provider) { o.Transport = nil },
		"HS256":        func(o *Provider) { o.Algorithms = []string{"RS256", "HS256"} },
		"none":         func(o *Provider) { o.Algorithms = []string{"none"} },
	} {
		o := of(p, "corp")
		change(&o)
		if _, err := New([]Provider{o}, nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	other := of(p, "other")
	if _, err := New([]Provider{of(p, "corp"), other}, nil); err == nil {
		t.Error("two of one issuer are taken")
	}
	other.Name, other.Issuer = "corp", "https://other.example"
	if _, err := New([]Provider{of(p, "corp"), other}, nil); err == nil {
		t.Error("two of one name are taken")
	}
	for _, s := range []string{"", "=x", "hd="} {
		if _, err := ParseClaim(s); err == nil {
			t.Errorf("%q is a claim", s)
		}
	}
	if c, err := ParseClaim("a=b=c"); err != nil || c != (Claim{"a", "b=c"}) {
		t.Error(c, err)
	}
}

// CVE-2025-23208 (zot): groups are those of the token that is shown, and of no earlier
// one.
func TestRevokedGroups(t *testing.T) {
	k := someKeys()
	p := newProvider("https://op.example", public("1", &k.rsa.PublicKey))
	a := newAuthenticator(t, nil, of(p, "corp"))
	for range 3 {
		for _, groups := range [][]string{{"a", "b"}, {"b"}, nil, {"c"}} {
			who, err := a.Authenticate(bearer(sign(jose.RS256, k.rsa, claims{"kid": "1"}, with(good(p.url), claims{"groups": groups}))))
			if err != nil || fmt.Sprint(who.Groups) != fmt.Sprint(groups) {
				t.Errorf("%v: %v, %v", groups, who.Groups, err)
			}
		}
	}
}
