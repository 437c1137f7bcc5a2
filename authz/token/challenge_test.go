package token_test

import (
	"context"
	"crypto/tls"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/token"
)

func TestChallenge(t *testing.T) {
	base := func(s string) func(context.Context) string { return func(context.Context) string { return s } }
	push := authz.Needs(authz.Access{Action: authz.Push, Repository: "team/app"})
	for name, test := range map[string]struct {
		c       token.Challenge
		needs   authz.Scope
		lacking bool
		want    string
	}{
		"login":         {token.Challenge{"weir", true, base("https://weir.corp")}, nil, false, `Bearer realm="https://weir.corp/token",service="weir"`},
		"push":          {token.Challenge{"weir", true, base("https://weir.corp")}, push, false, `Bearer realm="https://weir.corp/token",service="weir",scope="repository:team/app:pull,push"`},
		"lacking":       {token.Challenge{"weir", true, base("http://a:5000")}, push, true, `Bearer realm="http://a:5000/token",service="weir",scope="repository:team/app:pull,push",error="insufficient_scope"`},
		"the catalog":   {token.Challenge{"weir", true, base("http://a")}, authz.Needs(authz.Access{Action: authz.List}), false, `Bearer realm="http://a/token",service="weir",scope="registry:catalog:*"`},
		"no tokens":     {token.Challenge{"weir", false, nil}, push, false, `Basic realm="weir",charset="UTF-8"`},
		"no address":    {token.Challenge{"weir", true, base("")}, push, false, `Basic realm="weir",charset="UTF-8"`},
		"another realm": {token.Challenge{`The "Corp" \ Registry` + "\r\nX: y", false, nil}, nil, false, `Basic realm="The \"Corp\" \\ RegistryX: y",charset="UTF-8"`},
	} {
		if got := test.c.Headers(t.Context(), test.needs, test.lacking); !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestBase(t *testing.T) {
	for host, want := range map[string]string{
		"weir.corp":      "http://weir.corp",
		"WEIR.corp:5000": "http://WEIR.corp:5000",
		"[::1]:5000":     "http://[::1]:5000",
		"":               "",
		`a",b="c`:        "",
		"a/b":            "",
		"a@b":            "",
		"a b":            "",
		"a\r\nb":         "",
	} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Host = host
		if got := token.Base(r); got != want {
			t.Errorf("%q is %q", host, got)
		}
	}
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.TLS = &tls.ConnectionState{}
	if got := token.Base(r); got != "https://example.com" {
		t.Errorf("over TLS: %q", got)
	}
}

// Contract, 5: GET /v2/ without credentials asks for them once people can log in, and is
// open where anonymous may pull otherwise; with credentials that count it is open.
func TestDoor(t *testing.T) {
	nobody := authz.Identity{Method: authz.MethodNone}
	for name, test := range map[string]struct {
		asks, anonymousPulls bool
		who                  authz.Identity
		want                 bool
	}{
		"nobody, and nothing to log in to":             {false, true, nobody, true},
		"nobody, who may not pull":                     {false, false, nobody, false},
		"nobody, who could log in":                     {true, true, nobody, false},
		"nobody, who could log in and may not pull":    {true, false, nobody, false},
		"nobody, with a token":                         {true, true, authz.Identity{Method: authz.MethodToken, Scope: authz.Scope{}}, true},
		"nobody, with a token, who may not pull":       {true, false, authz.Identity{Method: authz.MethodToken, Scope: authz.Scope{}}, true},
		"somebody who may pull":                        {true, true, somebody(), true},
		"somebody who may nothing":                     {true, false, somebody(), true},
		"somebody who may nothing, without any tokens": {false, false, somebody(), true},
	} {
		door := token.Door{Asks: test.asks, Rights: pulls(test.anonymousPulls)}
		if got := door.Opens(t.Context(), test.who); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// pulls is an Authorizer that lets nobody, or everybody, pull.
type pulls bool

func (p pulls) Authorize(_ context.Context, _ authz.Identity, what authz.Access) error {
	if bool(p) && what.Action == authz.Pull {
		return nil
	}
	return &authz.Denial{By: "pulls"}
}
