package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Resolve implements origin.Reader. What is not known it asks for without bytes
// (HEAD), which upstreams do not count as a pull.
func (m *Mirror) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if p.upstream == nil {
		return m.origin.Resolve(ctx, p.repo, ref)
	}
	d, err := m.resolve(ctx, p, ref)
	if err == nil {
		m.use(ctx, p, d.Digest)
		m.ahead.resolved(p, ref, d)
	}
	err = m.assume(ctx, p, ref, err)
	m.count(ctx, p, "manifest", d.Source, err)
	return d, clientError(p.upstream, origin.ErrManifestUnknown, err)
}

func (m *Mirror) resolve(ctx context.Context, p place, ref origin.Ref) (origin.Descriptor, error) {
	if d, ok, err := m.pushedDescriptor(ctx, p, ref); ok || err != nil {
		return d, err
	}
	if ref.Tag() != "" {
		t, s, err := m.resolveTag(ctx, p, ref)
		return t.descriptor(s), err
	}
	kept, err := m.kept(ctx, p, ref.Digest())
	if err == nil {
		return kept.Descriptor, m.promised(ctx, p, ref.Digest())
	}
	if !errors.Is(err, store.ErrNotFound) {
		return origin.Descriptor{}, err
	}
	q := question{p.repo, headManifest, ref.String()}
	if err := m.refused(q); err != nil {
		return origin.Descriptor{}, err
	}
	if err := m.spared(ctx, p, ref); err != nil {
		return origin.Descriptor{}, err
	}
	man, err := m.answers.do(ctx, q, func(ctx context.Context) (origin.Manifest, error) {
		if err := m.refusedElsewhere(ctx, p.upstream, q); err != nil {
			return origin.Manifest{}, err
		}
		d, err := p.upstream.Reader.Resolve(ctx, p.name, ref)
		d.Source.Cache = origin.Miss
		m.refuse(ctx, p.upstream, q, err)
		return origin.Manifest{Descriptor: d}, err
	})
	return man.Descriptor, err
}

// Manifest implements origin.Reader.
func (m *Mirror) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.Manifest{}, err
	}
	if p.upstream == nil {
		return m.origin.Manifest(ctx, p.repo, ref)
	}
	man, err := m.manifest(ctx, p, ref)
	if err == nil {
		m.use(ctx, p, man.Digest)
		m.ahead.pulled(p, ref, man)
	}
	m.count(ctx, p, "manifest", man.Source, err)
	return man, clientError(p.upstream, origin.ErrManifestUnknown, err)
}

func (m *Mirror) manifest(ctx context.Context, p place, ref origin.Ref) (origin.Manifest, error) {
	if man, ok, err := m.pushed(ctx, p, ref); ok || err != nil {
		return man, err
	}
	if ref.Digest() != "" {
		return m.byDigest(ctx, p, ref.Digest())
	}
	k := tagKey{p.repo, ref.Tag()}
	switch _, err := m.state.tag(ctx, k); {
	case errors.Is(err, store.ErrNotFound):
		// Nothing is known of it: one GET tells all there is to know.
		return m.firstByTag(ctx, p, ref)
	case err != nil:
		return origin.Manifest{}, err
	}
	t, s, err := m.resolveTag(ctx, p, ref)
	if err != nil {
		return origin.Manifest{}, err
	}
	man, err := m.byDigest(ctx, p, t.Digest)
	if absent(err) && s.Cache != origin.Stale {
		// The tag has moved since, and what it stood for went with it.
		return m.firstByTag(ctx, p, ref)
	}
	if err != nil {
		return origin.Manifest{}, err
	}
	if man.Source.Cache == origin.Hit || s.Cache == origin.Stale {
		man.Source = s // what is told of the tag says more than that its bytes were there
	}
	return man, nil
}

// use takes note that a client was told of a manifest: that is a use of its blobs, also
// of those that it will not ask for because it has them.
func (m *Mirror) use(ctx context.Context, p place, d digest.Digest) {
	if m.opts.Cache == nil {
		return
	}
	blobs, ok := m.state.named.get(d)
	if !ok {
		man, err := m.kept(ctx, p, d)
		if err != nil {
			return // not here, and so perhaps none of its blobs
		}
		blobs = digestsOf(blobsOf(man))
	}
	m.opts.Cache.Image(p.repo, d, blobs)
}

