package events

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Recorded is a registry that is somebody else's, with what is pushed to it and deleted
// from it by this way written down: before it is acknowledged, though not in one commit
// with it, for the change is made elsewhere. A push whose answer was lost may be missing.
type Recorded struct {
	Journal origin.Journal
	Records store.Records
}

// Push pushes to w, as origin.Writer has it, and writes that down.
func (r Recorded) Push(ctx context.Context, w origin.Writer, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	d, err := w.Push(ctx, repo, m, o)
	if err != nil || o.Sparse {
		return d, err
	}
	ctx = context.WithoutCancel(ctx) // it happened, though who asked for it may have gone
	tags := []string{""}
	if len(o.Tags) > 0 {
		tags = nil
	}
	for _, t := range o.Tags {
		tags = append(tags, t.Tag())
	}
	for _, tag := range tags {
		e := r.Journal.Pushed(ctx, origin.Change{Repo: repo, Tag: tag, Descriptor: d.Descriptor})
		if err := e.Write(ctx, r.Records); err != nil {
			return origin.Descriptor{}, err
		}
	}
	return d, nil
}

// Delete deletes from reg, as origin.Deleter has it, and writes that down.
func (r Recorded) Delete(ctx context.Context, reg origin.Registry, repo origin.Repo, ref origin.Ref) error {
	d, err := reg.Resolve(ctx, repo, ref)
	if err != nil {
		return err
	}
	before, after := r.Journal.Deleted(ctx, origin.Change{Repo: repo, Tag: ref.Tag(), Descriptor: d.Descriptor})
	if err := before.Write(ctx, r.Records); err != nil && !store.NoRoom(err) { // on a full disk it can be told afterwards
		return err
	}
	err = reg.DeleteManifest(ctx, repo, ref)
	ctx = context.WithoutCancel(ctx)
	switch {
	case err == nil:
		return after.Write(ctx, r.Records)
	case origin.Unknown(err), errors.Is(err, origin.ErrDenied), errors.Is(err, origin.ErrUnauthorized), errors.Is(err, origin.ErrUnsupported):
		for _, w := range before.Writes {
			if gone := r.Records.Delete(ctx, w.Key, store.Always()); gone != nil && !errors.Is(gone, store.ErrNotFound) {
				return errors.Join(err, fmt.Errorf("take back what was written of it: %w", gone))
			}
		}
	}
	return err
}
