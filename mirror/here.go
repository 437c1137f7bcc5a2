package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Here is a mirror without its upstreams, for who brings images in and takes them out by
// hand: it has what is here, and asks nobody. Its names are full: one that has no upstream
// in front is local, whatever the default upstream.
//
// What is pushed here to a mirrored repository that takes no pushes is kept as though its
// upstream had just been asked: a tag is checked again when its TTL is over, and blobs may
// be evicted. The caller pushes whole images, what a manifest names before it.
type Here struct {
	origin.None
	m *Mirror
}

// Here gives the mirror without its upstreams.
func (m *Mirror) Here() *Here { return &Here{m: m} }

// place is where a full name leads.
func (h *Here) place(repo origin.Repo) (place, error) {
	u, name, ok := h.m.table.mirrored(repo)
	if !ok {
		return place{repo: repo}, nil
	}
	full, err := u.repo(name)
	if err == nil && !u.allows(full.Rest()) {
		err = errUnlisted
	}
	return place{repo: full, upstream: u, name: full.Rest()}, err
}

// cached reports whether what p is given counts as fetched.
func (p place) cached() bool { return p.upstream != nil && !p.upstream.Writable }

// Resolve implements origin.Reader.
func (h *Here) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	p, err := h.place(repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if p.upstream == nil {
		return h.m.origin.Resolve(ctx, p.repo, ref)
	}
	if d, ok, err := h.m.pushedDescriptor(ctx, p, ref); ok || err != nil {
		return d, err
	}
	if ref.Tag() == "" {
		man, err := h.m.kept(ctx, p, ref.Digest())
		return man.Descriptor, notHere(p, ref, err)
	}
	t, err := h.m.state.tag(ctx, tagKey{p.repo, ref.Tag()})
	return t.descriptor(origin.Source{Cache: origin.Hit}), notHere(p, ref, err)
}

// Manifest implements origin.Reader.
func (h *Here) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	p, err := h.place(repo)
	if err != nil {
		return origin.Manifest{}, err
	}
	if p.upstream == nil {
		return h.m.origin.Manifest(ctx, p.repo, ref)
	}
	if man, ok, err := h.m.pushed(ctx, p, ref); ok || err != nil {
		return man, err
	}
	d := ref.Digest()
	if ref.Tag() != "" {
		t, err := h.m.state.tag(ctx, tagKey{p.repo, ref.Tag()})
		if err != nil {
			return origin.Manifest{}, notHere(p, ref, err)
		}
		d = t.Digest
	}
	man, err := h.m.kept(ctx, p, d)
	return man, notHere(p, ref, err)
}

// notHere is what a record that is not there means.
func notHere(p place, ref origin.Ref, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return origin.Errorf(origin.ErrManifestUnknown, "manifest %s of %s is not here", ref, p.repo)
	}
	return err
}

// Stat implements origin.Reader.
func (h *Here) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	p, err := h.place(repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	return h.m.origin.Stat(ctx, p.repo, d)
}

// Blob implements origin.Reader.
func (h *Here) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	p, err := h.place(repo)
	if err != nil {
		return origin.Blob{}, err
	}
	return h.m.origin.Blob(ctx, p.repo, d, r)
}

// Referrers implements origin.Reader: those whose manifests are here.
func (h *Here) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, page origin.Page) (origin.List[origin.Descriptor], error) {
	p, err := h.place(repo)
	if err != nil {
		return origin.List[origin.Descriptor]{}, err
	}
	return h.m.origin.Referrers(ctx, p.repo, d, artifactType, page)
}

// Tags implements origin.Reader: those that are remembered, and those that were pushed. A
// repository of which nothing but content is here has none.
func (h *Here) Tags(ctx context.Context, repo origin.Repo, page origin.Page) (origin.List[string], error) {
	p, err := h.place(repo)
	if err != nil {
		return origin.List[string]{}, err
	}
	pushed, err := h.m.origin.Tags(ctx, p.repo, page)
	if p.upstream == nil || err != nil && !origin.Unknown(err) {
		return pushed, err
	}
	known, any, failed := h.m.knownTags(ctx, p, page)
	if failed != nil {
		return known, failed
	}
	if err != nil && !any {
		return origin.List[string]{}, err
	}
	return merge(known, pushed, func(tag string) string { return tag }, page.N), nil
}

