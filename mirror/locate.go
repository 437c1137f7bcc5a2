package mirror

import (
	"context"
	"errors"

	"github.com/weir-registry/weir/origin"
)

// Locate gives the full name of the repository that a name leads to, and the upstream
// that it is mirrored from; "": it is local. write says that it is to be pushed to, which
// makes a name without an upstream local. No upstream is asked.
//
// What is not mirrored (Upstream.Allow) has a name all the same: whoever decides on names
// decides on it before it is said that there is nothing.
func (m *Mirror) Locate(ctx context.Context, repo origin.Repo, write bool) (full origin.Repo, upstream string, err error) {
	if u, name, ok := m.table.mirrored(repo); ok {
		full, err := u.repo(name)
		return full, u.Name, err
	}
	if write || m.table.standard == nil {
		return repo, "", nil
	}
	p, err := m.locate(ctx, repo)
	switch {
	case errors.Is(err, errUnlisted):
		return repo, "", nil
	case err != nil || p.upstream == nil:
		return repo, "", err
	default:
		return p.repo, p.upstream.Name, nil
	}
}
