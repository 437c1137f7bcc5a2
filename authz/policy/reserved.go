package policy

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-registry/weir/authz"
)

// byReserved is what denies a push to a name that is the default upstream's.
const byReserved = "mirror.default"

// isReserved reports whether an access would make a name local that is the default
// upstream's for everyone.
func (p *Policy) isReserved(what authz.Access) bool {
	return p.reserved != "" && what.Action == authz.Push && what.Upstream == "" && strings.HasPrefix(what.Repository, p.reserved+"/")
}

// names gives what lets a push through and names the reserved names: a rule for all, or
// what lets it through in an entry for such repositories. failed is told of rules that
// fail.
func (p *Policy) names(ctx context.Context, s *scope, a *asking, failed func(rule string, err error)) (by string, ok bool) {
	lets := func(n *named, all bool) (string, bool) {
		for i, rule := range n.Allow {
			if !all && !mentions(rule.source, p.reserved) {
				continue
			}
			switch matched, err := rule.match(ctx, a); {
			case err != nil:
				failed(n.allow[i], err)
			case matched:
				return n.allow[i], true
			}
		}
		return n.byDefault, all && n.Default == Allow
	}
	if by, ok = lets(p.global.rules, false); ok || s.rules == nil || s == p.global {
		return by, ok
	}
	return lets(s.rules, strings.HasPrefix(s.pattern, p.reserved+"/"))
}

// Claimable reports whether any rule or pattern names the reserved names, so that pushes
// to them may be let through.
func (p *Policy) Claimable() bool {
	named := func(n *named) bool {
		return slices.ContainsFunc(n.Allow, func(r Rule) bool { return mentions(r.source, p.reserved) })
	}
	return p.reserved != "" && (named(p.global.rules) || slices.ContainsFunc(p.repositories, func(s *scope) bool {
		return s.rules != nil && (strings.HasPrefix(s.pattern, p.reserved+"/") || named(s.rules))
	}))
}

// mentions reports whether a rule has names in it whose first component that is.
func mentions(source, component string) bool {
	for rest := source; ; {
		i := strings.Index(rest, component+"/")
		if i < 0 {
			return false
		}
		if i == 0 || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-/", rune(rest[i-1])) {
			return true
		}
		rest = rest[i+1:]
	}
}
