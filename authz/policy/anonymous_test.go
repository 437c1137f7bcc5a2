package policy

import "testing"

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
		"identity.oidc.claims.repository == 'a'":                            fails,
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
		"identity.oidc.claims.x == 'a' ? true : request.tag == 'y'":         fails,
		"['a'].exists(t, t == request.tag)":                                 perhaps,
		"identity.groups.exists(g, g == request.tag)":                       never,
		"dyn(identity).client_ip == ''":                                     perhaps,
		"dyn(request).tag == ''":                                            perhaps,
		"[identity].exists(i, i.client_ip == '10.0.0.1')":                   perhaps,
		"[request].exists(r, r.tag == 'x')":                                 perhaps,
		"dyn(identity.id)":                                                  fails,
		"request.repository.matches('^docker.io/') && identity.id != 'x:y'": perhaps,
	} {
		if got := rules(t, text)[0].foresee("docker.io"); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	if got := (Rule{}).foresee("docker.io"); got != fails {
		t.Errorf("no rule: %d", got)
	}
}

func TestClosed(t *testing.T) {
	people, nobody := rules(t, "identity.authenticated"), rules(t, "!identity.authenticated")
	for _, test := range []struct {
		name string
		all  Rules
		some []Repository
		want bool
	}{
		{"nothing", Rules{}, nil, false},
		{"default allow", Rules{Default: Allow}, nil, false},
		{"default deny", Rules{Default: Deny}, nil, true},
		{"people only", Rules{Allow: people}, nil, true},
		{"people, and all else", Rules{Default: Allow, Allow: people}, nil, false},
		{"nobody is denied", Rules{Deny: nobody}, nil, true},
		{"nobody is denied a tag", Rules{Deny: rules(t, "!identity.authenticated && request.tag == 'x'")}, nil, false},
		{"a rule that fails is not counted on", Rules{Deny: rules(t, "identity.oidc.claims.x == 'a'")}, nil, false},
		{"this upstream is open", Rules{Allow: rules(t, "identity.authenticated || request.upstream == 'docker.io'")}, nil, false},
		{"another upstream is open", Rules{Allow: rules(t, "identity.authenticated || request.upstream == 'ghcr.io'")}, nil, true},
		{"all of it is closed", Rules{}, []Repository{{Pattern: "docker.io/**", Rules: Rules{Deny: nobody}}}, true},
		{"everything is closed", Rules{}, []Repository{{Pattern: "**", Rules: Rules{Default: Deny, Allow: people}}}, true},
		{"some of it is closed", Rules{}, []Repository{{Pattern: "docker.io/corp/**", Rules: Rules{Deny: nobody}}}, false},
		{"a part is open", Rules{}, []Repository{
			{Pattern: "docker.io/**", Rules: Rules{Deny: nobody}}, {Pattern: "docker.io/library/*", Webhook: "opa"},
		}, false},
		{"another is open", Rules{}, []Repository{
			{Pattern: "docker.io/**", Rules: Rules{Deny: nobody}}, {Pattern: "quay.io/library/*"},
		}, true},
		{"without a default what no rule decides is allowed", Rules{}, []Repository{{Pattern: "docker.io/**", Rules: Rules{Allow: people}}}, false},
	} {
		if got := Closed(test.all, test.some, "docker.io/", "docker.io"); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
