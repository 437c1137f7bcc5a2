package mirror

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Tags implements origin.Reader: the upstream's list, or, if it cannot be asked,
// the tags that are remembered.
func (m *Mirror) Tags(ctx context.Context, repo origin.Repo, page origin.Page) (origin.List[string], error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.List[string]{}, err
	}
	if p.upstream == nil {
		return m.origin.Tags(ctx, p.repo, page)
	}
	list, err := p.upstream.Reader.Tags(ctx, p.name, page)
	list.Source.Cache = origin.Miss
	if err != nil && ctx.Err() == nil && excuses(p.upstream, err) {
		if known, found := m.knownTags(ctx, p, page); found == nil && len(known.Items) > 0 {
			known.Source = m.stale(p.upstream, err)
			list, err = known, nil
		}
	}
	m.count(ctx, p, "tags", list.Source, err)
	return list, clientError(p.upstream, origin.ErrNameUnknown, err)
}

func (m *Mirror) knownTags(ctx context.Context, p place, page origin.Page) (origin.List[string], error) {
	var list origin.List[string]
	for name, err := range m.state.tagNames(ctx, p.repo, page.After) {
		if err != nil {
			return list, err
		}
		if len(list.Items) == page.N {
			list.More = true
			break
		}
		list.Items = append(list.Items, name)
	}
	return list, nil
}

// Referrers implements origin.Reader: the upstream's.
func (m *Mirror) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, page origin.Page) (origin.List[origin.Descriptor], error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.List[origin.Descriptor]{}, err
	}
	if p.upstream == nil {
		return m.origin.Referrers(ctx, p.repo, d, artifactType, page)
	}
	list, err := p.upstream.Reader.Referrers(ctx, p.name, d, artifactType, page)
	list.Source.Cache = origin.Miss
	if absent(err) {
		err = nil // a repository that is not there refers to nothing
	}
	m.count(ctx, p, "referrers", list.Source, err)
	return list, clientError(p.upstream, origin.ErrNameUnknown, err)
}

// Repos implements origin.Catalog: the repositories that weir has content of.
func (m *Mirror) Repos(ctx context.Context, page origin.Page) (origin.List[origin.Repo], error) {
	return m.origin.Repos(ctx, page)
}
