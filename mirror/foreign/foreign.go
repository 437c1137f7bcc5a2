package foreign

import (
	"context"
	"log/slog"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Options are the circumstances of a Registry.
type Options struct {
	// Mirrored reports whether a repository is mirrored; all others are what people
	// push to. nil: none is.
	Mirrored func(origin.Repo) bool
	Log      *slog.Logger // nil: none
}

// Registry is an origin.Registry over somebody else's. It is safe for concurrent use.
type Registry struct {
	origin.None
	inner    origin.Registry
	mirrored func(origin.Repo) bool
	log      *slog.Logger

	links    *links
	spoilt   spoilt
	repos    *repos
	reads    quiet
	writes   quiet // a registry whose disk is full is still good to read from
	deposits *deposits
}

var (
	_ origin.Registry = (*Registry)(nil)
	_ origin.Holder   = (*Registry)(nil)
)

// blobKey names a blob, or a manifest, of a repository.
type blobKey struct {
	repo   origin.Repo
	digest digest.Digest
}

// New makes a Registry over inner, whose errors are those of origin/remote. Records keep
// which mirrored blobs it was given, and the manifests that wait for what they name.
func New(inner origin.Registry, records store.Records, o Options) *Registry {
	if o.Mirrored == nil {
		o.Mirrored = func(origin.Repo) bool { return false }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		inner: inner, mirrored: o.Mirrored, log: o.Log,
		links:  newLinks(records),
		spoilt: newSpoilt(),
		repos:  newRepos(),
	}
	r.deposits = newDeposits(r, records)
	return r
}

// Close hands over what can be handed over, until ctx ends. What is left is found by
// the next New over the same records.
func (r *Registry) Close(ctx context.Context) { r.deposits.close(ctx) }

// Resolve implements origin.Reader.
func (r *Registry) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	d, err := r.inner.Resolve(ctx, repo, ref)
	d.Source = origin.Source{}
	return d, told(err)
}

// Manifest implements origin.Reader.
func (r *Registry) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	m, err := r.inner.Manifest(ctx, repo, ref)
	m.Source = origin.Source{}
	return m, told(err)
}

// Tags implements origin.Reader. Whether a repository exists is remembered.
func (r *Registry) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	if p.N == 0 {
		return origin.List[string]{}, r.exists(ctx, repo)
	}
	l, err := r.inner.Tags(ctx, repo, p)
	l.Source = origin.Source{}
	return l, told(err)
}

// exists tells by its error whether a repository exists: nil or ErrNameUnknown. A
// registry that cannot say now still has what it had.
func (r *Registry) exists(ctx context.Context, repo origin.Repo) error {
	there, ok := r.repos.lately(repo)
	if ok {
		return existence(there)
	}
	since := r.repos.now()
	err := r.reads.ask(ctx, true, func(ctx context.Context) error {
		_, err := r.inner.Tags(ctx, repo, origin.Page{})
		return err
	})
	switch {
	case err == nil:
		r.repos.answered(repo, true, since)
	case ctx.Err() != nil:
		return err
	case origin.Unknown(err):
		r.repos.answered(repo, false, since)
	default:
		if there, ok := r.repos.ever(repo); ok {
			return existence(there)
		}
	}
	return told(err)
}

func existence(there bool) error {
	if there {
		return nil
	}
	return origin.ErrNameUnknown
}

// Referrers implements origin.Reader.
func (r *Registry) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	l, err := r.inner.Referrers(ctx, repo, d, artifactType, p)
	l.Source = origin.Source{}
	for i := range l.Items {
		l.Items[i].Source = origin.Source{}
	}
	return l, told(err)
}

// Repos implements origin.Catalog.
func (r *Registry) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	l, err := r.inner.Repos(ctx, p)
	l.Source = origin.Source{}
	return l, told(err)
}
