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

// bySpecificity puts the most specific ones first: those with the most literal
// characters before the first wildcard, then the longest, then the first.
func bySpecificity(list []Repository) []Repository {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Repository) int {
		return cmp.Or(cmp.Compare(literal(b.Pattern), literal(a.Pattern)), cmp.Compare(len(b.Pattern), len(a.Pattern)))
	})
	return list
}
