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

// assume makes an outage of the default upstream, for a client that asked whether
// something is there, a no: it is not here.
func (m *Mirror) assume(ctx context.Context, p place, err error) error {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	if !ok || !ue.Outage() || ctx.Err() != nil {
		return err
	}
	now := time.Now()
	if last := m.silence.Load(); last == nil || now.After(last.until) {
		m.silence.Store(&failure{err: err, until: now.Add(p.upstream.Tags.NegativeTTL)})
	}
	return origin.Wrap(origin.ErrManifestUnknown, err)
}

// silent gives the outage of the default upstream that was met a moment ago, so that
// a push does not wait for it at each step.
func (m *Mirror) silent(p place) error {
	if last := m.silence.Load(); p.assumed && last != nil && time.Now().Before(last.until) {
		return last.err
	}
	return nil
}

// supply links into repo, which becomes local with this push, what its manifest
// names and weir has under the default upstream's name: a client that was told so did
// not upload it.
func (m *Mirror) supply(ctx context.Context, repo origin.Repo, man origin.Manifest) error {
	if m.table.standard == nil {
		return nil
	}
	full, err := m.table.standard.repo(repo)
	if err != nil {
		return nil // too long to be mirrored: nobody was told anything
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
