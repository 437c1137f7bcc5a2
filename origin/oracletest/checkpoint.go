package oracletest

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Checkpoint is Check, and gives a ledger to go on with that begins with what is there: to
// judge a long story from its beginning takes longer with each step. Nobody writes meanwhile.
// What had no answer since the last one may still happen for a moment (a bucket may do what
// a process that is gone has asked of it), so it is carried over once.
func Checkpoint(ctx context.Context, reg origin.Registry, ledger *Ledger, world *World) (*Ledger, error) {
	c, err := checked(ctx, reg, ledger, world)
	if err != nil {
		return nil, err
	}
	var late []Op
	for _, r := range ledger.Snapshot().records() {
		if r.outcome == Unknown && r.begin >= ledger.carried {
			late = append(late, *r.op)
		}
	}
	return c.ledger(world, late), nil
}

// ledger has what was found, as if it had just been done. What was not, and was ever there,
// is deleted in it: so it must not come back, but by what is late.
func (c *check) ledger(world *World, late []Op) *Ledger {
	next := &Ledger{Collects: c.h.collects}
	for _, op := range late {
		next.Begin(op)
	}
	ack := func(op Op) { next.Begin(op)(nil) }
	for t, is := range c.found {
		op := Op{Repo: t.repo, Digest: digest.Digest(t.name)}
		switch t.what {
		case repository: // which may have nothing in it
			if is == absent {
				continue
			}
			op.Kind, op.Digest = PushBlob, digest.FromBytes(world.Blobs[0])
			ack(op)
			op.Kind = DeleteBlob
		case blob:
			op.Kind = DeleteBlob
		case tag:
			op.Kind, op.Digest, op.Tags = DeleteTag, "", []string{t.name}
		case manifest:
			// Its referrers may go if ever it was deleted.
			if is != absent && !slices.ContainsFunc(c.h.writes[t], func(w write) bool { return w.value == absent }) {
				continue
			}
			op.Kind = DeleteManifest
		default:
			continue // comes with its manifest
		}
		ack(op)
	}
	for t, is := range c.found {
		if t.what == blob && is != absent {
			ack(Op{Kind: PushBlob, Repo: t.repo, Digest: digest.Digest(t.name)})
		}
	}
	for _, repo := range world.Repos {
		for _, tree := range world.Trees {
			if c.found[thing{manifest, repo.String(), tree.Digest().String()}] == absent {
				continue
			}
			var tags []string
			for _, name := range world.Tags {
				if c.found[thing{tag, repo.String(), name}] == tree.Digest().String() {
					tags = append(tags, name)
				}
			}
			ack(PushOf(repo, tree, tags...))
		}
	}
	next.Settle()
	next.carried = next.now()
	return next
}
