package policy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weir-registry/weir/authz"
)

var (
	nobody = authz.Identity{Method: authz.MethodNone, Client: authz.Client{IP: netip.MustParseAddr("192.0.2.1")}}
	here   = authz.Identity{Method: authz.MethodNone, Client: authz.Client{IP: netip.MustParseAddr("127.0.0.1"), Local: true}}
	ci     = authz.Identity{ID: "basic:ci", Username: "ci", Method: authz.MethodBasic}
	eve    = authz.Identity{ID: "basic:eve", Username: "eve", Method: authz.MethodBasic}
)

func to(action authz.Action, repository string) authz.Access {
	return authz.Access{Action: action, Repository: repository}
}

// below matches what is below a repository, and prefix all that begins with it.
func below(prefix string) func(string) bool {
	return func(name string) bool { return strings.HasPrefix(name, prefix+"/") }
}

func open(t testing.TB, o Options) *Policy {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// says is a decision as a test writes it.
func says(d Decision) string {
	word := "deny "
	if d.Allowed {
		word = "allow "
	}
	return word + d.By
}

// TestBuiltIn: what holds where nothing is configured, for each action, from here and
// from elsewhere, with and without somebody else who could connect.
func TestBuiltIn(t *testing.T) {
	people := authz.Identity{ID: "basic:ci", Client: authz.Client{Local: true}}
	for _, test := range []struct {
		action                            authz.Action
		elsewhere, local, localNotPrivate bool
	}{
		{authz.Pull, true, true, true},
		{authz.List, true, true, true},
		{authz.Push, false, true, false},
		{authz.Delete, false, true, false},
		{authz.Admin, false, false, false},
	} {
		for _, deny := range [][]Rule{nil, rules(t, "request.repository == 'other'")} { // with deny rules alone it goes on
			for _, c := range []struct {
				private bool
				who     authz.Identity
				want    bool
			}{
				{true, nobody, test.elsewhere},
				{false, nobody, test.elsewhere},
				{true, here, test.local},
				{true, people, test.local},
				{false, here, test.localNotPrivate},
				{true, authz.Identity{ID: "basic:ci"}, test.elsewhere},
			} {
				p := open(t, Options{Private: c.private, Global: Rules{Deny: deny}})
				d := p.Decide(t.Context(), c.who, to(test.action, "team/app"))
				if d.Allowed != c.want || d.By != "authz.policy.default" {
					t.Errorf("%s by %q (local %v, private %v): %s", test.action, c.who.ID, c.who.Client.Local, c.private, says(d))
				}
			}
		}
	}
}

// TestDecisions: deny before allow before default, for all and then for some.
func TestDecisions(t *testing.T) {
	const bad = "identity.oidc.claims.x == 'y'"
	isCI := rules(t, "identity.id == 'basic:ci'")
	team := func(r Rules) []Repository { return []Repository{{Pattern: "team/**", Match: below("team"), Rules: r}} }
	for _, test := range []struct {
		name   string
		global Rules
		some   []Repository
		who    authz.Identity
		what   authz.Access
		want   string
	}{
		{"default allow", Rules{Default: Allow}, nil, nobody, to(authz.Push, "a"), "allow authz.policy.default"},
		{"default deny", Rules{Default: Deny}, nil, here, to(authz.Pull, "a"), "deny authz.policy.default"},
		{"an allow rule", Rules{Default: Deny, Allow: isCI}, nil, ci, to(authz.Push, "a"), "allow authz.policy.allow[0]"},
		{"the second one", Rules{Allow: rules(t, "false", "true")}, nil, ci, to(authz.Push, "a"), "allow authz.policy.allow[1]"},
		{"none of them, without a default", Rules{Allow: isCI}, nil, eve, to(authz.Pull, "a"), "deny authz.policy.default"},
		{"none of them, by default allowed", Rules{Default: Allow, Allow: isCI}, nil, eve, to(authz.Pull, "a"), "allow authz.policy.default"},
		{"a deny rule beats an allow rule", Rules{Allow: isCI, Deny: rules(t, "false", "true")}, nil, ci, to(authz.Pull, "a"), "deny authz.policy.deny[1]"},
		{"admin by a rule", Rules{Allow: rules(t, "request.action == 'admin'")}, nil, nobody, to(authz.Admin, ""), "allow authz.policy.allow[0]"},

		{"an allow rule that fails", Rules{Allow: rules(t, bad)}, nil, ci, to(authz.Pull, "a"), "deny authz.policy.default"},
		{"the next one counts", Rules{Allow: rules(t, bad, "true")}, nil, ci, to(authz.Pull, "a"), "allow authz.policy.allow[1]"},
		{"a deny rule that fails", Rules{Default: Allow, Deny: rules(t, bad)}, nil, ci, to(authz.Pull, "a"), "deny authz.policy.deny[0]"},
		{"a deny rule that is no bool", Rules{Default: Allow, Deny: rules(t, "dyn(1)")}, nil, ci, to(authz.Pull, "a"), "deny authz.policy.deny[0]"},
		{"an allow rule that is no bool", Rules{Default: Deny, Allow: rules(t, "dyn('true')")}, nil, ci, to(authz.Pull, "a"), "deny authz.policy.default"},
		{"no rule at all in its place", Rules{Default: Allow, Deny: []Rule{{}}}, nil, ci, to(authz.Pull, "a"), "deny authz.policy.deny[0]"},

		{"both", Rules{Default: Allow}, team(Rules{Default: Deny, Allow: isCI}), ci, to(authz.Push, "team/app"), "allow authz.policy.default, repositories[team/**].policy.allow[0]"},
		{"the repository denies", Rules{Default: Allow}, team(Rules{Default: Deny, Allow: isCI}), eve, to(authz.Push, "team/app"), "deny repositories[team/**].policy.default"},
		{"the repository denies by a rule", Rules{Default: Allow}, team(Rules{Deny: isCI}), ci, to(authz.Push, "team/app"), "deny repositories[team/**].policy.deny[0]"},
		{"the repository cannot allow what is denied to all", Rules{Default: Deny}, team(Rules{Default: Allow, Allow: isCI}), ci, to(authz.Push, "team/app"), "deny authz.policy.default"},
		{"a deny rule for all beats the repository's", Rules{Default: Allow, Deny: isCI}, team(Rules{Allow: isCI}), ci, to(authz.Push, "team/app"), "deny authz.policy.deny[0]"},
		{"without a default the repository allows the rest", Rules{Default: Allow}, team(Rules{Allow: isCI}), eve, to(authz.Push, "team/app"), "allow authz.policy.default, repositories[team/**].policy.default"},
		{"another repository", Rules{Default: Allow}, team(Rules{Default: Deny}), eve, to(authz.Push, "other/app"), "allow authz.policy.default"},
		{"no repository", Rules{Default: Allow}, []Repository{{Pattern: "**", Match: func(string) bool { return true }, Rules: Rules{Default: Deny}}}, eve, to(authz.List, ""), "allow authz.policy.default"},
		{"the repository says nothing", Rules{Default: Allow}, team(Rules{}), eve, to(authz.Push, "team/app"), "allow authz.policy.default"},
		{"the built-in default and the repository", Rules{}, team(Rules{Default: Allow}), ci, to(authz.Push, "team/app"), "deny authz.policy.default"},
	} {
		p := open(t, Options{Global: test.global, Repositories: test.some, Private: true})
		for range 2 { // the second answer may be a kept one
			d := p.Decide(t.Context(), test.who, test.what)
			if got := says(d); got != test.want {
				t.Errorf("%s: %s, want %s", test.name, got, test.want)
			}
			err := p.Authorize(t.Context(), test.who, test.what)
			denial, denied := errors.AsType[*authz.Denial](err)
			if (err == nil) != d.Allowed || denied && (denial.By != d.By || denial.Cause != nil) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}

// TestMostSpecific: of several patterns that match the one with the most characters
// before its first wildcard holds, then the longest, then the first; and it alone.
func TestMostSpecific(t *testing.T) {
	entry := func(pattern string) Repository {
		return Repository{Pattern: pattern, Match: func(string) bool { return true }, Rules: Rules{Default: Deny}}
	}
	for _, test := range []struct {
		patterns []string
		want     string
	}{
		{[]string{"**", "team/**"}, "team/**"},
		{[]string{"team/**", "**"}, "team/**"},
		{[]string{"team/*", "team/**"}, "team/**"},
		{[]string{"team/*", "team/*/x"}, "team/*/x"},
		{[]string{"team/a*", "team/*/very/long/pattern"}, "team/a*"},
		{[]string{"team/app", "team/app*"}, "team/app*"},
		{[]string{"team/[ab]pp", "team/a?p"}, "team/a?p"},
		{[]string{"a/**", "b/**"}, "a/**"},
		{[]string{"*/x", "?/x"}, "*/x"},
	} {
		var list []Repository
		for _, pattern := range test.patterns {
			list = append(list, entry(pattern))
		}
		d := open(t, Options{Repositories: list}).Decide(t.Context(), nobody, to(authz.Pull, "x"))
		if want := "repositories[" + test.want + "].policy.default"; d.By != want {
			t.Errorf("of %q %s holds", test.patterns, d.By)
		}
	}
	// What the most specific one leaves to the default no other one decides.
	d := open(t, Options{Repositories: []Repository{entry("**"), {Pattern: "team/**", Match: below("team")}}}).
		Decide(t.Context(), nobody, to(authz.Pull, "team/app"))
	if !d.Allowed {
		t.Errorf("the less specific one decided: %s", says(d))
	}
}

// hook is a webhook that says what it is told to, and remembers who was asked.
type hook struct {
	err   error
	asked []string
}

func (h *hook) Authorize(_ context.Context, who authz.Identity, what authz.Access) error {
	h.asked = append(h.asked, who.ID+" "+string(what.Action)+" "+what.Repository)
	return h.err
}

func TestWebhooks(t *testing.T) {
	broken := errors.New("no answer in time")
	yes, no, fault := &hook{}, &hook{err: &authz.Denial{By: "webhook no"}}, &hook{err: &authz.Denial{By: "webhook fault", Cause: broken}}
	odd := &hook{err: broken}
	p := open(t, Options{
		Global:   Rules{Default: Allow, Deny: rules(t, "identity.id == 'basic:eve'")},
		Webhooks: map[string]authz.Authorizer{"yes": yes, "no": no, "fault": fault, "odd": odd},
		Webhook:  "yes",
		Repositories: []Repository{
			{Pattern: "no/**", Match: below("no"), Webhook: "no"},
			{Pattern: "fault/**", Match: below("fault"), Webhook: "fault", Rules: Rules{Default: Allow}},
			{Pattern: "odd/**", Match: below("odd"), Webhook: "odd"},
			{Pattern: "none/**", Match: below("none"), Webhook: None},
			{Pattern: "same/**", Match: below("same"), Rules: Rules{Deny: rules(t, "request.action == 'delete'")}},
		},
	})
	for _, test := range []struct {
		who   authz.Identity
		what  authz.Access
		want  string
		cause error
		asked *hook
	}{
		{ci, to(authz.Pull, "a"), "allow authz.policy.default, webhook yes", nil, yes},
		{ci, to(authz.List, ""), "allow authz.policy.default, webhook yes", nil, yes},
		{eve, to(authz.Pull, "a"), "deny authz.policy.deny[0]", nil, nil}, // what rules deny nobody is asked
		{ci, to(authz.Pull, "same/a"), "allow authz.policy.default, repositories[same/**].policy.default, webhook yes", nil, yes},
		{ci, to(authz.Delete, "same/a"), "deny repositories[same/**].policy.deny[0]", nil, nil},
		{ci, to(authz.Pull, "no/a"), "deny webhook no", nil, no},
		{ci, to(authz.Pull, "fault/a"), "deny webhook fault", broken, fault},
		{ci, to(authz.Pull, "odd/a"), "deny webhook odd", broken, odd},
		{ci, to(authz.Pull, "none/a"), "allow authz.policy.default", nil, nil}, // not even the one for all
	} {
		for range 2 { // a decision by rules is kept, what a webhook says is its own to keep
			yes.asked, no.asked, fault.asked, odd.asked = nil, nil, nil, nil
			d := p.Decide(t.Context(), test.who, test.what)
			if says(d) != test.want || d.Cause != test.cause {
				t.Errorf("%s: %v, want %s", says(d), d.Cause, test.want)
			}
			for _, h := range []*hook{yes, no, fault, odd} {
				var want []string
				if h == test.asked {
					want = []string{test.who.ID + " " + string(test.what.Action) + " " + test.what.Repository}
				}
				if !slices.Equal(h.asked, want) {
					t.Errorf("%s: asked %q, want %q", test.want, h.asked, want)
				}
			}
			if denial, ok := errors.AsType[*authz.Denial](p.Authorize(t.Context(), test.who, test.what)); ok && denial.Cause != test.cause {
				t.Errorf("%s: %v", test.want, denial)
			}
		}
	}
	if !p.Remote() || open(t, Options{Webhooks: map[string]authz.Authorizer{"yes": yes}, Webhook: None}).Remote() {
		t.Error("who is asked over the network is not told")
	}
	for _, o := range []Options{{Webhook: "opa"}, {Repositories: []Repository{{Webhook: "opa"}}}} {
		if _, err := New(o); err == nil {
			t.Error("a webhook that there is not is taken")
		}
	}
}

func TestUniform(t *testing.T) {
	p := open(t, Options{
		Global:   Rules{Default: Allow, Deny: rules(t, "request.upstream == 'x' && request.repository == 'y'")},
		Webhooks: map[string]authz.Authorizer{"opa": &hook{}},
		Repositories: []Repository{
			{Pattern: "tags/**", Match: below("tags"), Rules: Rules{Deny: rules(t, "request.tag == 'x'")}},
			{Pattern: "whole/**", Match: below("whole"), Rules: Rules{Allow: rules(t, "dyn(request).tag == 'x'")}},
			{Pattern: "steps/**", Match: below("steps"), Rules: Rules{Allow: rules(t, "request.operation == 'list-tags'")}},
			{Pattern: "asked/**", Match: below("asked"), Webhook: "opa"},
			{Pattern: "night/**", Match: below("night"), Rules: Rules{Allow: rules(t, "request.time.getHours() < 6")}},
		},
	})
	for name, want := range map[string]bool{"a": true, "tags/a": false, "whole/a": false, "steps/a": false, "asked/a": false, "night/a": true} {
		if got := p.Uniform(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if open(t, Options{Global: Rules{Deny: rules(t, "request.digest == 'x'")}}).Uniform("a") {
		t.Error("a rule for all is overlooked")
	}
}

// TestFailuresAreLogged: by the name of the rule, each time.
func TestFailuresAreLogged(t *testing.T) {
	var lines strings.Builder
	var told []string
	p := open(t, Options{
		Global:       Rules{Default: Allow, Allow: rules(t, "false", "identity.oidc.claims.x == 'y'")},
		Repositories: []Repository{{Pattern: "a/**", Match: below("a"), Rules: Rules{Deny: rules(t, "dyn(1)")}}},
		Log:          slog.New(slog.NewTextHandler(&lines, nil)),
		Decided:      func(d Decision) { told = append(told, says(d)) },
	})
	for range 2 {
		lines.Reset()
		d := p.Decide(t.Context(), ci, to(authz.Pull, "a/b"))
		if d.Cause == nil {
			t.Error("the decision does not say that the rule failed")
		}
		for _, want := range []string{
			`level=WARN msg="rule failed" rule=authz.policy.allow[1] error="no such key: x" identity=basic:ci action=pull repository=a/b`,
			`level=WARN msg="rule failed" rule=repositories[a/**].policy.deny[0] error="it is a int, neither true nor false"`,
		} {
			if !strings.Contains(lines.String(), want) {
				t.Errorf("no line %s in\n%s", want, lines.String())
			}
		}
	}
	if want := slices.Repeat([]string{"deny repositories[a/**].policy.deny[0]"}, 2); !slices.Equal(told, want) {
		t.Errorf("told of %q", told)
	}
}
