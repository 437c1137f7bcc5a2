package policy

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-registry/weir/authz"
)

// TestKept: a decision is kept under all that its rules read, and nothing else.
func TestKept(t *testing.T) {
	base := authz.Access{Action: authz.Pull, Repository: "team/app", Operation: "get-manifest", Tag: "v1", Digest: "sha256:0", Upstream: "u", From: "f", ArtifactType: "a", MediaType: "m", Size: 7}
	for rule, parts := range map[string]string{
		"identity.id == 'x'":                        "Action Repository",
		"request.tag == 'x'":                        "Action Repository Tag",
		"request.digest == 'x'":                     "Action Repository Digest",
		"request.operation == 'x'":                  "Action Repository Operation",
		"request.upstream == 'x'":                   "Action Repository Upstream",
		"request.from == 'x'":                       "Action Repository From",
		"request.artifact_type == request.tag":      "Action Repository ArtifactType Tag",
		"request.media_type == 'x'":                 "Action Repository MediaType",
		"request.size == 1":                         "Action Repository Size",
		"dyn(request).tag == 'x' || 'y' == 'z'":     "",
		"request.time == timestamp(0) && false":     "",
		"has(identity.oidc.claims.x) && 'a' == 'b'": "Action Repository",
	} {
		p := open(t, Options{Global: Rules{Default: Allow, Deny: rules(t, rule)}})
		p.Decide(t.Context(), ci, base)
		p.Decide(t.Context(), ci, base)
		if want := min(1, len(parts)); p.kept.Len() != want {
			t.Errorf("%s: %d are kept, want %d", rule, p.kept.Len(), want)
		}
		if parts == "" {
			continue
		}
		kind := reflect.TypeFor[authz.Access]()
		for i := range kind.NumField() {
			other, name := base, kind.Field(i).Name
			switch f := reflect.ValueOf(&other).Elem().Field(i); f.Kind() {
			case reflect.String:
				f.SetString("other")
			case reflect.Int64:
				f.SetInt(8)
			default:
				f.Set(reflect.ValueOf(time.Now()))
			}
			before := p.kept.Len()
			p.Decide(t.Context(), ci, other)
			if added, want := p.kept.Len() > before, strings.Contains(" "+parts+" ", " "+name+" "); added != want {
				t.Errorf("%s: another %s is another question: %v", rule, name, added)
			}
		}
		before := p.kept.Len()
		p.Decide(t.Context(), eve, base)
		if p.kept.Len() != before+1 {
			t.Errorf("%s: somebody else is not asked about", rule)
		}
	}
}

// TestGroupsChange: who loses a group loses what it gave, at once. CVE-2025-23208.
func TestGroupsChange(t *testing.T) {
	p := open(t, Options{Global: Rules{Allow: rules(t, "'a' in identity.groups")}})
	was, is := ci, ci
	was.Groups, is.Groups = []string{"a", "b"}, []string{"b"}
	for range 3 {
		if !p.Decide(t.Context(), was, to(authz.Pull, "x")).Allowed || p.Decide(t.Context(), is, to(authz.Pull, "x")).Allowed {
			t.Fatal("a group that is gone still counts")
		}
	}
}

// TestNotKept: what failed, and what a client made long, is asked again.
func TestNotKept(t *testing.T) {
	p := open(t, Options{Global: Rules{Default: Allow, Allow: rules(t, "identity.oidc.claims.x == 'y'")}})
	p.Decide(t.Context(), ci, to(authz.Pull, "a"))
	if p.kept.Len() != 0 {
		t.Error("a decision in which a rule failed is kept")
	}
	p = open(t, Options{Global: Rules{Default: Allow, Deny: rules(t, "request.artifact_type == 'x'")}})
	p.Decide(t.Context(), ci, authz.Access{Action: authz.Pull, ArtifactType: strings.Repeat("x", 4<<10)})
	if p.kept.Len() != 0 {
		t.Error("a long question is kept")
	}
	p.Decide(t.Context(), authz.Identity{ID: "oidc:x:" + strings.Repeat("x", longestKept)}, to(authz.Pull, "a"))
	if p.kept.Len() != 0 {
		t.Error("a long name of who asks is kept")
	}
}

// TestKeptIsBounded: many questions take no more room than mostKept.
func TestKeptIsBounded(t *testing.T) {
	p := open(t, Options{})
	for i := range mostKept + 100 {
		p.Decide(t.Context(), nobody, to(authz.Pull, fmt.Sprint("r", i)))
	}
	if p.kept.Len() != mostKept {
		t.Errorf("%d are kept", p.kept.Len())
	}
}

