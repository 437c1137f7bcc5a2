package mirror

import (
	"cmp"
	"slices"
	"strings"

	"github.com/weir-registry/weir/origin"
)

// merge makes one page of at most n items of two that begin after the same item and
// are in the order of key. An item that both have is a's. Its Source is a's.
//
// Of a list that has more, nothing is known behind its last item: what the other one
// has there waits for the next page.
func merge[T any](a, b origin.List[T], key func(T) string, n int) origin.List[T] {
	merged := origin.List[T]{More: a.More || b.More, Source: a.Source}
	items := slices.Concat(a.Items, b.Items)
	slices.SortStableFunc(items, func(x, y T) int { return strings.Compare(key(x), key(y)) })
	items = slices.CompactFunc(items, func(x, y T) bool { return key(x) == key(y) })
	for _, l := range []origin.List[T]{a, b} {
		if l.More && len(l.Items) > 0 {
			end, _ := slices.BinarySearchFunc(items, key(l.Items[len(l.Items)-1])+"\x00",
				func(x T, last string) int { return cmp.Compare(key(x), last) })
			items = items[:end]
		}
	}
	if n = max(0, n); len(items) > n {
		items, merged.More = items[:n], true
	}
	merged.Items = items
	return merged
}
