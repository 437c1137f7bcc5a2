package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Bytes go in two steps, so that nothing depends on a lock. Whoever collects garbage
// writes that a blob is condemned, and then lists all links; whoever links a blob writes
// the link, and then looks whether it is condemned. So one of the two sees the other. A
// link that is seen ends the condemnation, and so does whoever finds it after linking;
// where that is too late, since removal has begun by a compare-and-swap of the same
// record, the linker promises nothing.
const (
	// removeWithin is how long the removal of bytes that has begun may take. The store
	// refuses what comes later.
	removeWithin = time.Minute
	// abandoned is how long after its beginning a removal is another's to repeat: far
	// longer than it may take, for the sake of clocks.
	abandoned = time.Hour
)

// condemnation is what the record of a condemned blob holds.
type condemnation struct {
	Removing bool `json:"removing"`
}

func encodeCondemnation(c condemnation) []byte {
	data, _ := json.Marshal(c) // a bool always can be
	return data
}

// decodeCondemnation takes the worst for granted of a record that is damaged, as its store or
// what it says tells: it is put right by whoever repeats the removal.
func decodeCondemnation(data []byte, damaged error) condemnation {
	var c condemnation
	if damaged != nil || json.Unmarshal(data, &c) != nil {
		return condemnation{Removing: true}
	}
	return c
}

// errGoing says that the bytes of a blob are being removed, or are gone, although
// somebody has just linked it.
var errGoing = errors.New("blob is being removed")

// again is err for a client that has sent something and can only send it again.
func again(err error) error {
	if errors.Is(err, errGoing) {
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "the blob is being removed: try again"), err)
	}
	return err
}

// absent is err for a client that has nothing yet, and will send it.
func absent(d digest.Digest, err error) error {
	if errors.Is(err, errGoing) {
		return blobError(d, store.ErrNotFound)
	}
	return err
}

// secure makes sure that a blob which the caller has linked, or whose link he has
// renewed, stays where he has found it, or finds it next. He holds it. Errors: errGoing.
func (r *Registry) secure(ctx context.Context, d digest.Digest) error {
	if r.options().Grace == 0 {
		return nil
	}
	if err := r.Spare(ctx, d); err != nil {
		if errors.Is(err, origin.ErrInUse) {
			err = errGoing
		}
		return fmt.Errorf("blob %s: %w", d, err)
	}
	// In this process bytes that somebody holds are not removed, and in others nobody is.
	if r.options().Sole {
		return nil
	}
	if _, err := r.blobs.Stat(ctx, d); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = errGoing
		}
		return fmt.Errorf("blob %s: %w", d, err)
	}
	return nil
}

// Spare implements origin.Sweeper.
func (r *Registry) Spare(ctx context.Context, d digest.Digest) error {
	if r.ruledOut(ctx, d) {
		return nil
	}
	for {
		rec, err := r.records.Get(ctx, keyCondemned(d))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil && !errors.Is(err, errDamaged) {
			return fmt.Errorf("read condemnation of %s: %w", d, err)
		}
		c := decodeCondemnation(rec.Data, err)
		// Nobody else removes anything, and this process does it under a lock that those
		// who link hold too: it was interrupted.
		if c.Removing && !r.options().Sole {
			return origin.ErrInUse
		}
		err = r.uncondemn(ctx, d, rec.Version)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("spare blob %s: %w", d, err)
		}
	}
}

// Condemn implements origin.Sweeper.
func (r *Registry) Condemn(ctx context.Context, d digest.Digest) error {
	if err := r.countAllCondemned(ctx); err != nil {
		return fmt.Errorf("condemn blob %s: %w", d, err)
	}
	r.condemnations.add(d, 1) // first, or who links it now would not look
	_, err := r.records.Put(ctx, keyCondemned(d), encodeCondemnation(condemnation{}), store.Absent())
	if errors.Is(err, store.ErrConflict) {
		r.condemnations.add(d, -1) // it is, and was counted then
		return nil
	}
	if err != nil {
		return fmt.Errorf("condemn blob %s: %w", d, err)
	}
	return nil
}

