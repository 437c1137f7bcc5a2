package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// concede is Evict in a store that other processes use too, and say how. It is a collection
// of one blob: the blob is condemned, then it is seen who links it, then its bytes go if it
// is condemned still.
//
// A link is announced before it is written, and whoever has written one looks then whether
// the blob is condemned. So of a link that is not known here once all has settled that was
// announced before the condemnation, its maker finds the condemnation: he takes it back, or
// is told that the bytes are going and promises nothing. Who reads the blob elsewhere is
// told of the condemnation, and takes it back too.
func (r *Registry) concede(ctx context.Context, d digest.Digest) (err error) {
	linked, m, err := r.linksOf(ctx, d)
	switch {
	case err == nil && m == pushed:
		err = origin.ErrPushed
	case err == nil && len(linked) == 0:
		// It may be somebody's who has sent it and not linked it yet: garbage is collected.
		return blobError(d, store.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("evict blob %s: %w", d, err)
	}
	c, err := r.sentence(ctx, d)
	if err == nil {
		if err = r.follower.others.Settle(ctx); err != nil {
			err = fmt.Errorf("%w: %w", origin.ErrBusy, err)
		} else {
			err = r.execute(ctx, c)
		}
		if err != nil && !origin.Unknown(err) {
			// Nobody else ends it before the next collection.
			if spared := r.Spare(context.WithoutCancel(ctx), d); spared != nil && !errors.Is(spared, origin.ErrInUse) {
				err = errors.Join(err, spared)
			}
		}
	}
	if errors.Is(err, origin.ErrInUse) {
		err = origin.ErrBusy
	}
	if err != nil && !origin.Unknown(err) {
		err = fmt.Errorf("evict blob %s: %w", d, err)
	}
	return err
}

// sentence condemns a blob, or finds how somebody has. Errors: ErrInUse.
func (r *Registry) sentence(ctx context.Context, d digest.Digest) (origin.Condemned, error) {
	if err := r.Condemn(ctx, d); err != nil {
		return origin.Condemned{}, err
	}
	rec, err := r.records.Get(ctx, keyCondemned(d))
	if errors.Is(err, store.ErrNotFound) {
		return origin.Condemned{}, origin.ErrInUse
	}
	if errors.Is(err, errDamaged) || err == nil && decodeCondemnation(rec.Data, nil).Removing {
		err = origin.ErrInUse
	}
	return origin.Condemned{Digest: d, Modified: rec.Modified, Version: rec.Version}, err
}

// execute unlinks and removes a condemned blob that mirrors alone link. Those of this process
// who link it have done so, or do so later: they are not told to try again. Errors: ErrInUse,
// ErrBusy, ErrPushed, ErrBlobUnknown.
func (r *Registry) execute(ctx context.Context, c origin.Condemned) error {
	others := r.removalLocks.of(origin.Repo{}, c.Digest.String())
	others.Lock()
	defer others.Unlock()
	l := r.blobLocks.of(origin.Repo{}, c.Digest.String())
	if !l.TryLock() {
		return origin.ErrBusy
	}
	defer l.Unlock()
	if !r.follower.trusted() {
		return origin.ErrBusy
	}
	linked, m, err := r.linksOf(ctx, c.Digest)
	if err == nil && m == pushed {
		err = origin.ErrPushed
	}
	if err != nil {
		return err
	}
	// A condemnation that was taken back meanwhile is known before anything is unlinked.
	rec, err := r.records.Get(ctx, keyCondemned(c.Digest))
	if errors.Is(err, store.ErrNotFound) || err == nil && rec.Version != c.Version {
		return origin.ErrInUse
	}
	if err != nil {
		return err
	}
	for _, k := range linked {
		if err := r.concedeLink(ctx, k); err != nil {
			return err
		}
	}
	_, err = r.remove(ctx, c)
	return err
}

// concedeLink unlinks what a mirror has linked, if nobody has pushed it or asked for it since
// it is read.
func (r *Registry) concedeLink(ctx context.Context, k content) error {
	l, err := r.Link(ctx, k.repo, k.digest)
	switch {
	case origin.Unknown(err):
		return nil
	case err != nil:
		return err
	case !l.Mirrored:
		return origin.ErrPushed
	}
	return r.Unlink(ctx, k.repo, k.digest, l)
}
