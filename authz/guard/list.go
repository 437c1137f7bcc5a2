package guard

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
)

const (
	// mostDecisions and longestList bound what one request for a list costs; a page is
	// short then, and the next one goes on.
	mostDecisions = 200
	longestList   = 5 * time.Second
	// together is how many decisions of a list are asked for at a time, where each may
	// be a request to somebody else.
	together = 8
)

// Tags implements origin.Reader. Tags that may not be pulled are not in it.
func (g *Guard) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	what, err := g.about(ctx, repo, authz.Access{Action: authz.Pull, Operation: "list-tags"})
	if err != nil {
		return origin.List[string]{}, err
	}
	if err := g.decide(ctx, what); err != nil {
		return origin.List[string]{}, err
	}
	each := what
	each.Operation = "get-manifest"
	f := filter[string]{
		guard: g,
		page:  func(p origin.Page) (origin.List[string], error) { return g.inner.Tags(ctx, repo, p) },
		name:  func(tag string) string { return tag },
		what: func(tag string) authz.Access {
			each.Tag = tag
			return each
		},
	}
	return f.list(ctx, p, g.uniform(each))
}

// Referrers implements origin.Reader. Referrers that may not be pulled are not in it.
func (g *Guard) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	what, err := g.about(ctx, repo, authz.Access{
		Action: authz.Pull, Operation: "get-referrers", Digest: d.String(), ArtifactType: artifactType,
	})
	if err != nil {
		return origin.List[origin.Descriptor]{}, err
	}
	if err := g.decide(ctx, what); err != nil {
		return origin.List[origin.Descriptor]{}, err
	}
	each := authz.Access{Action: authz.Pull, Operation: "get-manifest", Repository: what.Repository, Upstream: what.Upstream}
	f := filter[origin.Descriptor]{
		guard: g,
		page: func(p origin.Page) (origin.List[origin.Descriptor], error) {
			return g.inner.Referrers(ctx, repo, d, artifactType, p)
		},
		name: func(d origin.Descriptor) string { return d.Digest.String() },
		what: func(d origin.Descriptor) authz.Access {
			each.Digest = d.Digest.String()
			return each
		},
	}
	return f.list(ctx, p, g.uniform(each))
}

// Repos implements origin.Catalog. Repositories that may not be pulled from are not in
// it.
func (g *Guard) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	if err := g.decide(ctx, authz.Access{Action: authz.List, Operation: "list-catalog"}); err != nil {
		return origin.List[origin.Repo]{}, err
	}
	f := filter[origin.Repo]{
		guard: g,
		page:  func(p origin.Page) (origin.List[origin.Repo], error) { return g.inner.Repos(ctx, p) },
		name:  origin.Repo.String,
		locate: func(repo origin.Repo) (authz.Access, error) {
			return g.about(ctx, repo, authz.Access{Action: authz.Pull, Operation: "list-catalog"})
		},
	}
	return f.list(ctx, p, false)
}

// uniform reports whether all tags and manifests of a repository are decided on
// alike, so that the one decision on the repository is enough.
func (g *Guard) uniform(what authz.Access) bool {
	u, ok := g.rights.(authz.Uniform)
	return ok && u.Uniform(what.Repository)
}

// filter is a list of which only what may be pulled is shown.
type filter[T any] struct {
	guard  *Guard
	page   func(p origin.Page) (origin.List[T], error)
	name   func(T) string
	what   func(T) authz.Access
	locate func(T) (authz.Access, error) // in place of what, where it may fail
}

// list gives a page. all says that everything may be shown.
func (f filter[T]) list(ctx context.Context, p origin.Page, all bool) (origin.List[T], error) {
	after, err := f.guard.marks.open(p.After)
	if err != nil {
		return origin.List[T]{}, err
	}
	p.After = after
	if all || p.N == 0 {
		return f.page(p)
	}
	var shown origin.List[T]
	until, left := time.Now().Add(longestList), mostDecisions
	for {
		ask := min(p.N-len(shown.Items), left)
		list, err := f.page(origin.Page{After: p.After, N: ask})
		if err != nil {
			return shown, err
		}
		may := f.decisions(ctx, list.Items)
		if ctx.Err() != nil {
			return shown, context.Cause(ctx)
		}
		for i, item := range list.Items {
			if may[i] {
				shown.Items = append(shown.Items, item)
			}
			p.After = f.name(item)
		}
		left -= len(list.Items)
		shown.Source, shown.More = list.Source, list.More
		if list.More && list.Next != "" {
			p.After = list.Next
		}
		switch {
		case !list.More || len(list.Items) == 0:
			return shown, nil
		case len(shown.Items) == p.N, left == 0, time.Now().After(until):
			if n := len(shown.Items); n == 0 || f.name(shown.Items[n-1]) != p.After {
				shown.Next = f.guard.marks.seal(p.After) // a name that is not to be seen
			}
			return shown, nil
		}
	}
}

// decisions says of each item whether it may be shown.
func (f filter[T]) decisions(ctx context.Context, items []T) []bool {
	who, may := Who(ctx), make([]bool, len(items))
	decide := func(i int) {
		what, err := f.about(items[i])
		may[i] = err == nil && who.Scope.AllowsListed(what) && f.guard.may(ctx, who, what) == nil
	}
	if r, ok := f.guard.rights.(authz.Remote); !ok || !r.Remote() {
		for i := range items {
			decide(i)
		}
		return may
	}
	var running errgroup.Group
	running.SetLimit(together)
	for i := range items {
		running.Go(func() error {
			decide(i)
			return nil
		})
	}
	_ = running.Wait() // none fails
	return may
}

func (f filter[T]) about(item T) (authz.Access, error) {
	if f.locate != nil {
		return f.locate(item)
	}
	return f.what(item), nil
}
