package policy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin/rule"
)

// vars are what a rule sees of a question.
func vars(who authz.Identity, what authz.Access) *asking {
	v, err := seen(who, what)
	if err != nil {
		panic(err)
	}
	return &asking{vars: v}
}

func TestParseRule(t *testing.T) {
	for text, want := range map[string]string{
		"identity.usernme == 'ci'":             "column 9: undefined field 'usernme': identity has authenticated, id, username, ",
		"has(identity.nope)":                   "column 4: undefined field 'nope': ",
		"identity.certificate.cn == 'x'":       "column 21: undefined field 'cn': ",
		"identity.oidc.sub == 'x'":             "column 14: undefined field 'sub': ",
		"request.repo == 'x'":                  "column 8: undefined field 'repo': ",
		"user.name == 'x'":                     "column 1: undeclared reference to 'user': a rule knows identity and request",
		"true &&\nrequest.x":                   "line 2, column 8: undefined field 'x': ",
		"identity['id'] == 'x'":                "column 9: found no matching overload for '_[_]' applied to '(identity, string)'",
		"identity.id == 1":                     "column 13: found no matching overload for '_==_' applied to '(string, int)'",
		"identity.groups == 'a'":               "column 17: found no matching overload",
		"request.tag":                          "the rule is a string, neither true nor false",
		"request.size + 1":                     "the rule is a int, neither true nor false",
		"identity":                             "the rule is a identity, neither true nor false",
		"[true]":                               "the rule is a list(bool), neither true nor false",
		"null":                                 "the rule is a null_type, neither true nor false",
		"identity.oidc == null":                "identity.oidc is never null: ask has(identity.oidc)",
		"true && null != identity.certificate": "identity.certificate is never null: ask has(identity.certificate)",
		"request.tag.matches('(')":             "column 21: error parsing regexp: missing closing ): `(`",
		"true ||\n matches(request.tag, 'a{1000}b{1000}c{1000}')": "line 2, column 23: the pattern has a program of 3002 steps: at most 3000 can be taken",
		"true &&":                                "column 8: Syntax error: ",
		"":                                       "the rule is empty: it matches nothing",
		" \t":                                    "the rule is empty: it matches nothing",
		"'" + strings.Repeat("x", 17<<10) + "'":  "the rule is longer than 16384 bytes",
		strings.Repeat("(", 400) + "true":        "expression recursion limit exceeded",
		"identity{id: 'x'} == identity":          "column ",
		"request.tag.nope()":                     "column 17: undeclared reference to 'nope'",
		"google.protobuf.Struct{} == request":    "found no matching overload",
		"request.time > '2026-01-01'":            "column 14: found no matching overload",
		"identity.groups.exists(g, g.foo == '')": "column 28: type 'string' does not support field selection",
	} {
		_, err := ParseRule(text)
		if e, ok := errors.AsType[*rule.Error](err); !ok || !strings.Contains(e.Error(), want) || strings.Contains(e.Error(), "\n") {
			t.Errorf("%.60q: %v\nwant %s", text, err, want)
		}
	}
}