// Condemned implements origin.Inventory.
func (r *Registry) Condemned(ctx context.Context) iter.Seq2[origin.Condemned, error] {
	return func(yield func(origin.Condemned, error) bool) {
		if err := r.countAllCondemned(ctx); err != nil {
			yield(origin.Condemned{}, err)
			return
		}
		for e, err := range r.records.List(ctx, prefixCondemned, "") {
			c, ok := origin.Condemned{}, false
			if err == nil {
				c, ok, err = r.condemned(ctx, e)
			}
			if err != nil {
				yield(origin.Condemned{}, fmt.Errorf("list condemned blobs: %w", err))
				return
			}
			if ok && !yield(c, nil) {
				return
			}
		}
	}
}

// condemned reads the record of a condemned blob. ok is false where that is spared, or
// being removed by somebody.
func (r *Registry) condemned(ctx context.Context, e store.Entry) (c origin.Condemned, ok bool, err error) {
	d, ok := digestOfPath(lastOfKey(e.Key, prefixCondemned))
	if !ok {
		return c, false, fmt.Errorf("record %s: %w", e.Key, errDamaged)
	}
	rec, err := r.records.Get(ctx, e.Key)
	if errors.Is(err, store.ErrNotFound) {
		return c, false, nil
	}
	if err != nil && !errors.Is(err, errDamaged) {
		return c, false, err
	}
	is := decodeCondemnation(rec.Data, err)
	if is.Removing && !r.options().Sole {
		now, err := r.clock.now(ctx, r)
		if err != nil || now.Sub(rec.Modified) < abandoned {
			return c, false, err
		}
	}
	// Of one that is damaged a listing may have the version.
	return origin.Condemned{Digest: d, Modified: rec.Modified, Version: cmp.Or(rec.Version, e.Version)}, true, nil
}

// Remove implements origin.Sweeper. In one process nobody links the blob meanwhile, so
// that nobody is told to try again. Somebody who is doing so just now is not waited for,
// as in Evict.
func (r *Registry) Remove(ctx context.Context, c origin.Condemned) (int64, error) {
	others := r.removalLocks.of(origin.Repo{}, c.Digest.String())
	others.Lock()
	defer others.Unlock()
	l := r.blobLocks.of(origin.Repo{}, c.Digest.String())
	if !l.TryLock() {
		return 0, fmt.Errorf("remove blob %s: %w", c.Digest, origin.ErrInUse)
	}
	defer l.Unlock()
	size, err := r.remove(ctx, c)
	if err != nil {
		return size, fmt.Errorf("remove blob %s: %w", c.Digest, err)
	}
	return size, nil
}

func (r *Registry) remove(ctx context.Context, c origin.Condemned) (int64, error) {
	key := keyCondemned(c.Digest)
	if c.Version == "" {
		// What is damaged on a disk has no version that would tell whether it was spared
		// meanwhile. The next run condemns it anew.
		if err := r.uncondemn(ctx, c.Digest, ""); err != nil && !errors.Is(err, store.ErrNotFound) {
			return 0, err
		}
		return 0, origin.ErrInUse
	}
	// From now on nobody spares it.
	version, err := r.records.Put(ctx, key, encodeCondemnation(condemnation{Removing: true}), store.Version(c.Version))
	if errors.Is(err, store.ErrConflict) {
		return 0, origin.ErrInUse
	}
	if err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	info, err := r.blobs.Stat(limited, c.Digest)
	if err == nil {
		err = r.blobs.Delete(limited, c.Digest)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	if err := r.uncondemn(ctx, c.Digest, version); err != nil {
		return info.Size, err
	}
	if err != nil {
		return 0, blobError(c.Digest, err)
	}
	return info.Size, nil
}
