package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store/coord"
)

// leadTTL is for how long nobody evicts after the replica that did is gone and has not said
// so.
const leadTTL = 5 * time.Second

// cacheWatcher tells a cache that may not have been made yet what other replicas do to blobs.
type cacheWatcher struct{ cache atomic.Pointer[evict.Cache] }

// Pushed is told of blobs that are not only mirrored any more.
func (w *cacheWatcher) Pushed(d digest.Digest) { w.cache.Load().Pushed(d) }

// Relinked implements local.Watcher.
func (w *cacheWatcher) Relinked(repo origin.Repo, d digest.Digest, mirrored bool) {
	w.cache.Load().Relinked(repo, d, mirrored)
}

// Condemned implements local.Watcher.
func (w *cacheWatcher) Condemned(d digest.Digest) { w.cache.Load().Condemned(d) }

// Missed implements local.Watcher.
func (w *cacheWatcher) Missed() { w.cache.Load().Missed() }

// cacheBudget is a cache's, for what is fetched.
type cacheBudget struct{ cache *evict.Cache }

// Wait implements fill.Budget.
func (b cacheBudget) Wait(ctx context.Context, k fill.Key) {
	repo, _ := repoOf(k) // none is too long that somebody asked for
	b.cache.Wait(ctx, repo)
}

// Reserve implements fill.Budget.
func (b cacheBudget) Reserve(k fill.Key, size int64) error {
	repo, _ := repoOf(k)
	err := b.cache.Reserve(repo, k.Digest, size)
	switch {
	case errors.Is(err, evict.ErrUnlisted):
		err = fmt.Errorf("%w: %w", fill.ErrNotYet, err)
	case errors.Is(err, evict.ErrFull):
		err = fmt.Errorf("%w: %w", fill.ErrFull, err)
	}
	return err
}

// Known implements fill.Budget.
func (b cacheBudget) Known(ctx context.Context) { b.cache.Listed(ctx) }

// Fetched implements fill.Budget.
func (b cacheBudget) Fetched(k fill.Key, size int64) {
	repo, _ := repoOf(k)
	b.cache.Fetched(repo, k.Digest, size)
}

// Release implements fill.Budget.
func (b cacheBudget) Release(k fill.Key, size int64) {
	repo, _ := repoOf(k)
	b.cache.Release(repo, k.Digest, size)
}

// evicting is what the caches of replicas share.
func (r *replicas) evicting() evict.Shared {
	if r == nil {
		return nil
	}
	return evicting{r.redis}
}

type evicting struct{ *coord.Redis }

// Lead implements evict.Shared.
func (e evicting) Lead(ctx context.Context) (release func(), lost <-chan struct{}, held bool) {
	lock, err := e.TryLock(ctx, "evict", "", leadTTL)
	if err == nil {
		return lock.Unlock, lock.Lost(), false
	}
	_, held = errors.AsType[*coord.HeldError](err)
	return nil, nil, held
}
