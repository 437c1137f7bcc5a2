package policy

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin/rule"
)

// FuzzRule: whatever a rule is, it is refused with a place, or it can be asked, fails
// soon, and means the same when it is read back.
func FuzzRule(f *testing.F) {
	for _, s := range []string{
		"", "true", "identity.id == 'basic:ci'", "has(identity.oidc) && identity.oidc.claims.sub == 'x'", "request.tag.matches('^v[0-9]+$')",
		"[1,2,3].all(x, [x].exists(y, y < x))", "dyn(identity)['id'] == \"x\"", "request.time.getHours('Asia/Tokyo') > 3", "identity == request",
		"{'a': request}.a.tag == b'x'", "type(identity) == string", "1 / request.size == 1u", "timestamp('x') < request.time", "duration('1h') > duration('1m')",
		"identity.groups.map(g, g + g).filter(g, g != '')[0] in ['x']", "request.?tag", "\"\\u0000\" == r'\\'", "true ? false : null", ".request.tag == 'x'", "((((", "a.b.c.d", "x'",
	} {
		f.Add(s, "basic:ci", "v1")
	}
	f.Fuzz(func(t *testing.T, text, id, tag string) {
		r, err := ParseRule(text)
		if err != nil {
			if e, ok := errors.AsType[*rule.Error](err); !ok || e.Message == "" || e.Line < 0 || e.Column < 0 {
				t.Fatalf("%q is refused with %#v", text, err)
			}
			return
		}
		if again, err := ParseRule(r.String()); err != nil || again.reads != r.reads || again.loops != r.loops {
			t.Fatalf("%q is not the same when it is read back: %v", text, err)
		}
		who := authz.Identity{ID: id, Groups: []string{id}, OIDC: &authz.OIDC{Claims: map[string]any{id: tag}}}
		what := authz.Access{Action: authz.Pull, Tag: tag, Repository: "a", Time: time.Unix(1, 0)}
		matched, err := r.match(t.Context(), vars(who, what))
		if matched && err != nil {
			t.Fatalf("%q matches and fails: %v", text, err)
		}
		// What it does not read makes no difference to it.
		for field, change := range map[reads]func(*authz.Access){
			readsTag: func(a *authz.Access) { a.Tag += "x" }, readsDigest: func(a *authz.Access) { a.Digest = "x" },
			readsFrom: func(a *authz.Access) { a.From = "x" }, readsOperation: func(a *authz.Access) { a.Operation = "x" },
			readsSize: func(a *authz.Access) { a.Size = 9 }, readsTime: func(a *authz.Access) { a.Time = time.Unix(2, 0) },
		} {
			if r.reads&field != 0 || errors.Is(err, errSlow) {
				continue
			}
			other := what
			change(&other)
			again, failed := r.match(t.Context(), vars(who, other))
			if again != matched && !errors.Is(failed, errSlow) {
				t.Fatalf("%q does not read %b and yet depends on it", text, field)
			}
		}
		known, err := partly(who, "u", false)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.foresee(&asking{vars: known}) // must not panic
	})
}
