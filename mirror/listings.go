package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-registry/weir/origin"
)

// Tags implements origin.Reader: the upstream's list, or, if it cannot be asked, the
// tags that are remembered; and what was pushed here besides.
func (m *Mirror) Tags(ctx context.Context, repo origin.Repo, page origin.Page) (origin.List[string], error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.List[string]{}, err
	}
	if p.upstream == nil {
		return m.origin.Tags(ctx, p.repo, page)
	}
	list, err := m.tags(ctx, p, page)
	m.count(ctx, p, "tags", list.Source, err)
	return list, clientError(p.upstream, origin.ErrNameUnknown, err)
}

func (m *Mirror) tags(ctx context.Context, p place, page origin.Page) (origin.List[string], error) {
	pushed, err := m.pushedTags(ctx, p, page)
	if err != nil {
		return origin.List[string]{}, err
	}
	list, err := m.tagsUpstream(ctx, p, page)
	if err != nil {
		if list, err = m.tagsInstead(ctx, p, page, err); err != nil {
			return origin.List[string]{}, err
		}
	}
	return merge(list, pushed, func(tag string) string { return tag }, page.N), nil
}

// tagsUpstream asks p's upstream for a page of its tags, once for all who want the same
// one. Whoever could be served without it does not wait long.
func (m *Mirror) tagsUpstream(ctx context.Context, p place, page origin.Page) (origin.List[string], error) {
	repoList := question{p.repo, listTags, ""}
	if f, ok := m.failing.Get(repoList); ok && f.stands(ctx, p.upstream) && excuses(p.upstream, f.err) {
		return origin.List[string]{}, f.err
	}
	fail := func(err error) {
		m.failing.Add(repoList, failure{err: err, until: time.Now().Add(p.upstream.Tags.NegativeTTL)})
	}
	q := question{p.repo, listTags, fmt.Sprintf("%d after %s", page.N, page.After)}
	fetch := func(ctx context.Context) (origin.List[string], error) {
		list, err := p.upstream.Reader.Tags(ctx, p.name, page)
		list.Source.Cache = origin.Miss
		if _, said := errors.AsType[*origin.UpstreamError](err); said {
			fail(err)
		} else if err == nil {
			m.failing.Remove(repoList)
		}
		return list, err
	}
	waiting, stop := context.WithTimeoutCause(ctx, impatience, errSlow)
	defer stop()
	list, err := m.lists.do(waiting, q, fetch)
	switch {
	case !errors.Is(err, errSlow):
		return list, err
	case m.hasTags(ctx, p):
		m.failing.Add(repoList, slow(p.upstream))
		return list, err
	default:
		return m.lists.do(ctx, q, fetch) // there is nothing else to give
	}
}

// tagsInstead gives what there is of a list of tags that p's upstream could not give
// for the reason err; err itself where there is nothing. What the upstream has no tags
// of is what was pushed here, and not stale.
func (m *Mirror) tagsInstead(ctx context.Context, p place, page origin.Page, err error) (origin.List[string], error) {
	if ctx.Err() != nil {
		return origin.List[string]{}, err
	}
	if excuses(p.upstream, err) {
		known, any, failed := m.knownTags(ctx, p, page)
		if failed != nil {
			return known, failed
		}
		if any {
			known.Source = m.stale(p.upstream, err)
			return known, nil
		}
	}
	first, failed := m.pushedTags(ctx, p, origin.Page{N: 1})
	switch ue, said := errors.AsType[*origin.UpstreamError](err); {
	case failed != nil:
		return first, failed
	case len(first.Items) == 0 || !said:
		return origin.List[string]{}, err
	case absent(err):
		return origin.List[string]{Source: origin.Source{Cache: origin.Miss, Upstream: ue.Endpoint}}, nil
	default:
		return origin.List[string]{Source: m.stale(p.upstream, err)}, nil
	}
}

// hasTags reports whether there is something to serve without p's upstream.
func (m *Mirror) hasTags(ctx context.Context, p place) bool {
	_, any, err := m.knownTags(ctx, p, origin.Page{})
	if err == nil && !any {
		var first origin.List[string]
		first, err = m.pushedTags(ctx, p, origin.Page{N: 1})
		any = len(first.Items) > 0
	}
	return err == nil && any
}

// knownTags gives a page of the tags that are remembered of p, and whether there are
// any: a page behind the last one is empty, and no sign of an unknown repository.
func (m *Mirror) knownTags(ctx context.Context, p place, page origin.Page) (list origin.List[string], any bool, err error) {
	for name, err := range m.state.tagNames(ctx, p.repo, page.After) {
		if err != nil {
			return list, false, err
		}
		if list.More = len(list.Items) == page.N; list.More {
			break
		}
		list.Items = append(list.Items, name)
	}
	if len(list.Items) > 0 || list.More {
		list.More = list.More && page.N > 0 // as everywhere: nothing asked for, nothing more
		return list, true, nil
	}
	for _, err := range m.state.tagNames(ctx, p.repo, "") {
		return list, err == nil, err
	}
	return list, false, nil
}
