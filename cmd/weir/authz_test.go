package main

import (
	"errors"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/token"
	"github.com/weir-registry/weir/origin"
)

// Contract, 5: GET /v2/ without credentials asks for them once people can log in, and is
// open where anonymous may pull otherwise; with credentials that count it is open.
func TestBase(t *testing.T) {
	nobody, stranger := authz.Identity{Method: authz.MethodNone}, authz.Identity{Method: authz.MethodToken, Scope: authz.Scope{}}
	somebody := authz.Identity{ID: "basic:ann", Method: authz.MethodBasic}
	for name, x := range map[string]struct {
		login, anonymous, named bool
		who                     authz.Identity
		want                    error
	}{
		"nobody, and nothing to log in to":          {false, true, false, nobody, nil},
		"nobody, who may not pull":                  {false, false, true, nobody, origin.ErrUnauthorized},
		"nobody, who may not pull, and cannot say":  {false, false, false, nobody, origin.ErrDenied},
		"nobody, who could log in":                  {true, true, true, nobody, origin.ErrUnauthorized},
		"nobody, who could log in and may not pull": {true, false, true, nobody, origin.ErrUnauthorized},
		"nobody, with a token":                      {true, true, true, stranger, nil},
		"nobody, with a token, who may not pull":    {true, false, true, stranger, nil},
		"somebody who may pull":                     {true, true, true, somebody, nil},
		"somebody who may nothing":                  {true, false, true, somebody, nil},
		"somebody, without any tokens":              {false, false, true, somebody, nil},
	} {
		a := &rights{login: x.login, anonymous: x.anonymous, named: x.named, challenge: token.Challenge{Realm: "weir"}}
		request := &origin.Request{Principal: x.who}
		err := a.base(origin.WithRequest(t.Context(), request))
		if !errors.Is(err, x.want) || (request.Challenge != nil) != (x.want == origin.ErrUnauthorized) {
			t.Errorf("%s: %v, challenge %q", name, err, request.Challenge)
		}
	}
}