// TestMatch: what rules see, where somebody has it and where not.
func TestMatch(t *testing.T) {
	github := authz.Identity{
		ID: "oidc:github:x", Username: "x", Groups: []string{"dev", "ops"}, Method: authz.MethodOIDC,
		OIDC: &authz.OIDC{Provider: "github", Subject: "x", Claims: map[string]any{
			"repository": "org/app", "run": 7.0, "flag": true, "list": []any{"a", "b"}, "deep": map[string]any{"x": "y"}, "nil": nil,
		}},
	}
	node := authz.Identity{
		ID: "mtls:ca:node", Username: "node", Method: authz.MethodMTLS,
		Certificate: &authz.Certificate{CommonName: "node", Organizations: []string{"nodes"}, URIs: []string{"spiffe://corp/node"}},
	}
	what := authz.Access{
		Action: authz.Push, Operation: "put-manifest", Repository: "team/app", Tag: "v1", MediaType: "index", Size: 7,
		Time: time.Date(2026, 11, 27, 23, 0, 0, 0, time.UTC),
	}
	const yes, no = "yes", "no"
	for _, test := range []struct {
		rule string
		who  authz.Identity
		want string
	}{
		{"identity.authenticated", github, yes},
		{"identity.authenticated", authz.Identity{}, no},
		{"identity.method == 'none' && identity.id == '' && identity.groups == [] && identity.client_ip == ''", authz.Identity{}, yes},
		{"'ops' in identity.groups", github, yes},
		{"identity.groups.exists(g, g.startsWith('o')) && size(identity.groups) == 2", github, yes},
		{"identity.oidc.provider == 'github' && identity.oidc.subject == 'x'", github, yes},
		{"identity.oidc.provider == 'github'", node, no},
		{"has(identity.oidc)", github, yes},
		{"has(identity.oidc)", node, no},
		{"has(identity.certificate)", github, no},
		{"has(identity.certificate)", node, yes},
		{"has(identity.groups) || has(identity.id) || has(identity.authenticated)", authz.Identity{}, no},
		{"identity.certificate.common_name == 'node' && 'nodes' in identity.certificate.organizations", node, yes},
		{"identity.certificate.common_name == ''", github, yes},
		{"identity.certificate.uris.exists(u, u.startsWith('spiffe://corp/')) && identity.certificate.dns_names == []", node, yes},
		{"identity.oidc.claims.repository == 'org/app'", github, yes},
		{"identity.oidc.claims['repository'] == 'org/app'", github, yes},
		{"identity.oidc.claims.repository == 'org/app'", node, "no such key: repository"},
		{"has(identity.oidc.claims.repository) && identity.oidc.claims.repository == 'org/app'", node, no},
		{"has(identity.oidc.claims.repository) && identity.oidc.claims.repository == 'org/app'", github, yes},
		{"'repository' in identity.oidc.claims", node, no},
		{"identity.oidc.claims.run == 7 && identity.oidc.claims.flag && 'a' in identity.oidc.claims.list", github, yes},
		{"identity.oidc.claims.deep.x == 'y' && identity.oidc.claims.nil == null", github, yes},
		{"identity.oidc.claims.flag", github, yes}, // dyn, and a bool
		{"identity.oidc.claims.run", github, "it is a double, neither true nor false"},
		{"identity.oidc.claims.nil", github, "it is a null_type, neither true nor false"},
		{"identity.oidc.claims.repository.size() > 3 && identity.oidc.claims.run.size() > 1", github, "no such overload"},
		{"request.action == 'push' && request.operation == 'put-manifest' && request.repository == 'team/app'", github, yes},
		{"request.upstream == '' && request.digest == '' && request.from == '' && request.artifact_type == ''", github, yes},
		{"request.media_type == 'index' && request.size == 7 && has(request.size) && !has(request.digest)", github, yes},
		{"request.tag.matches('^v[0-9]+$')", github, yes},
		{"request.time.getHours() == 23 && request.time > timestamp('2026-01-01T00:00:00Z')", github, yes},
		{"request.time.getHours('Asia/Tokyo') == 8", github, yes},
		{"identity.groups[7] == 'x'", github, "index out of bounds: 7"},
		{"1 / request.size == 1 || 1 / (request.size - 7) == 1", github, "division by zero"},
		{"dyn(identity).nope == 'x'", github, "no such key: nope"},
	} {
		got := no
		matched, err := rules(t, test.rule)[0].match(t.Context(), vars(test.who, what))
		if matched {
			got = yes
		}
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s for %q: %s, want %s", test.rule, test.who.ID, got, test.want)
		}
	}
	if matched, err := (Rule{}).match(t.Context(), nil); matched || err == nil {
		t.Error("no rule matches")
	}
}

// nested is a rule of n loops inside one another, over ten each.
func nested(n int, inner string) string {
	text := inner
	for i := range n {
		text = "[0,1,2,3,4,5,6,7,8,9].all(v" + string(rune('a'+i)) + ", " + text + ")"
	}
	return text
}