// TestPatternsAreAskedOnce: which rules hold for a repository is found once, for the name as it
// is to its last byte, by the Policy that has them, and for so many names.
func TestPatternsAreAskedOnce(t *testing.T) {
	asked := map[string]int{}
	with := func(d Default) *Policy {
		return open(t, Options{Repositories: []Repository{{Pattern: "team/**", Match: func(name string) bool {
			asked[name]++
			return strings.HasPrefix(name, "team/")
		}, Rules: Rules{Default: d}}}})
	}
	p := with(Deny)
	long := strings.Repeat("x", longestKept+1)
	for range 3 {
		for name, want := range map[string]string{
			"team/a": "deny repositories[team/**].policy.default", "teamsa": "allow authz.policy.default", long: "allow authz.policy.default",
		} {
			if got := says(p.Decide(t.Context(), ci, to(authz.Pull, name))); !strings.HasPrefix(got, want) {
				t.Errorf("%.10s: %s, want %s", name, got, want)
			}
		}
	}
	if asked["team/a"] != 1 || asked["teamsa"] != 1 || asked[long] != 3 || p.found.Len() != 2 {
		t.Errorf("%d and %d times, a long one %d; %d are remembered", asked["team/a"], asked["teamsa"], asked[long], p.found.Len())
	}
	// After a reload it is another Policy.
	if d := with(Allow).Decide(t.Context(), ci, to(authz.Pull, "team/a")); !d.Allowed || asked["team/a"] != 2 {
		t.Errorf("another one: %s, asked %d times", says(d), asked["team/a"])
	}
	for i := range mostFound + 100 {
		p.scope(fmt.Sprint("r", i))
	}
	if p.found.Len() != mostFound {
		t.Errorf("%d are remembered", p.found.Len())
	}
}

// TestKeptIsTheSame: whatever is asked, in whatever order, a Policy that has been asked
// much says the same as one that is new.
func TestKeptIsTheSame(t *testing.T) {
	texts := []string{
		"identity.authenticated", "identity.id == 'basic:a'", "'g' in identity.groups", "identity.client_ip == '192.0.2.1'", "identity.method == 'token'",
		"identity.username == 'a'", "has(identity.certificate)", "identity.certificate.common_name == 'a'", "'a' in identity.certificate.uris",
		"has(identity.oidc)", "identity.oidc.provider == 'a'", "identity.oidc.claims.ref == 'a'", "dyn(identity).id == 'basic:a'",
		"request.action == 'pull'", "request.operation == 'a'", "request.repository == 'team/a'", "request.upstream == 'a'", "request.tag == 'a'",
		"request.digest == 'a'", "request.from == 'a'", "request.artifact_type == 'a'", "request.media_type == 'a'", "request.size == 1",
		"dyn(request).tag == 'a'", "request.tag == request.digest", "[request].exists(r, r.from == 'a')", "dyn(request.tag)",
	}
	parsed := rules(t, texts...)
	word := rapid.SampledFrom([]string{"", "a", "b"})
	list := rapid.SliceOfN(rapid.SampledFrom(parsed), 0, 3)
	policies := rapid.Custom(func(t *rapid.T) Rules {
		return Rules{rapid.SampledFrom([]Default{Unset, Allow, Deny}).Draw(t, "default"), list.Draw(t, "allow"), list.Draw(t, "deny")}
	})
	rapid.Check(t, func(rt *rapid.T) {
		o := Options{
			Global: policies.Draw(rt, "global"), Private: rapid.Bool().Draw(rt, "private"),
			Repositories: []Repository{{Pattern: "team/**", Match: below("team"), Rules: policies.Draw(rt, "team")}},
		}
		asked := open(t, o)
		for range rapid.IntRange(1, 30).Draw(rt, "questions") {
			who := authz.Identity{
				ID: rapid.SampledFrom([]string{"", "basic:a", "basic:b"}).Draw(rt, "id"), Username: word.Draw(rt, "username"),
				Groups: rapid.SliceOfN(rapid.SampledFrom([]string{"g", "h"}), 0, 2).Draw(rt, "groups"),
				Method: rapid.SampledFrom([]authz.Method{authz.MethodNone, authz.MethodToken}).Draw(rt, "method"),
				Client: authz.Client{IP: netip.MustParseAddr(rapid.SampledFrom([]string{"192.0.2.1", "127.0.0.1"}).Draw(rt, "ip")), Local: rapid.Bool().Draw(rt, "local")},
			}
			if rapid.Bool().Draw(rt, "certificate") {
				who.Certificate = &authz.Certificate{CommonName: word.Draw(rt, "cn"), URIs: []string{word.Draw(rt, "uri")}}
			}
			if rapid.Bool().Draw(rt, "oidc") {
				who.OIDC = &authz.OIDC{Provider: word.Draw(rt, "provider"), Claims: map[string]any{word.Draw(rt, "claim"): "x", "ref": word.Draw(rt, "ref")}}
			}
			what := authz.Access{
				Action: rapid.SampledFrom(authz.Actions()).Draw(rt, "action"), Operation: word.Draw(rt, "operation"),
				Repository: rapid.SampledFrom([]string{"", "team/a", "team/b", "other"}).Draw(rt, "repository"),
				Upstream:   word.Draw(rt, "upstream"), Tag: word.Draw(rt, "tag"), Digest: word.Draw(rt, "digest"), From: word.Draw(rt, "from"),
				ArtifactType: word.Draw(rt, "artifact"), MediaType: word.Draw(rt, "media"), Size: rapid.Int64Range(0, 2).Draw(rt, "size"),
			}
			got, want := asked.Decide(t.Context(), who, what), open(t, o).Decide(t.Context(), who, what)
			if says(got) != says(want) {
				rt.Fatalf("%s, but anew %s: %+v, %+v", says(got), says(want), who, what)
			}
		}
	})
}
