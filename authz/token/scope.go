package token

import (
	"slices"
	"strings"

	"github.com/weir-registry/weir/authz"
)

// maxGrants is how many resources one token is asked for at most; what comes after them
// is not granted. A push with mounts asks for a few.
const maxGrants = 32

// ParseScope parses scopes as they are asked for (distribution's token specification,
// "Resource scope grammar"): type:name:action,action, several with spaces between them.
// A name may hold colons. What is none is left out, and so are actions that nobody is
// granted; the same resource twice is one, with the actions of both.
func ParseScope(texts ...string) authz.Scope {
	s := authz.Scope{}
	for _, text := range texts {
		for one := range strings.FieldsSeq(text) {
			if g, ok := parseGrant(one); ok {
				s = merge(s, g)
			}
			if len(s) == maxGrants {
				return s
			}
		}
	}
	return s
}

func parseGrant(s string) (authz.Grant, bool) {
	first, last := strings.IndexByte(s, ':'), strings.LastIndexByte(s, ':')
	if first <= 0 || last <= first+1 || last == len(s)-1 {
		return authz.Grant{}, false
	}
	g := authz.Grant{Type: s[:first], Name: s[first+1 : last]}
	for action := range strings.SplitSeq(s[last+1:], ",") {
		if grantable(action) && !slices.Contains(g.Actions, action) {
			g.Actions = append(g.Actions, action)
		}
	}
	return g, len(g.Actions) > 0
}

// grantable reports whether an action can be in a grant. However many others there are,
// they are not looked through for each other.
func grantable(action string) bool {
	return action == "*" || slices.Contains(authz.Actions(), authz.Action(action))
}

// merge adds a grant to a scope.
func merge(s authz.Scope, g authz.Grant) authz.Scope {
	i := slices.IndexFunc(s, func(h authz.Grant) bool { return h.Type == g.Type && h.Name == g.Name })
	if i < 0 {
		return append(s, g)
	}
	for _, action := range g.Actions {
		if !slices.Contains(s[i].Actions, action) {
			s[i].Actions = append(s[i].Actions, action)
		}
	}
	return s
}
