package main

import (
	"context"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/lifetime"
)

// counted is the registry as clients see it, whose pulls are taken note of. What weir
// itself reads does not come through it.
type counted struct {
	*guard.Guard
	pulls  *lifetime.Pulls // of what is kept here; nil: nobody counts
	outbox *events.Outbox
	locate guard.Locator
}

// Resolve implements origin.Reader. By tag it counts as a pull: clients that have the
// image only ask what the tag names.
func (c counted) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	d, err := c.Guard.Resolve(ctx, repo, ref)
	if err == nil && ref.Tag() != "" {
		c.count(ctx, repo, ref, d.Source)
	}
	return d, err
}

// Manifest implements origin.Reader.
func (c counted) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	m, err := c.Guard.Manifest(ctx, repo, ref)
	if err == nil {
		c.count(ctx, repo, ref, m.Source)
		c.tell(ctx, repo, ref, m)
	}
	return m, err
}

// count takes note of a pull, unless the answer is a mirror's: its tags go by themselves.
func (c counted) count(ctx context.Context, repo origin.Repo, ref origin.Ref, from origin.Source) {
	if c.pulls == nil || from != (origin.Source{}) {
		return
	}
	if full, _, err := c.locate(ctx, repo, false); err == nil {
		c.pulls.Pulled(full, ref)
	}
}

// tell tells of a manifest that a client is given.
func (c counted) tell(ctx context.Context, repo origin.Repo, ref origin.Ref, m origin.Manifest) {
	if !c.outbox.Told(events.Pull) {
		return
	}
	full, _, err := c.locate(ctx, repo, false)
	if err != nil {
		return
	}
	c.outbox.Pulled(ctx, origin.Change{
		Repo: full, Tag: ref.Tag(),
		Descriptor: v1.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))},
	})
}
