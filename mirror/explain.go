package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// mostExplained is how many manifests of an index, and how many blobs of an image, are
// looked for: each is a question to a store that may be far away.
const mostExplained = 200

// Explain says what would be done with a request for ref in repo, a full name or
// one that the default upstream answers for. It asks no upstream.
func (m *Mirror) Explain(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Explanation, error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.Explanation{}, err
	}
	x := explainPlace(p, ref)
	d := ref.Digest()
	if ref.Tag() != "" {
		if x.Tag, err = m.explainTag(ctx, p, ref); x.Tag == nil || err != nil {
			return x, err
		}
		d = x.Tag.Digest
	}
	return x, m.explainManifest(ctx, p, d, &x)
}

// ExplainNothing says of an image what Explain says where nothing of it is known.
func (m *Mirror) ExplainNothing(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Explanation, error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.Explanation{}, err
	}
	x := explainPlace(p, ref)
	if d := ref.Digest(); d != "" {
		x.Manifest = &origin.ExplainedManifest{Digest: d}
	}
	return x, nil
}

// explainPlace says where an image comes from.
func explainPlace(p place, ref origin.Ref) origin.Explanation {
	x := origin.Explanation{Image: p.repo.String(), Repository: p.repo.String(), Route: "local", Reference: ref.String()}
	if p.upstream != nil {
		x.Route, x.Upstream = "mirrored", p.upstream.Name
		for _, e := range p.upstream.Reader.Endpoints() {
			x.Endpoints = append(x.Endpoints, origin.ExplainedEndpoint{Host: e.Host})
		}
	}
	return x
}

func (m *Mirror) explainTag(ctx context.Context, p place, ref origin.Ref) (*origin.ExplainedTag, error) {
	if p.upstream == nil {
		d, err := m.origin.Resolve(ctx, p.repo, ref)
		if origin.Unknown(err) {
			return nil, nil
		}
		return &origin.ExplainedTag{Digest: d.Digest, Fresh: true, Why: "pushed here"}, err
	}
	if d, ok, err := m.pushedDescriptor(ctx, p, ref); ok || err != nil {
		return &origin.ExplainedTag{Digest: d.Digest, Fresh: true, Why: "pushed here: it stands before what the upstream has"}, err
	}
	t, err := m.state.tag(ctx, tagKey{p.repo, ref.Tag()})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	age := time.Since(t.Checked)
	x := &origin.ExplainedTag{
		Digest: t.Digest, Checked: &t.Checked, Endpoint: t.Endpoint,
		Age: age.Round(time.Second).String(), TTL: p.upstream.ttl().String(),
		Immutable: p.upstream.Tags.immutable(ref.Tag()),
	}
	switch {
	case x.Immutable:
		x.Fresh, x.Why = true, "immutable: never checked again"
	case age < p.upstream.ttl():
		x.Fresh, x.Why = true, "checked within its TTL"
	default:
		x.Why = "past its TTL: the next request checks it"
	}
	if failed, ok := m.checks.Get(tagKey{p.repo, ref.Tag()}); ok && !x.Fresh {
		x.Why = "past its TTL, and the last check failed: " + reason(p.upstream, failed.err)
		switch left := (p.upstream.Tags.StaleIfError - age).Round(time.Second); {
		case !m.mayBeStale(ctx, p, t, failed.err):
			x.Why += ": it is not served"
		case left > 0:
			x.Why += fmt.Sprintf(": served stale for another %s", left)
		default:
			x.Why += ": it is too old to be served stale"
		}
	}
	return x, nil
}

func (m *Mirror) explainManifest(ctx context.Context, p place, d digest.Digest, x *origin.Explanation) error {
	man, err := m.known(ctx, p, d)
	if errors.Is(err, store.ErrNotFound) || origin.Unknown(err) {
		x.Manifest = &origin.ExplainedManifest{Digest: d}
		return nil
	}
	if err != nil {
		return err
	}
	x.Manifest = &origin.ExplainedManifest{Digest: d, MediaType: man.MediaType, Size: man.Size, Cached: true}
	content, err := origin.ReadManifest(man.MediaType, man.Bytes)
	if err != nil {
		return nil // kept as it is, and nothing to say of what it names
	}
	x.Shortened = max(len(content.Manifests), len(content.Blobs)) > mostExplained
	for _, c := range content.Manifests[:min(len(content.Manifests), mostExplained)] {
		_, err := m.known(ctx, p, c.Digest)
		x.Manifests = append(x.Manifests, origin.ExplainedManifest{
			Digest: c.Digest, MediaType: c.MediaType, Size: c.Size, Platform: platform(c.Platform), Cached: err == nil,
		})
	}
	running := m.fills.Running()
	for _, b := range content.Blobs[:min(len(content.Blobs), mostExplained)] {
		xb := origin.ExplainedBlob{Digest: b.Digest, MediaType: b.MediaType, Size: b.Size, Where: "upstream"}
		if p.upstream == nil {
			xb.Where = "missing"
		}
		for _, f := range running {
			if p.upstream != nil && f.Key == m.key(p, b.Digest) {
				xb.Where, xb.Received, xb.Endpoint = "filling", f.Received, f.Upstream
			}
		}
		if _, err := m.origin.Stat(ctx, p.repo, b.Digest); err == nil {
			xb.Where = "stored"
			if use, ok := m.opts.Cache.LastUse(b.Digest); ok && p.upstream != nil {
				xb.LastUse = &use
			}
		}
		x.Blobs = append(x.Blobs, xb)
	}
	return nil
}

// known gives a manifest that is here.
func (m *Mirror) known(ctx context.Context, p place, d digest.Digest) (origin.Manifest, error) {
	if p.upstream == nil {
		return m.origin.Manifest(ctx, p.repo, origin.ByDigest(d))
	}
	if man, ok, err := m.pushed(ctx, p, origin.ByDigest(d)); ok || err != nil {
		return man, err
	}
	return m.kept(ctx, p, d)
}

func platform(p *v1.Platform) string {
	if p == nil {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