// Repos implements origin.Catalog.
func (h *Here) Repos(ctx context.Context, page origin.Page) (origin.List[origin.Repo], error) {
	return h.m.Repos(ctx, page)
}

// Checked gives when an upstream last said what a tag names; zero where none did.
func (h *Here) Checked(ctx context.Context, repo origin.Repo, tag string) (time.Time, error) {
	p, err := h.place(repo)
	if err != nil || p.upstream == nil {
		return time.Time{}, err
	}
	t, err := h.m.state.tag(ctx, tagKey{p.repo, tag})
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return t.Checked, err
}

// Locate gives the full name of the repository that a full name leads to, and the upstream
// that it is mirrored from: see [Mirror.Locate].
func (h *Here) Locate(_ context.Context, repo origin.Repo, _ bool) (full origin.Repo, upstream string, err error) {
	u, name, ok := h.m.table.mirrored(repo)
	if !ok {
		return repo, "", nil
	}
	full, err = u.repo(name)
	return full, u.Name, err
}

// Push implements origin.Writer. What it is refused for elsewhere, a name that nobody may
// claim above all, it is refused for here.
func (h *Here) Push(ctx context.Context, repo origin.Repo, man origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	p, err := h.place(repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if !p.cached() {
		return h.m.Push(ctx, p.repo, man, o)
	}
	if got := man.Digest.Algorithm().FromBytes(man.Bytes); got != man.Digest {
		return origin.Descriptor{}, origin.Errorf(origin.ErrDigestInvalid, "the manifest has digest %s, not %s", got, man.Digest)
	}
	man.Source = origin.Source{}
	k := contentKey{p.repo, man.Digest}
	h.m.state.hold(k, man)
	err = h.m.state.now(ctx, k.String(), h.m.state.recordManifest(k, man, func(ctx context.Context) error {
		_, err := h.m.origin.Push(ctx, p.repo, man, origin.PushOptions{Sparse: true})
		return err
	}))
	if err != nil {
		return origin.Descriptor{}, fmt.Errorf("keep manifest %s of %s: %w", man.Digest, p.repo, err)
	}
	for _, ref := range o.Tags {
		k := tagKey{p.repo, ref.Tag()}
		h.m.learnt(ctx, p, ref.Tag(), man.Descriptor) // and written down, too, but nobody would say whether it was
		t, err := h.m.state.tag(ctx, k)
		if err == nil {
			err = h.m.state.now(ctx, k.String(), h.m.state.recordTag(k, t))
		}
		if err != nil {
			return origin.Descriptor{}, fmt.Errorf("keep tag %s of %s: %w", ref, p.repo, err)
		}
	}
	return man.Descriptor, nil
}

// Upload implements origin.Writer.
func (h *Here) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	p, err := h.place(repo)
	if err != nil {
		return nil, err
	}
	if !p.cached() {
		return h.m.Upload(ctx, p.repo, id, alg)
	}
	in, err := h.m.keeper.Upload(ctx, p.repo, id, alg)
	if err != nil {
		return nil, err
	}
	return cachedIngest{in, h.m.opts.Cache, p.repo}, nil
}

// cachedIngest tells the cache what it has got.
type cachedIngest struct {
	store.Ingest
	cache *evict.Cache
	repo  origin.Repo
}

func (in cachedIngest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	info, err := in.Ingest.Commit(ctx, d)
	if err == nil {
		in.cache.Stored(in.repo, d, info.Size)
	}
	return info, err
}

// Mount implements origin.Writer. Whoever brings content in by hand has it: what any
// repository has is linked, unlike for a client.
func (h *Here) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	p, err := h.place(to)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if p.cached() {
		desc, err := h.m.keeper.Mount(ctx, from, p.repo, d)
		if err == nil {
			h.m.opts.Cache.Stored(p.repo, d, desc.Size)
		}
		return desc, err
	}
	if _, err := h.m.pushable(ctx, p.repo); err != nil {
		return origin.Descriptor{}, err
	}
	return h.m.origin.Mount(ctx, from, p.repo, d)
}

var (
	_ origin.Reader  = (*Here)(nil)
	_ origin.Writer  = (*Here)(nil)
	_ origin.Catalog = (*Here)(nil)
)
