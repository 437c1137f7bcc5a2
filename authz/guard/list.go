package guard

import (
	"context"
	"errors"
	"slices"
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
	f := filter[string]{
		guard: g,
		of:    "tags of " + what.Repository,
		page:  func(p origin.Page) (origin.List[string], error) { return g.inner.Tags(ctx, repo, p) },
		name:  func(tag string) string { return tag },
		what: func(tag string) (authz.Access, error) {
			each := what
			each.Operation, each.Tag = "get-manifest", tag
			return each, nil
		},
	}
	return f.list(ctx, p, g.uniform(what.Repository))
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
	f := filter[origin.Descriptor]{
		guard: g,
		of:    "referrers of " + d.String() + " in " + what.Repository + " of type " + artifactType,
		page: func(p origin.Page) (origin.List[origin.Descriptor], error) {
			return g.inner.Referrers(ctx, repo, d, artifactType, p)
		},
		name: func(d origin.Descriptor) string { return d.Digest.String() },
		what: func(d origin.Descriptor) (authz.Access, error) { // as whoever pulls it by its digest asks
			return authz.Access{
				Action: authz.Pull, Operation: "get-manifest",
				Repository: what.Repository, Upstream: what.Upstream, Digest: d.Digest.String(),
			}, nil
		},
	}
	return f.list(ctx, p, g.uniform(what.Repository))
}

// Repos implements origin.Catalog. Repositories that may not be pulled from are not in
// it.
func (g *Guard) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	if err := g.decide(ctx, authz.Access{Action: authz.List, Operation: "list-catalog"}); err != nil {
		return origin.List[origin.Repo]{}, err
	}
	f := filter[origin.Repo]{
		guard: g,
		of:    "catalog",
		page:  func(p origin.Page) (origin.List[origin.Repo], error) { return g.inner.Repos(ctx, p) },
		name:  origin.Repo.String,
		what: func(repo origin.Repo) (authz.Access, error) {
			return g.about(ctx, repo, authz.Access{Action: authz.Pull, Operation: "list-catalog"})
		},
	}
	return f.list(ctx, p, g.everywhere(ctx))
}

// Listing is a list of what repositories have, which somebody has by another way than a
// registry's methods.
type Listing[T any] struct {
	Of   string                                        // which list it is: a mark of one is none of another
	Page func(p origin.Page) (origin.List[T], error)   // of all there is, in the order of Name
	Name func(T) string                                // what the page after it comes after
	What func(T) (repo origin.Repo, what authz.Access) // what whoever asks must be allowed to be shown it
}

// List gives a page of a listing as the guard's own lists are: without what may not be
// pulled, and after at most as many decisions, and as much time. Its Next is set wherever
// there is More. Whether whoever asks may list at all was decided before.
func List[T any](ctx context.Context, g *Guard, l Listing[T], p origin.Page) (origin.List[T], error) {
	f := filter[T]{
		guard: g, of: l.Of, page: l.Page, name: l.Name,
		what: func(item T) (authz.Access, error) {
			repo, what := l.What(item)
			return g.about(ctx, repo, what)
		},
	}
	list, err := f.list(ctx, p, false)
	if n := len(list.Items); list.More && list.Next == "" && n > 0 {
		list.Next = l.Name(list.Items[n-1])
	}
	return list, err
}

// uniform reports whether all tags and manifests of a repository are decided on
// alike, so that the one decision on the repository is enough; "": all repositories.
func (g *Guard) uniform(repository string) bool {
	u, ok := g.rights.(authz.Uniform)
	return ok && u.Uniform(repository)
}

// everywhere reports whether whoever asks may pull from every repository, and that is
// one decision.
func (g *Guard) everywhere(ctx context.Context) bool {
	who := Who(ctx)
	return who.Scope == nil && g.uniform("") && g.may(ctx, who, authz.Access{Action: authz.Pull, Operation: "list-catalog"}) == nil
}

// filter is a list of which only what may be pulled is shown.
type filter[T any] struct {
	guard *Guard
	of    string // which list it is, for its marks
	page  func(p origin.Page) (origin.List[T], error)
	name  func(T) string
	what  func(T) (authz.Access, error) // many may be asked for at a time
}

// list gives a page. all says that everything may be shown.
func (f filter[T]) list(ctx context.Context, p origin.Page, all bool) (origin.List[T], error) {
	after, err := f.guard.marks.open(f.of, p.After)
	if err != nil {
		return origin.List[T]{}, err
	}
	p.After = after
	if all {
		return f.page(p)
	}
	if p.N <= 0 { // only whether there is such a list
		list, err := f.page(p)
		return origin.List[T]{Source: list.Source}, err
	}
	var shown origin.List[T]
	left := mostDecisions
	page := func() (origin.List[T], error) {
		return f.page(origin.Page{After: p.After, N: min(p.N-len(shown.Items), left)})
	}
	list, err := page()
	if err != nil {
		return shown, err
	}
	until, stop := context.WithTimeoutCause(ctx, longestList, errLongest) // the time that a list takes is not counted
	defer stop()
	for {
		// One that ends early has looked for long, or is heavy: ours ends there too.
		short := len(list.Items) < min(p.N-len(shown.Items), left)
		may, n := f.decisions(until, list.Items)
		if ctx.Err() != nil {
			return shown, context.Cause(ctx)
		}
		if n == 0 && left == mostDecisions && len(list.Items) > 0 {
			n = 1 // it took all the time there is: not to be shown, or the next page would end here too
		}
		if n < len(list.Items) {
			list.Items, list.More, list.Next = list.Items[:n], true, ""
		}
		for i, item := range list.Items {
			if may[i] {
				shown.Items = append(shown.Items, item)
			}
			p.After = f.name(item)
		}
		left -= n
		shown.Source, shown.More = list.Source, list.More
		if list.More && list.Next != "" {
			p.After = list.Next
		}
		switch {
		case !list.More, n == 0 && list.Next == "" && until.Err() == nil:
			return shown, nil
		case len(shown.Items) == p.N, left == 0, short, until.Err() != nil:
			if n := len(shown.Items); n == 0 || f.name(shown.Items[n-1]) != p.After {
				shown.Next = f.guard.marks.seal(f.of, p.After) // a name that is not to be seen
			}
			return shown, nil
		}
		if list, err = page(); err != nil {
			return shown, err
		}
	}
}

// errLongest ends the decisions of a list that takes too long.
var errLongest = errors.New("guard: the list took too long")

// decisions says of each item whether it may be shown, and how many could be decided on
// before ctx ended.
func (f filter[T]) decisions(ctx context.Context, items []T) (may []bool, decided int) {
	who, may := Who(ctx), make([]bool, len(items))
	late := make([]bool, len(items))
	decide := func(i int) {
		if late[i] = ctx.Err() != nil; late[i] {
			return
		}
		what, err := f.what(items[i])
		may[i] = err == nil && who.Scope.AllowsListed(what) && f.guard.may(ctx, who, what) == nil
		late[i] = !may[i] && ctx.Err() != nil
	}
	if r, ok := f.guard.rights.(authz.Remote); !ok || !r.Remote() {
		for i := range items {
			decide(i)
		}
	} else {
		var running errgroup.Group
		running.SetLimit(together)
		for i := range items {
			running.Go(func() error {
				decide(i)
				return nil
			})
		}
		_ = running.Wait() // none fails
	}
	if n := slices.Index(late, true); n >= 0 {
		return may, n
	}
	return may, len(items)
}
