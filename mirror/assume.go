package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// A repository that takes pushes although an upstream answers for what is not here,
// because that is writable, or because the name has no upstream in it and is not local
// yet, may be one that somebody pulls, or one that somebody is about to push to.
// Clients that push ask first (HEAD) what is there; what they are told must let them
// go on, also while the upstream is away, and must still be true when they push the
// manifest. All others are told what a pull is told.

// pushing reports whether whoever asks for a manifest (the zero Ref: for a blob) of p,
// without its bytes, may be about to push it.
func (m *Mirror) pushing(ctx context.Context, p place, manifest origin.Ref) bool {
	if p.target.IsZero() || origin.RequestOf(ctx).Reads {
		return false
	}
	return m.opts.Pushes == nil || m.opts.Pushes(ctx, p.target, manifest)
}

// assume makes an upstream's failure to say, for a client that asked whether a manifest is
// there and may be about to push it, a no: it is not here.
func (m *Mirror) assume(ctx context.Context, p place, ref origin.Ref, err error) error {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	if !ok || absent(ue) || ctx.Err() != nil || !m.pushing(ctx, p, ref) {
		return err
	}
	if m.silent(p) == nil {
		m.silence.Store(p.upstream, failure{err: err, until: time.Now().Add(p.upstream.Tags.NegativeTTL)})
	}
	return origin.Wrap(origin.ErrManifestUnknown, err)
}

// spared gives the outage of p's upstream that was met a moment ago, so that a push
// does not wait for it at each step; nil: there was none, or nobody is pushing.
func (m *Mirror) spared(ctx context.Context, p place, ref origin.Ref) error {
	if err := m.silent(p); err != nil && m.pushing(ctx, p, ref) {
		return err
	}
	return nil
}

// silent gives the outage of p's upstream that a push met a moment ago.
func (m *Mirror) silent(p place) error {
	last, ok := m.silence.Load(p.upstream)
	if f, _ := last.(failure); ok && time.Now().Before(f.until) {
		return f.err
	}
	return nil
}

// provide has in repo what a client that pushes man to it was told is there.
func (m *Mirror) provide(ctx context.Context, repo origin.Repo, man origin.Manifest) error {
	if _, _, mirrored := m.table.mirrored(repo); mirrored {
		return m.confirm(ctx, repo, man, once{})
	}
	return m.supply(ctx, repo, man, once{})
}

// once is what was looked at of an index: what it names may name the same things again, in
// as many ways as there are paths.
type once map[digest.Digest]bool

// again reports whether d was looked at before, and notes that it was now.
func (o once) again(d digest.Digest) bool {
	was := o[d]
	o[d] = true
	return was
}

// supply links into repo, which becomes local with this push, what its manifest
// names and weir has under the default upstream's name: a client that was told so did
// not upload it.
func (m *Mirror) supply(ctx context.Context, repo origin.Repo, man origin.Manifest, looked once) error {
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
	p := place{repo: full, upstream: m.table.standard, name: full.Rest()}
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
		if looked.again(c.Digest) {
			continue
		}
		child, err := m.known(ctx, p, c.Digest)
		if err != nil {
			continue // Push will say if it is missing
		}
		if _, err := m.origin.Resolve(ctx, repo, origin.ByDigest(c.Digest)); !origin.Unknown(err) {
			continue
		}
		if err := m.supply(ctx, repo, child, looked); err != nil {
			return err
		}
		if _, err := m.origin.Push(ctx, repo, child, origin.PushOptions{}); err != nil {
			return err
		}
	}
	return nil
}
