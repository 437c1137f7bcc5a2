package mirror

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-registry/weir/origin"
)

// Pages that are merged are the pages of what is merged: nothing is missing, nothing
// comes twice, whatever the length of either side's pages.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOf(rapid.StringMatching(`[a-c]{1,3}`))
		sides := [2][]string{items.Draw(t, "a"), items.Draw(t, "b")}
		want := slices.Concat(sides[0], sides[1])
		slices.Sort(want)
		want = slices.Compact(want)
		for i := range sides {
			slices.Sort(sides[i])
			sides[i] = slices.Compact(sides[i])
		}
		n := rapid.IntRange(1, 5).Draw(t, "n")
		// A side may give less than was asked for, but something.
		most := [2]int{rapid.IntRange(1, n).Draw(t, "most of a"), rapid.IntRange(1, n).Draw(t, "most of b")}
		var got []string
		after := ""
		for more := true; more; {
			var pages [2]origin.List[string]
			for i, side := range sides {
				rest := side[pagesBegin(side, after):]
				pages[i].Items = slices.Clone(rest[:min(most[i], len(rest))])
				pages[i].More = len(rest) > len(pages[i].Items)
			}
			list := merge(pages[0], pages[1], func(s string) string { return s }, n)
			if len(list.Items) > n || len(list.Items) == 0 && list.More {
				t.Fatalf("page after %q: %+v", after, list)
			}
			got = append(got, list.Items...)
			if more = list.More; more {
				after = got[len(got)-1]
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func pagesBegin(items []string, after string) int {
	i, found := slices.BinarySearch(items, after)
	if found {
		i++
	}
	return i
}
