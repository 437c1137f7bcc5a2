package policy_test

import (
	"strings"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
)

func rules(t testing.TB, texts ...string) []policy.Rule {
	t.Helper()
	var list []policy.Rule
	for _, text := range texts {
		r, err := policy.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func below(prefix string) func(string) bool {
	return func(repository string) bool { return strings.HasPrefix(repository, prefix) }
}

// What nobody may pull is told from what somebody without credentials might.
func TestPossible(t *testing.T) {
	somebody := "identity.authenticated"
	for name, x := range map[string]struct {
		global             policy.Rules
		repositories       []policy.Repository
		hub, ghcr, anyhing bool
	}{
		"nothing is said":            {policy.Rules{}, nil, true, true, true},
		"denied":                     {policy.Rules{Default: policy.Deny}, nil, false, false, false},
		"allow rules alone":          {policy.Rules{Allow: rules(t, somebody)}, nil, false, false, false},
		"strangers are denied":       {policy.Rules{Deny: rules(t, "!"+somebody)}, nil, false, false, false},
		"strangers from an upstream": {policy.Rules{Deny: rules(t, "!"+somebody+" && request.upstream == 'docker.io'")}, nil, false, true, true},
		"one repository":             {policy.Rules{Allow: rules(t, somebody, "request.repository == 'docker.io/library/nginx'")}, nil, true, true, true},
		"by upstream":                {policy.Rules{Allow: rules(t, somebody, "request.upstream == 'ghcr.io' && request.tag == 'x'")}, nil, false, true, true},
		"pushes":                     {policy.Rules{Allow: rules(t, "request.action == 'push'")}, nil, false, false, false},
		"from an address":            {policy.Rules{Allow: rules(t, "identity.client_ip == '10.0.0.1'")}, nil, true, true, true},
		"by the pattern": {policy.Rules{}, []policy.Repository{
			{Pattern: "docker.io/**", Match: below("docker.io/"), Rules: policy.Rules{Deny: rules(t, "!"+somebody)}},
		}, false, true, true},
		"by all patterns": {policy.Rules{}, []policy.Repository{
			{Pattern: "docker.io/**", Match: below("docker.io/"), Rules: policy.Rules{Deny: rules(t, "!"+somebody)}},
			{Pattern: "**", Match: below(""), Rules: policy.Rules{Default: policy.Allow}},
		}, false, true, true},
		"but for one": {policy.Rules{}, []policy.Repository{
			{Pattern: "docker.io/open/**", Match: below("docker.io/open/"), Rules: policy.Rules{Default: policy.Allow}},
			{Pattern: "docker.io/**", Match: below("docker.io/"), Rules: policy.Rules{Default: policy.Deny}},
			{Pattern: "ghcr.io/**", Match: below("ghcr.io/"), Rules: policy.Rules{Default: policy.Deny}},
		}, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.New(policy.Options{Global: x.global, Repositories: x.repositories})
			if err != nil {
				t.Fatal(err)
			}
			nobody := authz.Identity{Method: authz.MethodNone}
			if got := p.Possible(nobody, "docker.io", "docker.io/"); got != x.hub {
				t.Errorf("docker.io: %v", got)
			}
			if got := p.Possible(nobody, "ghcr.io", "ghcr.io/"); got != x.ghcr {
				t.Errorf("ghcr.io: %v", got)
			}
			if got := p.Possible(nobody, "", ""); got != x.anyhing {
				t.Errorf("anything: %v", got)
			}
		})
	}
}

// TestPossibleForNobody: what lets nobody in for certain, and what does not.
func TestPossibleForNobody(t *testing.T) {
	people, strangers := rules(t, "identity.authenticated"), rules(t, "!identity.authenticated")
	only := func(pattern string, r policy.Rules) policy.Repository {
		return policy.Repository{Pattern: pattern, Match: func(string) bool { t.Error("no name is asked about"); return false }, Rules: r}
	}
	for _, test := range []struct {
		name string
		all  policy.Rules
		some []policy.Repository
		want bool
	}{
		{"default allow", policy.Rules{Default: policy.Allow}, nil, true},
		{"people, and all else", policy.Rules{Default: policy.Allow, Allow: people}, nil, true},
		{"nobody is denied a tag", policy.Rules{Deny: rules(t, "!identity.authenticated && request.tag == 'x'")}, nil, true},
		{"a rule to deny that fails is not counted on", policy.Rules{Deny: rules(t, "identity.oidc.claims.x == 'a'")}, nil, true},
		{"a rule to allow that fails lets nobody in", policy.Rules{Allow: rules(t, "identity.oidc.claims.x == 'a'")}, nil, false},
		{"this upstream is open", policy.Rules{Allow: rules(t, "identity.authenticated || request.upstream == 'docker.io'")}, nil, true},
		{"another upstream is open", policy.Rules{Allow: rules(t, "identity.authenticated || request.upstream == 'ghcr.io'")}, nil, false},
		{"everything is closed", policy.Rules{}, []policy.Repository{only("**", policy.Rules{Default: policy.Deny, Allow: people})}, false},
		{"some of it is closed", policy.Rules{}, []policy.Repository{only("docker.io/corp/**", policy.Rules{Deny: strangers})}, true},
		{"all of it, and not by its name", policy.Rules{}, []policy.Repository{only("docker.io/*", policy.Rules{Deny: strangers}), only("docker.io/*/**", policy.Rules{Deny: strangers})}, true},
		{"a part is open", policy.Rules{}, []policy.Repository{
			only("docker.io/**", policy.Rules{Deny: strangers}), {Pattern: "docker.io/library/*", Webhook: policy.None},
		}, true},
		{"another is open", policy.Rules{}, []policy.Repository{only("docker.io/**", policy.Rules{Deny: strangers}), only("quay.io/library/*", policy.Rules{})}, false},
		{"most names are open", policy.Rules{}, []policy.Repository{only("docker.io/w**", policy.Rules{Deny: strangers}), only("docker.io/**", policy.Rules{})}, true},
		{"one of many is open", policy.Rules{}, []policy.Repository{only("*/open/**", policy.Rules{}), only("docker.io/**", policy.Rules{Deny: strangers})}, false},
		{"one of many is open, and the rest is closed", policy.Rules{}, []policy.Repository{only("*/open/**", policy.Rules{}), only("**", policy.Rules{Deny: strangers})}, true},
		{"without a default what no rule decides is allowed", policy.Rules{}, []policy.Repository{only("docker.io/**", policy.Rules{Allow: people})}, true},
	} {
		p, err := policy.New(policy.Options{Global: test.all, Repositories: test.some})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Possible(authz.Identity{Method: authz.MethodNone}, "docker.io", "docker.io/"); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// That names below library may be pushed to at all is said by a rule or a pattern.
func TestClaimable(t *testing.T) {
	for name, x := range map[string]struct {
		options policy.Options
		want    bool
	}{
		"a rule for all":      {policy.Options{Global: policy.Rules{Allow: rules(t, "true")}}, false},
		"a rule that names":   {policy.Options{Global: policy.Rules{Allow: rules(t, "request.repository.startsWith('library/')")}}, true},
		"a pattern":           {policy.Options{Repositories: []policy.Repository{{Pattern: "library/**", Match: below("library/"), Rules: policy.Rules{Default: policy.Allow}}}}, true},
		"a rule of a pattern": {policy.Options{Repositories: []policy.Repository{{Pattern: "**", Match: below(""), Rules: policy.Rules{Allow: rules(t, "request.repository == 'library/x'")}}}}, true},
		"a pattern for all":   {policy.Options{Repositories: []policy.Repository{{Pattern: "**", Match: below(""), Rules: policy.Rules{Default: policy.Allow}}}}, false},
	} {
		x.options.Reserved = "library"
		p, err := policy.New(x.options)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Claimable(); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// One decision is for all repositories only where there is no rule at all.
func TestUniformEverywhere(t *testing.T) {
	for name, x := range map[string]struct {
		options policy.Options
		want    bool
	}{
		"no rules":     {policy.Options{}, true},
		"a default":    {policy.Options{Global: policy.Rules{Default: policy.Deny}}, true},
		"a rule":       {policy.Options{Global: policy.Rules{Allow: rules(t, "request.repository == 'a'")}}, false},
		"a repository": {policy.Options{Repositories: []policy.Repository{{Pattern: "a", Match: below("a")}}}, false},
	} {
		p, err := policy.New(x.options)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Uniform(""); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
