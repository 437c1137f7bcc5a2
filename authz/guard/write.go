package guard

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Push implements origin.Writer. Each tag is asked for, and the digest alone where
// there is none.
func (g *Guard) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	what, err := g.about(ctx, repo, authz.Access{
		Action: authz.Push, Operation: "put-manifest",
		Digest: m.Digest.String(), MediaType: m.MediaType, Size: int64(len(m.Bytes)),
	})
	if err != nil {
		return origin.Descriptor{}, err
	}
	if len(o.Tags) == 0 {
		if err := g.decide(ctx, what); err != nil {
			return origin.Descriptor{}, err
		}
	}
	for _, tag := range o.Tags {
		what.Tag = tag.Tag()
		if err := g.decide(ctx, what); err != nil {
			return origin.Descriptor{}, err
		}
	}
	return g.inner.Push(ctx, repo, m, o)
}

// Admit implements origin.Admitter: where no rule looks at what is pushed, those who may
// not are told so before they send it.
func (g *Guard) Admit(ctx context.Context, repo origin.Repo) error {
	what, err := g.about(ctx, repo, authz.Access{Action: authz.Push, Operation: "put-manifest"})
	if err != nil || !g.uniform(what.Repository) {
		return nil // it is found again, and decided on, when all is known
	}
	return g.decide(ctx, what)
}

// Upload implements origin.Writer. A session belongs to who began it, which the
// registry behind sees to.
func (g *Guard) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	what := authz.Access{Action: authz.Push, Operation: "start-upload"}
	if id != "" {
		what.Operation = "patch-upload"
	}
	if step := origin.RequestOf(ctx).Operation; step != "" {
		what.Operation = step
	}
	if err := g.Allow(ctx, repo, what); err != nil {
		return nil, err
	}
	return g.inner.Upload(ctx, repo, id, alg)
}

// Mount implements origin.Writer. Where it does not say from where, all repositories
// would have to be decided on: unless one decision holds for all of them, nothing is
// found then, and the client uploads.
func (g *Guard) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	what, err := g.about(ctx, to, blob(d, "mount-blob", authz.Push))
	if err != nil {
		return origin.Descriptor{}, err
	}
	source, unknown := g.about(ctx, from, blob(d, "get-blob", authz.Pull))
	if unknown == nil {
		what.From = source.Repository
	}
	if err := g.decide(ctx, what); err != nil {
		return origin.Descriptor{}, err
	}
	who := Who(ctx)
	switch {
	case unknown != nil,
		from.IsZero() && !g.everywhere(ctx),
		!from.IsZero() && (!who.Scope.Allows(source) || g.may(ctx, who, source) != nil):
		return origin.Descriptor{}, origin.ErrBlobUnknown
	}
	return g.inner.Mount(ctx, from, to, d)
}

// DeleteManifest implements origin.Deleter.
func (g *Guard) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	operation := "delete-manifest"
	if ref.Tag() != "" {
		operation = "delete-tag"
	}
	if err := g.Allow(ctx, repo, manifest(ref, operation, authz.Delete)); err != nil {
		return err
	}
	return g.inner.DeleteManifest(ctx, repo, ref)
}

// DeleteBlob implements origin.Deleter.
func (g *Guard) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	if err := g.Allow(ctx, repo, blob(d, "delete-blob", authz.Delete)); err != nil {
		return err
	}
	return g.inner.DeleteBlob(ctx, repo, d)
}
