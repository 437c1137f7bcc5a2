package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

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

// TestRemedy: what the log says about a push that only a default refuses is what would
// have it accepted, once it is in the configuration, from somebody who has logged in and
// from nobody else; and nobody loses what they may.
func TestRemedy(t *testing.T) {
	const network = "server: {listen: ':5000'}\n"
	nobody, ann := authz.Identity{Method: authz.MethodNone}, authz.Identity{ID: "basic:ann", Username: "ann", Method: authz.MethodBasic}
	push, pull := authz.Access{Action: authz.Push, Operation: "put-manifest", Repository: "team/app"}, authz.Access{Action: authz.Pull, Operation: "get-manifest", Repository: "team/app"}
	for name, x := range map[string]struct {
		policy         string
		named, builtin bool
		who            authz.Identity
		told           string // a part of what a client is told; "": nothing
	}{
		"nothing is configured":            {"", false, true, nobody, "listens on loopback"},
		"people can log in":                {"", true, true, nobody, ""},
		"somebody has":                     {"", true, true, ann, ""},
		"rules, and nobody can log in":     {"authz: {policy: {default: deny, allow: [request.action == 'pull']}}", false, false, nobody, "nobody can log in"},
		"rules, and people can log in":     {"authz: {policy: {default: deny, allow: [request.action == 'pull']}}", true, false, nobody, ""},
		"rules, and somebody has":          {"authz: {policy: {allow: [request.action == 'pull']}}", true, false, ann, ""},
		"a default, and nobody can log in": {"authz: {policy: {default: deny}}", false, false, nobody, "nobody can log in"},
	} {
		before := policyOf(t, network+x.policy, io.Discard, nil)
		a := &rights{named: x.named, builtin: x.builtin}
		message, remedy := a.refusal(x.who, push, before.Authorize(t.Context(), x.who, push))
		if (message == "") != (x.told == "") || !strings.Contains(message, x.told) {
			t.Errorf("%s: a client is told %q", name, message)
		}
		if strings.Contains(remedy, "htpasswd") == x.named {
			t.Errorf("%s: %s", name, remedy)
		}
		// As an operator types it.
		typed := map[string]any{}
		rule, listed := "", false
		if _, rule, listed = strings.Cut(remedy, "authz.policy.allow: - "); !listed {
			if err := yaml.Unmarshal([]byte(remedy), &typed); err != nil {
				t.Fatalf("%s: %s: %v", name, remedy, err)
			}
			delete(typed["authz"].(map[string]any), "basic") // a file that is not here
		} else {
			if err := yaml.Unmarshal([]byte(x.policy), &typed); err != nil {
				t.Fatal(err)
			}
			var item []any
			if err := yaml.Unmarshal([]byte("- "+rule), &item); err != nil {
				t.Fatalf("%s: %s: %v", name, remedy, err)
			}
			p := typed["authz"].(map[string]any)["policy"].(map[string]any)
			allow, _ := p["allow"].([]any)
			p["allow"] = append(allow, item...)
		}
		text, err := yaml.Marshal(typed)
		if err != nil {
			t.Fatal(err)
		}
		after := policyOf(t, network+string(text), io.Discard, nil)
		for _, c := range []struct {
			who  authz.Identity
			what authz.Access
			want bool
		}{
			{ann, push, true},
			{nobody, push, false},
			{nobody, pull, before.Authorize(t.Context(), nobody, pull) == nil},
			{ann, authz.Access{Action: authz.Delete, Operation: "delete-tag", Repository: "team/app"}, false},
		} {
			if got := after.Authorize(t.Context(), c.who, c.what) == nil; got != c.want {
				t.Errorf("%s, with %s: %q may %s is %t", name, text, c.who.ID, c.what.Action, got)
			}
		}
	}
}
