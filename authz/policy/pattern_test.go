package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/cel-go/interpreter"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin/rule"
)

// someText is as long as what somebody may say of themselves.
var someText = authz.Identity{Username: strings.Repeat("a", 8<<10), Groups: strings.Fields(strings.Repeat("(a|aa)+b ", 900))}

// TestPatternCost: a pattern costs what its program and the text are large, however
// short it is written. No time passes here: it is the count that ends it.
func TestPatternCost(t *testing.T) {
	for name, text := range map[string]string{
		"in a loop":           nested(4, "!identity.username.matches('(a|aa)+b')"),
		"as a function":       nested(4, "!matches(identity.username, '(a|aa)+b')"),
		"of a claim":          nested(4, "!dyn(identity).username.matches('(a|aa)+b')"),
		"many in one another": nested(3, "!identity.username.matches('(a?){20}c')"),
		"told by who asks":    "identity.groups.all(g, !identity.username.matches(g))",
		"that are no good":    "identity.groups.exists(g, identity.username.matches('a{1000}a{1000}a{1000}a{1000}' + g))",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := vars(someText, authz.Access{})
				matched, err := rules(t, text)[0].match(t.Context(), a)
				if _, stopped := errors.AsType[interpreter.EvalCancelledError](err); matched || !stopped || a.spent > rule.MostCost+mostMatch {
					t.Errorf("%v, %v; it cost %d", matched, err, a.spent)
				}
			})
		})
	}
}

// TestPatternIsCounted: what is counted for a match is what its program and the text are
// large, and for a pattern from elsewhere that it is compiled, too.
func TestPatternIsCounted(t *testing.T) {
	who := authz.Identity{Username: strings.Repeat("a", 1000), Groups: []string{"x{20}y", "x{20}z", "x{20}"}}
	p, err := parsePattern("x{20}y")
	if err != nil || p.steps < 20 {
		t.Fatalf("%d steps, %v", p.steps, err)
	}
	for text, want := range map[string]uint64{
		"identity.groups.exists(g, identity.username.matches('x{20}y'))":  3 * p.cost(1000),
		"identity.groups.exists(g, matches(identity.username, 'x{20}y'))": 3 * p.cost(1000),
		"identity.groups.exists(g, identity.username.matches(g))":         3 * (p.cost(1000) + 2*uint64(p.steps)),
	} {
		a := vars(who, authz.Access{})
		if matched, err := rules(t, text)[0].match(t.Context(), a); matched || err != nil {
			t.Errorf("%s: %v, %v", text, matched, err)
		}
		if loop := uint64(300); a.spent < want-loop || a.spent > want+loop {
			t.Errorf("%s: it cost %d, want some %d", text, a.spent, want)
		}
	}
}

// TestLongMatch: one match, which nothing interrupts, is not begun if it would take long.
func TestLongMatch(t *testing.T) {
	for text, want := range map[string]string{
		"identity.username.matches('(a?){200}a{200}b')":                  "takes too long",
		"identity.username.matches(identity.groups[0])":                  "",
		"identity.username.matches('(a?){200}' + identity.groups[0])":    "takes too long",
		"request.tag.matches('(a?){200}a{200}b')":                        "",
		"request.tag.matches('a{1000}b{1000}c{1000}' + request.tag)":     "takes too long",
		"request.tag.matches(identity.username)":                         "longer than 1024 bytes",
		"request.tag.matches('(' + request.tag)":                         "missing closing )",
		"!request.tag.matches('^v[0-9]+$') || request.tag.matches('^v')": "",
	} {
		_, err := rules(t, text)[0].match(t.Context(), vars(someText, authz.Access{Tag: "v1"}))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestPatternsMatch: they match what they match in CEL.
func TestPatternsMatch(t *testing.T) {
	for text, want := range map[string]bool{
		"'team/app'.matches('^team/[a-z]+$')":                           true,
		"matches('team/app', '^team/[a-z]+$')":                          true,
		"'team/App'.matches('^team/[a-z]+$')":                           false,
		"request.tag.matches('^v[0-9]+$') && !request.tag.matches('2')": true,
		"request.tag.matches('^' + request.tag + '$')":                  true,
		"dyn(request.tag).matches('v')":                                 true,
		"['x', 'v'].exists(p, request.tag.matches(p))":                  true,
		"['x', 'y'].exists(p, request.tag.matches(p))":                  false,
	} {
		if got, err := rules(t, text)[0].match(t.Context(), vars(authz.Identity{}, authz.Access{Tag: "v1"})); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// TestOrdinaryRulesAreNotCounted: what people write costs little whatever it is asked
// about, and what is in a loop, or may be long, is counted.
func TestOrdinaryRulesAreNotCounted(t *testing.T) {
	for text, want := range map[string]bool{
		"identity.id == 'basic:ci' && request.action in ['pull', 'push']":                true,
		"'dev' in identity.groups || request.repository.startsWith('team/')":             true,
		"request.repository.matches('^team-[0-9]+/[a-z]+$') && request.tag.matches('v')": true,
		"identity.oidc.provider == 'github' && identity.oidc.claims.sub == 'x'":          true,
		"identity.username.matches('(a|aa)+b')":                                          false,
		"request.repository.matches(identity.username)":                                  false,
		"identity.groups.exists(g, g == 'dev')":                                          false,
		"'x' in identity.certificate.uris":                                               false,
	} {
		if r := rules(t, text)[0]; r.counted == want {
			t.Errorf("%s is counted: %v", text, r.counted)
		}
	}
}

// TestCostInAll: rules that cost much each are not asked for ever.
func TestCostInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dear, little := nested(7, "va + vb >= 0"), "identity.id == ''"
		a := vars(authz.Identity{}, authz.Access{})
		a.spent = mostInAll - rule.MostCost // by those before
		var failed []string
		n := name(Rules{Allow: rules(t, dear, dear, nested(1, "va >= 0"), little)}, "p", always(false))
		v := n.decide(t.Context(), authz.Identity{}, authz.Access{}, a, func(rule string, err error) {
			failed = append(failed, fmt.Sprint(rule, " ", errors.Is(err, errInAll)))
		})
		if got, want := strings.Join(failed, ", "), "p.allow[0] false, p.allow[1] true, p.allow[2] true"; got != want || v.by != "p.allow[3]" || v.whole {
			t.Errorf("failed are %s, want %s; %+v", got, want, v)
		}
		n = name(Rules{Default: Allow, Deny: rules(t, dear)}, "p", always(true))
		if v := n.decide(t.Context(), authz.Identity{}, authz.Access{}, a, func(string, error) {}); v.allowed || !errors.Is(v.cause, errInAll) {
			t.Errorf("a rule to deny that was not asked: %+v", v)
		}
		if a.spent > mostInAll+mostMatch {
			t.Errorf("it cost %d", a.spent)
		}
	})
}
