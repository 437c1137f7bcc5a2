package mirror

import (
	"context"
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const (
	// aheadImages and aheadBlobs are how many images of an upstream are fetched ahead at
	// a time, and how many blobs of each. More would be no faster: a blob comes in
	// several streams.
	aheadImages, aheadBlobs = 2, 2
	// aheadWaiting is how many indexes may wait for that. The next pull of one that
	// found no place asks again.
	aheadWaiting = 64
	// aheadAgain is how long an index is not looked at again of which all was there; the
	// look costs no request, but is not to be part of each pull.
	aheadAgain = time.Minute
)

// ahead fetches what is likely to be asked for next: the images for the platforms of
// Upstream.Prefetch of an index that was pulled by a tag. Nobody waits for it.
type ahead struct {
	mirror  *Mirror
	ctx     context.Context // ends with the mirror: what is fetched ahead is no request's
	cancel  context.CancelCauseFunc
	running sync.WaitGroup
	tagged  *lru.Cache[contentKey, struct{}]  // what a tag was lately said to stand for
	rest    *lru.Cache[contentKey, time.Time] // until when an index is let alone

	mu     sync.Mutex
	closed bool
	begun  map[contentKey]bool
	turns  map[*Upstream]*semaphore.Weighted
}

func newAhead(m *Mirror) *ahead {
	a := &ahead{mirror: m, begun: map[contentKey]bool{}, turns: map[*Upstream]*semaphore.Weighted{}}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	// New fails only for a size below one.
	a.tagged, _ = lru.New[contentKey, struct{}](remembered)
	a.rest, _ = lru.New[contentKey, time.Time](remembered)
	return a
}

// close ends what is being fetched, and waits for its end. What has come is kept.
func (a *ahead) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel(errClosing)
	a.running.Wait()
}

// finish begins nothing more, and waits for what is being fetched; when ctx ends, that is
// cut.
func (a *ahead) finish(ctx context.Context) {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	cut := context.AfterFunc(ctx, func() { a.cancel(errClosing) })
	defer cut()
	a.running.Wait()
	a.cancel(errClosing)
}

// resolved takes note of what a client was told a tag stands for: it will get that by
// its digest, and means the tag.
func (a *ahead) resolved(p place, ref origin.Ref, d origin.Descriptor) {
	if ref.Tag() != "" && len(p.upstream.Prefetch) > 0 {
		a.tagged.Add(contentKey{p.repo, d.Digest}, struct{}{})
	}
}

// pulled begins to fetch what goes with a manifest that a client was given, if that is
// an index, and a tag led to it.
func (a *ahead) pulled(p place, ref origin.Ref, man origin.Manifest) {
	k := contentKey{p.repo, man.Digest}
	if len(p.upstream.Prefetch) == 0 || ref.Tag() == "" && !a.tagged.Contains(k) {
		return
	}
	if until, ok := a.rest.Get(k); ok && time.Now().Before(until) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.begun[k] || len(a.begun) >= aheadWaiting {
		return
	}
	a.begun[k] = true
	a.running.Go(func() {
		err := a.index(p, man)
		wait := aheadAgain
		if err != nil {
			wait = max(p.upstream.Tags.NegativeTTL, time.Second)
			if a.ctx.Err() == nil {
				a.mirror.opts.Log.Info("not fetched ahead", "repository", p.repo.String(), "digest", man.Digest.String(), "error", err)
			}
		}
		a.rest.Add(k, time.Now().Add(wait))
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.begun, k)
	})
}

// index fetches the images of an index that are for the platforms.
func (a *ahead) index(p place, man origin.Manifest) error {
	content, err := origin.ReadManifest(man.MediaType, man.Bytes)
	if err != nil {
		return err
	}
	a.mu.Lock()
	turns := a.turns[p.upstream]
	if turns == nil {
		turns = semaphore.NewWeighted(aheadImages)
		a.turns[p.upstream] = turns
	}
	a.mu.Unlock()
	var errs []error
	for _, c := range content.Manifests {
		if !wanted(p.upstream.Prefetch, c.Platform) {
			continue
		}
		if err := turns.Acquire(a.ctx, 1); err != nil {
			return context.Cause(a.ctx)
		}
		errs = append(errs, a.image(p, c))
		turns.Release(1)
	}
	return errors.Join(errs...)
}

func wanted(platforms []origin.Platform, of *v1.Platform) bool {
	for _, p := range platforms {
		if p.Match(of) {
			return true
		}
	}
	return false
}

// image fetches a manifest and its blobs, as far as they are not here.
func (a *ahead) image(p place, d v1.Descriptor) error {
	man, err := a.mirror.byDigest(a.ctx, p, d.Digest)
	if err != nil {
		return err
	}
	content, err := origin.ReadManifest(man.MediaType, man.Bytes)
	if err != nil {
		return err
	}
	var blobs errgroup.Group
	blobs.SetLimit(aheadBlobs)
	for _, b := range content.Blobs {
		if len(b.URLs) == 0 {
			blobs.Go(func() error { return a.mirror.bring(a.ctx, p, b) })
		}
	}
	return blobs.Wait()
}

// bring has a blob here that nobody has asked for yet.
func (m *Mirror) bring(ctx context.Context, p place, b v1.Descriptor) error {
	switch _, err := m.origin.Stat(ctx, p.repo, b.Digest); {
	case err == nil:
		return nil
	case !origin.Unknown(err):
		return err
	}
	if err := m.refused(question{p.repo, headBlob, b.Digest.String()}); err != nil {
		return err
	}
	if opened, held, err := m.link(ctx, p, b.Digest, store.Range{}); held {
		if err == nil {
			err = opened.Body.Close()
		}
		return err
	}
	return m.fills.Ahead(ctx, m.key(p, b.Digest), b.Size, newSource(m, p, b.Digest).ask, m.keep(p, b.Digest))
}
