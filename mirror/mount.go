package mirror

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Mount implements origin.Writer. It links what is kept; it fetches nothing.
func (m *Mirror) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	to, err := m.pushable(ctx, to)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if from.IsZero() {
		return m.mountAny(ctx, to, d)
	}
	p, err := m.locate(ctx, from)
	if err != nil {
		return origin.Descriptor{}, err
	}
	return m.origin.Mount(ctx, p.repo, to, d)
}

const (
	// mountRepos is how many local repositories are looked into for a blob that is to be
	// mounted from anywhere. A client that is told no uploads it.
	mountRepos = 1000
	// mountPage is how many are listed at a time.
	mountPage = 100
)

// mountAny mounts a blob from whichever local repository has it. Not from a mirrored
// one: what its upstream shows under one name is nobody's to take by its digest alone.
func (m *Mirror) mountAny(ctx context.Context, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if desc, err := m.origin.Stat(ctx, to, d); !origin.Unknown(err) {
		return desc, err
	}
	after := ""
	for left := mountRepos; left > 0; {
		list, err := m.origin.Repos(ctx, origin.Page{After: after, N: mountPage})
		if err != nil {
			return origin.Descriptor{}, origin.Wrap(origin.ErrBlobUnknown, err) // an upload does not need a list
		}
		if len(list.Items) == 0 {
			break
		}
		after = list.Items[len(list.Items)-1].String()
		for _, repo := range list.Items {
			if _, _, ok := m.table.mirrored(repo); ok {
				after = repo.First() + "/~" // behind all of that upstream's
				list.More = true
				break
			}
			left--
			desc, err := m.origin.Mount(ctx, repo, to, d)
			if !origin.Unknown(err) {
				return desc, err
			}
		}
		if !list.More {
			break
		}
	}
	return origin.Descriptor{}, origin.ErrBlobUnknown
}
