package remote

import (
	"context"
	"fmt"
	"net/http"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// ask sends a request about a repository, with what it takes to be let in, and
// once more if it was not and there is something else to ask with. The caller
// closes the answer's body, whatever its status.
func (r *Registry) ask(ctx context.Context, repo origin.Repo, q egress.Request) (*answer, error) {
	return r.askAs(ctx, r.pulling(repo), q)
}

// pulling is the scope that it takes to read from a repository.
func (r *Registry) pulling(repo origin.Repo) string { return "repository:" + r.name(repo) + ":pull" }

// askAs is ask with what it takes for a scope. A body that is gone is not sent again.
func (r *Registry) askAs(ctx context.Context, scope string, q egress.Request) (*answer, error) {
	g, err := r.keys.grant(ctx, scope)
	if err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		a, err := follow(ctx, r.out, q, g.authorization)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.Method, q.URL.Path, err)
		}
		if limit, remaining, window, ok := readLimit(a.Header); ok && !a.Led {
			r.onLimit(limit, remaining, window)
		}
		// What another host refuses is no matter of the endpoint's credentials.
		if again || a.Led || q.Body != nil || !lapsed(a, q.Method) {
			return a, nil
		}
		next, ok, err := r.keys.again(ctx, g, a)
		if err != nil {
			a.Discard()
			return nil, err
		}
		if !ok {
			return a, nil
		}
		a.Discard()
		g = next
	}
}

// lapsed reports whether a refusal may be about the token alone: any 401, and a
// 403 that says so or has no body to say anything.
func lapsed(a *answer, method string) bool {
	switch a.StatusCode {
	case http.StatusUnauthorized:
		return true
	case http.StatusForbidden:
		return method == http.MethodHead || a.saysExpired()
	}
	return false
}
