package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/weir-registry/weir/origin"
)

// A name that has no upstream in it, and is not local yet, may be one that somebody
// pulls through the default upstream, or one that somebody is about to push to.
// Clients that push ask first (HEAD) what is there; what they are told must let them
// go on, also while the default upstream is away, and must still be true when they
// push the manifest.

// assume makes an outage of an upstream, for a client that asked whether something is
// there and may be about to push it, a no: it is not here.
func (m *Mirror) assume(ctx context.Context, p place, err error) error {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	if !ok || !ue.Outage() || ctx.Err() != nil {
		return err
	}
	if m.silent(p) == nil {
		m.silence.Store(p.upstream, failure{err: err, until: time.Now().Add(p.upstream.Tags.NegativeTTL)})
	}
	return origin.Wrap(origin.ErrManifestUnknown, err)
}

// silent gives the outage of p's upstream that was met a moment ago, so that a push
// does not wait for it at each step.
func (m *Mirror) silent(p place) error {
	if !p.takesPushes() {
		return nil
	}
	last, ok := m.silence.Load(p.upstream)
	if f, _ := last.(failure); ok && time.Now().Before(f.until) {
		return f.err
	}
	return nil
}

// provide has in repo what a client that pushes man to it was told is there.
func (m *Mirror) provide(ctx context.Context, repo origin.Repo, man origin.Manifest) error {
	if _, _, mirrored := m.table.mirrored(repo); mirrored {
		return m.confirm(ctx, repo, man)
	}
	return m.supply(ctx, repo, man)
}

// supply links into repo, which becomes local with this push, what its manifest
// names and weir has under the default upstream's name: a client that was told so did
// not upload it.
func (m *Mirror) supply(ctx context.Context, repo origin.Repo, man origin.Manifest) error {
	if m.table.standard == nil {
		return nil
	}
	full, err := m.table.standard.repo(repo)
	if err != nil || !m.table.standard.allows(full.Rest()) {
		return nil // not mirrored, if only because it is too long: nobody was told anything
	}
	if m.opts.Reads != nil && !m.opts.Reads(ctx, full) {
		return nil // nor were they
	}
	p := place{repo: full, upstream: m.table.standard, name: full.Rest(), assumed: true}
	content, err := origin.ReadManifest(man.MediaType, man.Bytes)
	if err != nil {
		return err
	}
	for _, b := range content.Blobs {
		if _, err := m.origin.Stat(ctx, full, b.Digest); origin.Unknown(err) {
			continue // nobody was told that it is there
		}
		if _, err := m.origin.Stat(ctx, repo, b.Digest); !origin.Unknown(err) {
			continue // there, or Push will say what is wrong
		}
		if _, err := m.origin.Mount(ctx, full, repo, b.Digest); err != nil && !origin.Unknown(err) {
			return err
		}
	}
	for _, c := range content.Manifests {
		kept, err := m.kept(ctx, p, c.Digest)
		if err != nil {
			continue // Push will say if it is missing
		}
		if _, err := m.origin.Resolve(ctx, repo, origin.ByDigest(c.Digest)); !origin.Unknown(err) {
			continue
		}
		if err := m.supply(ctx, repo, kept); err != nil {
			return err
		}
		if _, err := m.origin.Push(ctx, repo, kept, origin.PushOptions{}); err != nil {
			return err
		}
	}
	return nil
}
