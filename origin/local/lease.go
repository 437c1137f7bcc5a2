package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// renewals is how many times in its grace a lease is renewed, at most.
const renewals = 10

// lease is when a record was written that whoever writes it relies upon: that of a
// link, or of a manifest.
type lease struct {
	since time.Time // by this process's clock, with a monotonic reading; zero where it was read and not written
	store time.Time // by the store's clock, where it was read
}

// leased is a lease that begins now.
func leased() lease { return lease{since: time.Now()} }

// due reports whether a lease is to be renewed before anything is promised.
func (r *Registry) due(ctx context.Context, l lease) bool {
	grace := r.options().Grace
	if grace == 0 {
		return false
	}
	if l.since.IsZero() {
		now, err := r.clock.now(ctx, r)
		// Where the store does not tell the time it may not take the renewal either; that
		// is found out by trying.
		return err != nil || now.Sub(l.store) >= grace/renewals
	}
	return time.Since(l.since) >= grace/renewals
}

// touch gives the mark of a link, after its lease was renewed where that is due: what is
// said of the blob then holds for the grace. Where nothing can be written it is not renewed,
// and who only looks is answered: whoever relies on the blob writes something, and looks
// again when he can. Errors: ErrBlobUnknown, errGoing.
func (r *Registry) touch(ctx context.Context, k content) (mark, error) {
	if r.options().Grace == 0 {
		return r.linked(ctx, k)
	}
	if l, ok := r.links.get(k); ok && !r.due(ctx, l.lease) {
		return l.mark, nil
	}
	if _, err := origin.ParseDigest(k.digest.String()); err != nil {
		return pushed, err
	}
	defer r.holdBlob(k.digest)()
	m, err := r.touchHeld(ctx, k)
	if unwritable(err) {
		return r.linked(ctx, k)
	}
	return m, err
}

// touchHeld is touch for who holds the blob, and relies on its lease.
func (r *Registry) touchHeld(ctx context.Context, k content) (mark, error) {
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	m, renewed, err := r.renew(ctx, k, mirrored)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return pushed, blobError(k.digest, err)
	case err != nil:
		return pushed, fmt.Errorf("renew link of %s in %s: %w", k.digest, k.repo, err)
	case renewed:
		err = r.secure(ctx, k.digest)
	}
	return m, err
}

// renew gives the mark of a link that is there, after it has made it pushed if m says so
// and renewed its lease if that is due. The caller holds its lock. Errors:
// store.ErrNotFound.
func (r *Registry) renew(ctx context.Context, k content, m mark) (is mark, renewed bool, err error) {
	l, known := r.links.sure(k)
	lapsing := known && r.due(ctx, l.lease)
	if known && (l.mark == m || l.mark == pushed) && !lapsing {
		return l.mark, false, nil // somebody was faster
	}
	for {
		rec, damaged := r.records.Get(ctx, keyBlob(k.repo, k.digest))
		if damaged != nil && !errors.Is(damaged, errDamaged) {
			r.links.remove(k)
			return m, false, damaged
		}
		was, bad := decodeLink(rec.Data)
		damaged = errors.Join(damaged, bad)
		is := was && m
		if damaged != nil {
			is = pushed // who made it is not known, so it stays
		}
		same := damaged == nil && is == was
		now := lease{store: rec.Modified}
		// To ask the store for the time is a write, too: what is old by our own clock is
		// renewed at once.
		if same && !lapsing && !r.due(ctx, now) {
			r.keepLink(k, link{is, now})
			return is, false, nil
		}
		now = leased()
		if_ := store.Version(rec.Version)
		if damaged != nil {
			if_ = store.Always() // its version may be damaged, too
		}
		_, err = r.records.Put(ctx, keyBlob(k.repo, k.digest), encodeLink(is), if_)
		switch {
		case err == nil:
			r.isLinked(k, link{is, now})
			return is, true, nil
		case errors.Is(err, store.ErrConflict): // another process was here
		default:
			r.links.remove(k)
			return m, false, err
		}
	}
}

// unwritable reports whether err says that nothing can be written now.
func unwritable(err error) bool { return store.NoRoom(err) || errors.Is(err, syscall.EROFS) }

// clock tells the time by the store's clock, which dates what it has.
type clock struct {
	asking sync.Mutex // of who asks for what the others here want to know, too

	mu    sync.Mutex
	local time.Time // of this process, with a monotonic reading, when it was the store's time
	store time.Time
}

// now gives the store's time without asking the store, unless that was long ago.
func (c *clock) now(ctx context.Context, r *Registry) (time.Time, error) {
	most := r.options().Grace / renewals
	if t, ok := c.told(most); ok {
		return t, nil
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	if t, ok := c.told(most); ok {
		return t, nil
	}
	return c.ask(ctx, r)
}

// told gives the store's time from what it was told, if that was not longer ago than most.
func (c *clock) told(most time.Duration) (t time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ran := time.Since(c.local)
	return c.store.Add(ran), !c.local.IsZero() && ran < most
}

// ask writes a record to see what time it gets.
func (c *clock) ask(ctx context.Context, r *Registry) (time.Time, error) {
	if _, err := r.records.Put(ctx, keyClock, []byte("{}"), store.Always()); err != nil {
		return time.Time{}, fmt.Errorf("ask the store for the time: %w", err)
	}
	local := time.Now()
	rec, err := r.records.Get(ctx, keyClock)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the store for the time: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.local, c.store = local, rec.Modified
	return rec.Modified, nil
}

// Now implements origin.Inventory. Clients do not wait for who collects, and asks.
func (r *Registry) Now(ctx context.Context) (time.Time, error) { return r.clock.ask(ctx, r) }