// kept gives a manifest that is kept. Errors: store.ErrNotFound.
func (m *Mirror) kept(ctx context.Context, p place, d digest.Digest) (origin.Manifest, error) {
	man, err := m.state.manifest(ctx, contentKey{p.repo, d})
	man.Source = origin.Source{Cache: origin.Hit}
	return man, err
}

// byDigest gives a manifest by its digest: if it is not kept, the upstream is asked,
// once.
func (m *Mirror) byDigest(ctx context.Context, p place, d digest.Digest) (origin.Manifest, error) {
	kept, err := m.kept(ctx, p, d)
	if err == nil {
		return kept, m.promised(ctx, p, d)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return origin.Manifest{}, err
	}
	q := question{p.repo, getManifest, d.String()}
	if err := m.refused(q); err != nil {
		return origin.Manifest{}, err
	}
	return m.answers.do(ctx, q, func(ctx context.Context) (origin.Manifest, error) {
		// One that was being fetched when this one looked may have come since.
		if kept, err := m.kept(ctx, p, d); err == nil {
			return kept, nil
		}
		if err := m.refusedElsewhere(ctx, p.upstream, q); err != nil {
			return origin.Manifest{}, err
		}
		man, err := m.fetch(ctx, p, origin.ByDigest(d))
		m.refuse(ctx, p.upstream, q, err)
		return man, err
	})
}

// firstByTag gets a manifest by a tag of which nothing is known.
func (m *Mirror) firstByTag(ctx context.Context, p place, ref origin.Ref) (origin.Manifest, error) {
	q := question{p.repo, getTag, ref.Tag()}
	if err := m.refusedTag(ctx, p.upstream, q); err != nil {
		return origin.Manifest{}, err
	}
	return m.answers.do(ctx, q, func(ctx context.Context) (origin.Manifest, error) {
		t, told, done := m.shared.ask(ctx, p.upstream, tagKey{p.repo, ref.Tag()})
		defer done()
		if told {
			if man, ok := m.recorded(ctx, p, t); ok {
				return man, nil
			}
		}
		if err := m.refusedElsewhere(ctx, p.upstream, q); err != nil {
			return origin.Manifest{}, err
		}
		man, err := m.fetch(ctx, p, ref)
		if err == nil {
			m.learnt(ctx, p, ref.Tag(), man.Descriptor)
		}
		m.refuse(ctx, p.upstream, q, err)
		return man, err
	})
}

// recorded gives the manifest that another mirror has just got by a tag, and is about to
// record.
func (m *Mirror) recorded(ctx context.Context, p place, t tag) (origin.Manifest, bool) {
	end := time.Now().Add(recording)
	for wait := firstLook; ; wait *= 2 {
		man, err := m.kept(ctx, p, t.Digest)
		if err == nil {
			man.Source = origin.Source{Cache: origin.Revalidated, Upstream: t.Endpoint}
			return man, true
		}
		if time.Now().After(end) || !errors.Is(err, store.ErrNotFound) {
			return origin.Manifest{}, false
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return origin.Manifest{}, false
		}
	}
}

// fetch gets a manifest from p's upstream and keeps it.
func (m *Mirror) fetch(ctx context.Context, p place, ref origin.Ref) (origin.Manifest, error) {
	man, err := p.upstream.Reader.Manifest(ctx, p.name, ref)
	if err != nil {
		return origin.Manifest{}, err
	}
	// The law that all rests on does not lean on another room.
	if got := man.Digest.Algorithm().FromBytes(man.Bytes); got != man.Digest || ref.Digest() != "" && got != ref.Digest() {
		return origin.Manifest{}, &origin.UpstreamError{Endpoint: man.Source.Upstream, Err: fmt.Errorf("manifest %s: %w", ref, origin.ErrDigestInvalid)}
	}
	man.Source.Cache = origin.Filled
	m.state.putManifest(contentKey{p.repo, man.Digest}, man, func(ctx context.Context) error {
		_, err := m.origin.Push(ctx, p.repo, man, origin.PushOptions{Sparse: true})
		return err
	})
	return man, nil
}
