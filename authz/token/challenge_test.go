package token_test

import (
	"context"
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
