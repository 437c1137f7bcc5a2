package policy

import (
	"cmp"
	"slices"
	"strings"
)

// Repository is what an operator says of some repositories, on top of what holds for
// all.
type Repository struct {
	// Pattern is what it is called by. How much of it is literal says how specific it
	// is.
	Pattern string
	// Match reports whether a repository is one of them.
	Match func(repository string) bool
	Rules Rules
	// Webhook is the name of the one that is asked; "": the one that is asked for all;
	// None: none.
	Webhook string
}

// None is the name of no webhook.
const None = "none"

// literal is how many characters of a pattern come before its first wildcard.
func literal(pattern string) int {
	if i := strings.IndexAny(pattern, "*?["); i >= 0 {
		return i
	}
	return len(pattern)
}

// Specificity is negative where pattern a is more specific than b: it has more literal
// characters before its first wildcard, or as many and is longer; and 0 where neither is:
// then the first one holds.
func Specificity(a, b string) int {
	return cmp.Or(cmp.Compare(literal(b), literal(a)), cmp.Compare(len(b), len(a)))
}

// bySpecificity puts the most specific ones first.
func bySpecificity(list []Repository) []Repository {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Repository) int { return Specificity(a.Pattern, b.Pattern) })
	return list
}
