package policy

import (
	"testing"

	"github.com/weir-registry/weir/authz"
)

// TestReserved: a push below a reserved component needs a rule that names it; nothing
// else changes.
func TestReserved(t *testing.T) {
	library := func(r Rules) []Repository {
		return []Repository{{Pattern: "library/**", Match: below("library"), Rules: r}, {Pattern: "**", Match: func(string) bool { return true }, Rules: Rules{Default: Allow}}}
	}
	isCI := rules(t, "identity.id == 'basic:ci'")
	for _, test := range []struct {
		name   string
		global Rules
		some   []Repository
		who    authz.Identity
		what   authz.Access
		want   string
	}{
		{"a default does not name it", Rules{Default: Allow}, nil, ci, to(authz.Push, "library/app"), "deny mirror.default"},
		{"nor does the built-in one", Rules{}, nil, here, to(authz.Push, "library/app"), "deny mirror.default"},
		{"nor a rule for everything", Rules{Allow: isCI}, nil, ci, to(authz.Push, "library/app"), "deny mirror.default"},
		{"nor one for other names", Rules{Allow: rules(t, "request.repository.startsWith('library') || 'docker.io/library/' != ''")}, nil, ci, to(authz.Push, "library/app"), "deny mirror.default"},
		{"nor a pattern for everything", Rules{Default: Allow}, library(Rules{})[1:], ci, to(authz.Push, "library/app"), "deny mirror.default"},
		{"nor an entry that says nothing", Rules{Default: Allow}, library(Rules{}), ci, to(authz.Push, "library/app"), "deny mirror.default"},
		{"nor its default that is not said", Rules{Default: Allow}, library(Rules{Allow: isCI}), eve, to(authz.Push, "library/app"), "deny mirror.default"},
		{"a rule names it", Rules{Allow: rules(t, "request.repository.startsWith('library/')")}, nil, ci, to(authz.Push, "library/app"), "allow authz.policy.allow[0]"},
		{"a later rule names it", Rules{Allow: rules(t, "true", "request.repository == 'library/app'")}, nil, ci, to(authz.Push, "library/app"), "allow authz.policy.allow[0], authz.policy.allow[1]"},
		{"and does not match", Rules{Allow: rules(t, "true", "request.repository == 'library/other'")}, nil, ci, to(authz.Push, "library/app"), "deny mirror.default"},
		{"an entry names it", Rules{Default: Allow}, library(Rules{Default: Deny, Allow: isCI}), ci, to(authz.Push, "library/app"), "allow authz.policy.default, repositories[library/**].policy.allow[0]"},
		{"and denies", Rules{Default: Allow}, library(Rules{Default: Deny, Allow: isCI}), eve, to(authz.Push, "library/app"), "deny repositories[library/**].policy.default"},
		{"by its default", Rules{Default: Allow}, library(Rules{Default: Allow}), eve, to(authz.Push, "library/app"), "allow authz.policy.default, repositories[library/**].policy.default"},
		{"a pull", Rules{Default: Allow}, nil, ci, to(authz.Pull, "library/app"), "allow authz.policy.default"},
		{"another repository", Rules{Default: Allow}, nil, ci, to(authz.Push, "library2/app"), "allow authz.policy.default"},
		{"the component alone", Rules{Default: Allow}, nil, ci, to(authz.Push, "library"), "allow authz.policy.default"},
		{"a writable upstream", Rules{Default: Allow}, nil, ci, authz.Access{Action: authz.Push, Repository: "library/app", Upstream: "library"}, "allow authz.policy.default"},
	} {
		p := open(t, Options{Global: test.global, Repositories: test.some, Private: true, Reserved: "library"})
		for range 2 {
			if got := says(p.Decide(t.Context(), test.who, test.what)); got != test.want {
				t.Errorf("%s: %s, want %s", test.name, got, test.want)
			}
		}
		if d := open(t, Options{Global: Rules{Default: Allow}}).Decide(t.Context(), test.who, test.what); !d.Allowed {
			t.Errorf("%s: reserved where nothing is", test.name)
		}
	}
}
