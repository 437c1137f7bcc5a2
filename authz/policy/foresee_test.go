package policy

import (
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin/rule"
)

func rules(t testing.TB, texts ...string) []Rule {
	t.Helper()
	var list []Rule
	for _, text := range texts {
		r, err := ParseRule(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		list = append(list, r)
	}
	return list
}

func TestForesee(t *testing.T) {
	known, err := partly(authz.Identity{Method: authz.MethodNone}, "docker.io", false)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]foreseen{
		"true":                                                              surely,
		"false":                                                             never,
		"identity.authenticated":                                            never,
		"!identity.authenticated":                                           surely,
		"identity.id == ''":                                                 surely,
		"identity.id == 'basic:ci'":                                         never,
		"identity.id != ''":                                                 never,
		"identity.username.startsWith('a')":                                 never,
		"'admins' in identity.groups":                                       never,
		"identity.method == 'none'":                                         surely,
		"has(identity.oidc)":                                                never,
		"has(identity.certificate)":                                         never,
		"identity.oidc.provider == 'github'":                                never,
		"identity.oidc.claims.repository == 'a'":                            never,
		"identity.client_ip.startsWith('10.')":                              perhaps,
		"request.action == 'pull'":                                          surely,
		"request.action == 'push'":                                          never,
		"request.action in ['pull', 'push']":                                surely,
		"request.upstream == 'docker.io'":                                   surely,
		"request.upstream == ''":                                            never,
		"request.repository.startsWith('docker')":                           perhaps,
		"request.tag == 'x'":                                                perhaps,
		"has(request.tag)":                                                  perhaps,
		"request.size > 7":                                                  perhaps,
		"request.time.getHours() < 7":                                       perhaps,
		"identity.authenticated && request.tag == 'x'":                      never,
		"request.tag == 'x' && identity.authenticated":                      never,
		"request.tag == 'x' || identity.authenticated":                      perhaps,
		"identity.oidc.claims.x == 'a' || request.tag == 'y'":               perhaps,
		"request.tag == 'y' || identity.oidc.claims.x == 'a'":               perhaps,
		"request.tag == 'y' ? identity.oidc.claims.x == 'a' : true":         perhaps,
		"identity.oidc.claims.x == 'a' ? true : request.tag == 'y'":         never,
		"['a'].exists(t, t == request.tag)":                                 perhaps,
		"identity.groups.exists(g, g == request.tag)":                       never,
		"dyn(identity).client_ip == ''":                                     perhaps,
		"dyn(request).tag == ''":                                            perhaps,
		"[identity].exists(i, i.client_ip == '10.0.0.1')":                   perhaps,
		"[request].exists(r, r.tag == 'x')":                                 perhaps,
		"dyn(identity.id)":                                                  never,
		"request.repository.matches('^docker.io/') && identity.id != 'x:y'": perhaps,
		"request.tag == 'x' || " + nested(7, "va + vb >= 0"):                perhaps, // too dear, until the tag is known
	} {
		if got := rules(t, text)[0].foresee(&asking{vars: known}); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	if got := (Rule{}).foresee(&asking{vars: known}); got != perhaps {
		t.Errorf("no rule: %d", got)
	}
}

// TestForeseeInAll: what it costs to foresee has a bound, and what is beyond it is not
// known.
func TestForeseeInAll(t *testing.T) {
	known, err := partly(nobody, "docker.io", false)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody may, says the last rule, if it is asked.
	p := open(t, Options{Global: Rules{Default: Allow, Deny: rules(t, nested(7, "va + vb >= 0"), "!identity.authenticated")}})
	for spent, want := range map[uint64]bool{0: false, mostInAll - rule.MostCost: true, mostInAll: true} {
		a := &asking{vars: known, spent: spent}
		if got := p.global.rules.possible(a, nobody); got != want || a.spent > mostInAll+mostMatch {
			t.Errorf("after %d: %v, and then %d", spent, got, a.spent)
		}
	}
}