// TestCost is S-8's part of rules: what costs too much fails.
func TestCost(t *testing.T) {
	long := authz.Identity{Username: strings.Repeat("a", 64<<10)}
	for name, text := range map[string]string{
		"loops in loops":        nested(7, "va + vb >= 0"),
		"loops over the groups": "identity.groups.all(a, identity.groups.all(b, identity.groups.all(c, a + b + c == '')))",
		"lists that grow":       "[0,1,2,3,4,5,6,7,8,9].map(a, [0,1,2,3,4,5,6,7,8,9].map(b, [0,1,2,3,4,5,6,7,8,9].map(c, [0,1,2,3,4,5,6,7,8,9].map(d, [0,1,2,3,4,5,6,7,8,9].map(e, [0,1,2,3,4,5,6,7,8,9].map(f, [a, b, c, d, e, f])))))) == []",
		"texts that grow":       nested(5, "(identity.username + identity.username).contains('b') == false"),
	} {
		t.Run(name, func(t *testing.T) {
			long.Groups = make([]string, 200)
			r := rules(t, text)[0]
			matched, err := r.match(t.Context(), vars(long, authz.Access{}))
			if matched || err == nil || !strings.Contains(err.Error(), "cost limit exceeded") && !errors.Is(err, errSlow) {
				t.Errorf("%v, %v", matched, err)
			}
		})
	}
}

// TestCostIsCounted: the bound is CEL's count, and does not hang on the clock.
func TestCostIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // here no time passes in a rule
		_, err := rules(t, nested(7, "va + vb >= 0"))[0].match(t.Context(), vars(authz.Identity{}, authz.Access{}))
		if err == nil || !strings.Contains(err.Error(), "actual cost limit exceeded") {
			t.Error(err)
		}
		if matched, err := rules(t, nested(4, "va >= 0"))[0].match(t.Context(), vars(authz.Identity{}, authz.Access{})); err != nil || !matched {
			t.Errorf("ten thousand steps: %v, %v", matched, err)
		}
	})
}

// TestInterrupt: who does not wait any more costs nothing any more.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	matched, err := rules(t, nested(4, "va >= 0"))[0].match(ctx, vars(authz.Identity{}, authz.Access{}))
	if matched || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", matched, err)
	}
}

// TestReads: a rule is never asked less often than it has something else to look at.
func TestReads(t *testing.T) {
	for text, want := range map[string]reads{
		"true":                                  0,
		"identity.id == 'x'":                    0,
		"request.action == 'pull'":              0,
		"request.repository == 'x'":             0,
		"request.operation == 'x'":              readsOperation,
		"request.upstream == 'x'":               readsUpstream,
		"request.tag == 'x'":                    readsTag,
		".request.tag == 'x'":                   readsTag,
		"has(request.tag)":                      readsTag,
		"request.digest == 'x'":                 readsDigest,
		"request.from == 'x'":                   readsFrom,
		"request.artifact_type == 'x'":          readsArtifactType,
		"request.media_type == 'x'":             readsMediaType,
		"request.size > 1":                      readsSize,
		"request.time.getHours() > 1":           readsTime,
		"request.tag == request.digest":         readsTag | readsDigest,
		"dyn(request).tag == 'x'":               readsAll,
		"[request].exists(r, r.tag == 'x')":     readsAll,
		"request == request":                    readsAll,
		"{'a': request}.a.tag == 'x'":           readsAll,
		"['a'].exists(t, t == request.tag)":     readsTag,
		"(true ? request : request).tag == 'x'": readsAll,
		"identity.groups.exists(r, r == request.tag && request.size > 3)": readsTag | readsSize,
	} {
		if got := rules(t, text)[0].reads; got != want {
			t.Errorf("%s reads %b, want %b", text, got, want)
		}
	}
	names := map[string]bool{}
	for _, f := range objects()[requestType] {
		names[f.name] = true
	}
	if len(names) != 11 {
		t.Error("a request has another field: is it a part of every question, or only of some? See readsOf and ask")
	}
}
