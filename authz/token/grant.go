package token

import (
	"context"
	"slices"
	"time"

	"github.com/weir-registry/weir/authz"
)

const (
	// maxDecisions and maxDeciding bound what one token is decided on with, as they do
	// for a list.
	maxDecisions = 200
	maxDeciding  = 5 * time.Second
)

// Locate says which repository a name leads to, as it is for a guard: the name that
// decisions are about, and the upstream that is mirrored there, "" = none. write says
// that it is to be changed. Errors: no repository has such a name.
type Locate func(ctx context.Context, name string, write bool) (full, upstream string, err error)

// granter decides which part of a scope somebody is granted.
type granter struct {
	rights authz.Authorizer
	locate Locate
	who    authz.Identity
	left   int // decisions
}

// grant gives what of a scope the policy grants. Names are those that they lead to: a
// client knows what it asks for by the name that it calls it, and what it uses is
// decided on by the name that it has here.
func (g *granter) grant(ctx context.Context, asked authz.Scope) authz.Scope {
	ctx, cancel := context.WithTimeout(ctx, maxDeciding)
	defer cancel()
	granted := authz.Scope{}
	for _, a := range asked {
		switch a.Type {
		case "repository":
			for _, r := range g.repository(ctx, a) {
				granted = merge(granted, r)
			}
		case "registry":
			if a.Name == "catalog" && slices.Contains(a.Actions, "*") && g.catalog(ctx) {
				granted = merge(granted, authz.Grant{Type: a.Type, Name: a.Name, Actions: []string{"*"}})
			}
		}
	}
	return granted
}

// repository gives the grants of one repository: two where what is read and what is
// written under a name are different ones.
func (g *granter) repository(ctx context.Context, asked authz.Grant) authz.Scope {
	wants := func(a authz.Action) bool {
		if slices.Contains(asked.Actions, string(a)) {
			return true
		}
		return slices.Contains(asked.Actions, "*") && (a == authz.Pull || a == authz.Push || a == authz.Delete)
	}
	var s authz.Scope
	add := func(full, upstream string, action authz.Action) {
		if wants(action) && g.may(ctx, authz.Access{Action: action, Repository: full, Upstream: upstream}) {
			s = merge(s, authz.Grant{Type: asked.Type, Name: full, Actions: []string{string(action)}})
		}
	}
	read, upstream, err := g.locate(ctx, asked.Name, false)
	if err != nil {
		read = ""
	}
	written, writtenUpstream := "", ""
	if wants(authz.Push) {
		if written, writtenUpstream, err = g.locate(ctx, asked.Name, true); err != nil {
			written = ""
		}
	}
	for _, action := range authz.Actions() {
		if read != "" && action != authz.Push {
			add(read, upstream, action)
		}
		// Who pushes looks at what they have pushed.
		if written != "" && (action == authz.Push || action == authz.Pull && written != read) {
			add(written, writtenUpstream, action)
		}
	}
	return s
}

// catalog decides on what is of no repository.
func (g *granter) catalog(ctx context.Context) bool {
	return g.ask(ctx, authz.Access{Action: authz.List, Operation: "list-catalog"}) || g.ask(ctx, authz.Access{Action: authz.Admin})
}

// may reports whether an action is granted in any of the ways in which it is done: a
// rule may tell them apart, and which of them is meant is known when the token is used.
func (g *granter) may(ctx context.Context, what authz.Access) bool {
	if g.ask(ctx, what) {
		return true
	}
	if u, ok := g.rights.(authz.Uniform); ok && u.Uniform(what.Repository) {
		return false
	}
	for _, operation := range operations(what.Action) {
		what.Operation = operation
		if g.ask(ctx, what) {
			return true
		}
	}
	return false
}

// operations are those of an action, as an authz.Access names them, the usual ones first.
func operations(a authz.Action) []string {
	switch a {
	case authz.Pull:
		return []string{"get-manifest", "get-blob", "list-tags", "get-referrers"}
	case authz.Push:
		return []string{"start-upload", "put-manifest", "mount-blob"}
	case authz.Delete:
		return []string{"delete-manifest", "delete-tag", "delete-blob"}
	default:
		return nil
	}
}

// ask asks the policy once; what cannot be decided is not granted.
func (g *granter) ask(ctx context.Context, what authz.Access) bool {
	if g.left == 0 || ctx.Err() != nil {
		return false
	}
	g.left--
	what.Time = time.Now()
	return g.rights.Authorize(ctx, g.who, what) == nil
}
