package local

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// enter adds to what a push writes what is written down of it. What a mirror keeps is no
// push. The caller holds the lock of the tag, or of the manifest where there is none.
func (r *Registry) enter(ctx context.Context, w *batch, repo origin.Repo, tag string, desc v1.Descriptor, m mark) {
	if r.options().Journal == nil || m != pushed {
		return
	}
	e := r.options().Journal.Pushed(ctx, origin.Change{Repo: repo, Tag: tag, Descriptor: desc})
	for i, write := range e.Writes {
		c := intent{what: fmt.Sprintf("event of %s in %s", desc.Digest, repo), write: write, failed: e.Written}
		if i == len(e.Writes)-1 {
			c.done = e.Written
		}
		w.add(c)
	}
}

// journaled makes a deletion that is written down: first, unless the disk is full, which a
// deletion is to help. The caller holds the lock of what is deleted.
func (r *Registry) journaled(ctx context.Context, c origin.Change, deletion func() error) error {
	if r.options().Journal == nil {
		return deletion()
	}
	before, after := r.options().Journal.Deleted(ctx, c)
	if err := before.Write(ctx, r.records); err != nil && !store.NoRoom(err) {
		return err
	}
	err := deletion()
	ctx = context.WithoutCancel(ctx) // it happened, or not, whether or not who asked for it has gone
	switch {
	case err == nil:
		return after.Write(ctx, r.records)
	case origin.Unknown(err), errors.Is(err, origin.ErrDenied), errors.Is(err, origin.ErrInUse):
		for _, w := range before.Writes {
			err = errors.Join(err, r.gone(ctx, w.Key))
		}
	}
	return err
}

// untagging is the deletion of a tag.
func untagging(k tagKey, t tagRecord) origin.Change {
	return origin.Change{Repo: k.repo, Tag: k.tag, Descriptor: v1.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: t.Size}}
}
