package mirror

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// pushable gives the repository that a push goes to. Mirrored ones take none.
// Names that the default upstream would answer for become local by a push, so the
// one that everybody pulls from, library, is not to be had that way.
func (m *Mirror) pushable(ctx context.Context, repo origin.Repo) (origin.Repo, error) {
	if u, _, ok := m.table.mirrored(repo); ok {
		return repo, origin.Errorf(origin.ErrUnsupported, "%s is mirrored from %s and takes no pushes", repo, u.Name)
	}
	if m.table.standard == nil {
		return repo, nil
	}
	local, err := m.local(ctx, repo)
	if err != nil || local {
		return repo, err
	}
	if reserved(repo) {
		return repo, origin.Errorf(origin.ErrDenied, "%s would stand before %s/%s for everyone", repo, m.table.standard.Name, repo)
	}
	return repo, nil
}

// reserved reports whether a name is the default upstream's for good: no push makes it
// local.
func reserved(repo origin.Repo) bool { return repo.First() == library && !repo.Rest().IsZero() }

// Push implements origin.Writer.
func (m *Mirror) Push(ctx context.Context, repo origin.Repo, man origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	repo, err := m.pushable(ctx, repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if err := m.supply(ctx, repo, man); err != nil {
		return origin.Descriptor{}, err
	}
	return m.origin.Push(ctx, repo, man, o)
}

// Upload implements origin.Writer.
func (m *Mirror) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	repo, err := m.pushable(ctx, repo)
	if err != nil {
		return nil, err
	}
	if id == "" && m.table.standard != nil {
		if local, err := m.local(ctx, repo); err == nil && !local {
			m.opts.Log.Warn("push begins a local repository, which stands before the default upstream's of that name",
				"repository", repo.String(), "upstream", m.table.standard.Name)
		}
	}
	return m.origin.Upload(ctx, repo, id, alg)
}

// DeleteManifest implements origin.Deleter. Of a mirrored repository it forgets
// what is kept.
func (m *Mirror) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return err
	}
	if !m.opts.Delete {
		return origin.ErrUnsupported
	}
	if p.upstream == nil {
		return m.origin.DeleteManifest(ctx, p.repo, ref)
	}
	var had bool
	if ref.Tag() != "" {
		had, err = m.state.dropTag(ctx, tagKey{p.repo, ref.Tag()})
	} else {
		had, err = m.state.dropManifest(ctx, contentKey{p.repo, ref.Digest()})
		if err == nil {
			err = m.origin.DeleteManifest(ctx, p.repo, ref)
		}
		if origin.Unknown(err) {
			err = nil
		}
	}
	if err == nil && !had {
		return origin.ErrManifestUnknown
	}
	return err
}

// DeleteBlob implements origin.Deleter. Of a mirrored repository it forgets what is
// kept.
func (m *Mirror) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return err
	}
	if !m.opts.Delete {
		return origin.ErrUnsupported
	}
	return m.origin.DeleteBlob(ctx, p.repo, d)
}
