package mirror

import (
	"context"

	"github.com/weir-registry/weir/origin"
)

// allows reports whether the repository that u calls name is mirrored at all.
func (u *Upstream) allows(name origin.Repo) bool { return u.Allow == nil || u.Allow(name) }

// errUnlisted is the answer for a repository that its upstream's Allow leaves out: the
// same whether anything of it is kept or not, and before anybody is asked.
var errUnlisted = origin.Errorf(origin.ErrNameUnknown, "this repository is not mirrored")

// Repos implements origin.Catalog: the repositories that weir has content of, but for
// those that are not mirrored any more.
func (m *Mirror) Repos(ctx context.Context, page origin.Page) (origin.List[origin.Repo], error) {
	list := origin.List[origin.Repo]{}
	for {
		next, err := m.origin.Repos(ctx, origin.Page{After: page.After, N: page.N - len(list.Items)})
		if err != nil {
			return origin.List[origin.Repo]{}, err
		}
		for _, repo := range next.Items {
			if u, name, ok := m.table.mirrored(repo); !ok || u.allows(name) {
				list.Items = append(list.Items, repo)
			}
		}
		list.More = next.More
		if !next.More || len(next.Items) == 0 || len(list.Items) >= page.N {
			return list, nil
		}
		page.After = next.Items[len(next.Items)-1].String()
	}
}
