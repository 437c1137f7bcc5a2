package view_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

// many is a place of many repositories, by name.
type many struct {
	here
	names  []string
	looked int // names that were given
}

func (m *many) Repos(_ context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	from, found := slices.BinarySearch(m.names, p.After)
	if found {
		from++
	}
	rest := m.names[from:]
	list := origin.List[origin.Repo]{More: len(rest) > p.N}
	for _, name := range rest[:min(len(rest), p.N)] {
		repo, err := origin.ParseRepo(name)
		if err != nil {
			return list, err
		}
		list.Items = append(list.Items, repo)
	}
	m.looked += len(list.Items)
	return list, nil
}

// A search looks through so many names at a time, and leads on from there: page by page,
// all that matches is found, wherever it is.
func TestSearchLeadsOn(t *testing.T) {
	for _, matching := range [][]int{nil, {11_000}, {5, 24_000}, {5}, {9_999, 10_000}, {24_999}} {
		m := &many{}
		var want []string
		for i := range 25_000 {
			name := fmt.Sprintf("r%05d", i)
			if slices.Contains(matching, i) {
				name += "/wanted"
				want = append(want, name)
			}
			m.names = append(m.names, name)
		}
		v := view.New(view.Options{
			Here: m, Guard: guard.New(m, &rights{}, guard.Options{}),
			Locate: func(_ context.Context, repo origin.Repo) (origin.Repo, string, error) { return repo, "", nil },
		})
		var got []string
		p := origin.Page{N: 100}
		for pages := 0; ; pages++ {
			m.looked = 0
			list, err := v.Repositories(t.Context(), "wanted", p)
			if err != nil || m.looked > 10_000 || pages > 4 {
				t.Fatalf("%v: page %d looked through %d names, %v", matching, pages, m.looked, err)
			}
			for _, r := range list.Items {
				got = append(got, r.Name)
			}
			if list.More != (list.Next != "") {
				t.Errorf("%v: %+v", matching, list)
			}
			if p.After = list.Next; p.After == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("found %v, not %v", got, want)
		}
	}
}
