package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
)

// ordinary are fifty rules as people write them, of which only the last one matches.
func ordinary() []string {
	var texts []string
	for i := range 49 {
		texts = append(texts, []string{
			fmt.Sprintf("identity.id == 'basic:ci-%d' && request.repository.startsWith('team%d/')", i, i),
			fmt.Sprintf("'team-%d' in identity.groups && request.action in ['pull', 'push']", i),
			fmt.Sprintf("identity.oidc.provider == 'github' && has(identity.oidc.claims.repository) && identity.oidc.claims.repository == 'org/app%d'", i),
			fmt.Sprintf("request.action == 'push' && request.tag.matches('^v%d\\\\.[0-9]+$')", i),
			fmt.Sprintf("identity.certificate.organizations.exists(o, o == 'nodes-%d') && request.upstream != ''", i),
		}[i%5])
	}
	return append(texts, "identity.authenticated && request.action == 'pull'")
}

// someone has all that rules look at.
func someone() (authz.Identity, authz.Access) {
	who := authz.Identity{
		ID: "oidc:github:x", Username: "x", Groups: []string{"a", "b", "c"}, Method: authz.MethodOIDC,
		OIDC: &authz.OIDC{Provider: "github", Subject: "x", Claims: map[string]any{"repository": "org/other", "ref": "refs/heads/main", "sub": "x"}},
	}
	what := authz.Access{
		Action: authz.Pull, Operation: "get-manifest", Repository: "docker.io/library/nginx", Upstream: "docker.io", Tag: "1.27", Time: time.Now(),
	}
	return who, what
}

// BenchmarkDecide: fifty rules, asked anew and kept; and what nothing but the built-in
// default decides.
func BenchmarkDecide(b *testing.B) {
	var parsed []Rule
	for _, text := range ordinary() {
		r, err := ParseRule(text)
		if err != nil {
			b.Fatal(err)
		}
		parsed = append(parsed, r)
	}
	who, what := someone()
	run := func(name string, o Options, change bool) {
		b.Run(name, func(b *testing.B) {
			p, err := New(o)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if change {
					what.Tag = fmt.Sprint(i)
				}
				if d := p.Decide(b.Context(), who, what); !d.Allowed || strings.Contains(d.By, "webhook") {
					b.Fatal(d)
				}
			}
		})
	}
	run("anew", Options{Global: Rules{Allow: parsed}}, true)
	run("kept", Options{Global: Rules{Allow: parsed}}, false)
	run("default", Options{}, false)
}
