package policy

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-registry/weir/authz"
)

var _ authz.Namer = (*Policy)(nil)

// Names implements authz.Namer: an allow rule decided that has the first component of
// the repository's name in its text, or one of, or an allowing default for, a pattern of
// repositories that begins with it.
func (p *Policy) Names(ctx context.Context, who authz.Identity, what authz.Access) bool {
	s := p.scope(what.Repository)
	d := p.byRules(ctx, s, who, what)
	if !d.Allowed {
		return false
	}
	first, _, _ := strings.Cut(what.Repository, "/")
	for by := range strings.SplitSeq(d.By, ", ") {
		if p.global.rules.names(by, first) || s != p.global && s.rules != nil && s.names(by, first) {
			return true
		}
	}
	return false
}

// NamesAny reports whether any rule or pattern names repositories below that first
// component.
func (p *Policy) NamesAny(first string) bool {
	if p.global.rules.mention(first) {
		return true
	}
	return slices.ContainsFunc(p.repositories, func(s *scope) bool {
		return s.rules != nil && (strings.HasPrefix(s.pattern, first+"/") || s.rules.mention(first))
	})
}

// names reports whether what decided is one of the rules, and has the word in it.
func (n *named) names(by, word string) bool {
	i := slices.Index(n.allow, by)
	return i >= 0 && strings.Contains(n.Allow[i].source, word)
}

func (n *named) mention(word string) bool {
	return slices.ContainsFunc(n.Allow, func(r Rule) bool { return strings.Contains(r.source, word) })
}

// names reports whether what decided is for that first component alone.
func (s *scope) names(by, first string) bool {
	if !strings.HasPrefix(s.pattern, first+"/") {
		return s.rules.names(by, first)
	}
	return slices.Contains(s.rules.allow, by) || by == s.rules.byDefault && s.rules.Default == Allow
}
