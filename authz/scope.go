package authz

import (
	"slices"
	"strings"
)

// Scope is what a token may be used for (distribution's token specification,
// "Resource scope grammar"): a list of grants. nil is no bound at all, an empty Scope
// allows nothing.
type Scope []Grant

// Grant is one resource of a scope, and what may be done to it.
type Grant struct {
	Type    string   `json:"type"` // repository or registry
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// Allows reports whether a scope covers an access. What is about no repository is the
// catalog's.
func (s Scope) Allows(what Access) bool {
	if s == nil {
		return true
	}
	kind, name, action := "repository", what.Repository, string(what.Action)
	if name == "" {
		kind, name, action = "registry", "catalog", "*"
	}
	return slices.ContainsFunc(s, func(g Grant) bool {
		return g.Type == kind && g.Name == name && slices.ContainsFunc(g.Actions, func(a string) bool { return a == action || a == "*" })
	})
}

// AllowsListed reports whether what may be pulled is shown in a list that the scope
// allows: a token for the catalog names no repositories.
func (s Scope) AllowsListed(what Access) bool {
	return s.Allows(what) || s.Allows(Access{Action: List})
}

// String is the scope as it is written in a challenge.
func (s Scope) String() string {
	var parts []string
	for _, g := range s {
		parts = append(parts, g.Type+":"+g.Name+":"+strings.Join(g.Actions, ","))
	}
	return strings.Join(parts, " ")
}

// Needs is the scope that an access needs.
func Needs(what Access) Scope {
	if what.Repository == "" {
		return Scope{{Type: "registry", Name: "catalog", Actions: []string{"*"}}}
	}
	actions := []string{string(what.Action)}
	if what.Action == Push {
		actions = []string{string(Pull), string(Push)} // clients look before they push
	}
	return Scope{{Type: "repository", Name: what.Repository, Actions: actions}}
}
