package mirror

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// pushable gives the repository that a push goes to. Mirrored ones take none, unless
// their upstream is writable. Names that the default upstream would answer for become local by a push, so the
// one that everybody pulls from, library, is not to be had that way unless Options say so.
func (m *Mirror) pushable(ctx context.Context, repo origin.Repo) (origin.Repo, error) {
	if u, _, ok := m.table.mirrored(repo); ok {
		if !u.Writable {
			return repo, origin.Errorf(origin.ErrUnsupported, "%s is mirrored from %s and takes no pushes", repo, u.Name)
		}
		p, err := m.locate(ctx, repo)
		return p.repo, err
	}
	if m.table.standard == nil {
		return repo, nil
	}
	local, err := m.local(ctx, repo)
	if err != nil || local {
		return repo, err
	}
	if m.reserved(repo) {
		return repo, origin.Errorf(origin.ErrDenied, "%s would stand before %s/%s for everyone", repo, m.table.standard.Name, repo)
	}
	return repo, nil
}

// reserved reports whether a name is the default upstream's for good: no push makes it
// local.
func (m *Mirror) reserved(repo origin.Repo) bool {
	return !m.opts.Claims && repo.First() == library && !repo.Rest().IsZero()
}

// Push implements origin.Writer.
func (m *Mirror) Push(ctx context.Context, repo origin.Repo, man origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	repo, err := m.pushable(ctx, repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if err := m.provide(ctx, repo, man); err != nil {
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
	if _, _, mirrored := m.table.mirrored(repo); id == "" && !mirrored && m.table.standard != nil {
		if local, err := m.local(ctx, repo); err == nil && !local {
			m.opts.Log.Warn("push begins a local repository, which stands before the default upstream's of that name",
				"repository", repo.String(), "upstream", m.table.standard.Name)
		}
	}
	return m.origin.Upload(ctx, repo, id, alg)
}

// DeleteManifest implements origin.Deleter. Of a mirrored repository it forgets
// what is kept; a tag that was pushed to one goes first, and leaves what the upstream
// has of that name.
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
	if ref.Tag() != "" {
		return m.deleteTag(ctx, p, ref)
	}
	k := contentKey{p.repo, ref.Digest()}
	had, err := m.state.dropManifest(ctx, k)
	if err = errors.Join(err, m.state.referrers.drop(ctx, k)); err != nil {
		return err
	}
	// Last: what was still to be recorded of it has come into the origin by now.
	err = m.origin.DeleteManifest(ctx, p.repo, ref)
	if had && origin.Unknown(err) {
		return nil
	}
	return err
}

func (m *Mirror) deleteTag(ctx context.Context, p place, ref origin.Ref) error {
	if p.upstream.Writable {
		if err := m.origin.DeleteManifest(ctx, p.repo, ref); !origin.Unknown(err) {
			return err
		}
	}
	had, err := m.state.dropTag(ctx, tagKey{p.repo, ref.Tag()})
	if err == nil && !had {
		return origin.ErrManifestUnknown
	}
	return err
}

// DeleteBlob implements origin.Deleter. Of a mirrored repository it forgets what is
// kept, and does not keep what is being fetched: those who read that read on.
func (m *Mirror) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return err
	}
	if !m.opts.Delete {
		return origin.ErrUnsupported
	}
	if p.upstream == nil {
		return m.origin.DeleteBlob(ctx, p.repo, d)
	}
	// The answer is the store's alone: what is on its way may be so because another
	// repository does not have it, which is nobody's to know.
	if err := m.fills.Drop(ctx, m.key(p, d)); err != nil {
		return err
	}
	return m.origin.DeleteBlob(ctx, p.repo, d)
}
