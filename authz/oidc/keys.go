package oidc

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-registry/weir/authz"
)

const (
	day = 24 * time.Hour

	// between is how old the last fetch must be for an unknown key to cause another one.
	between = time.Minute
	// again is how long after one that failed the next fetch may begin.
	again = time.Second
	// fresh is how long keys are used without asking whether they still count.
	fresh = 10 * time.Minute
	// kept is how long they are used while that cannot be asked.
	kept = day
	// patience is how long a token waits for keys to be confirmed that are there.
	patience = 2 * time.Second
	// limit is how long a fetch may take in all.
	limit = 10 * time.Second
)

var (
	errUnknownKey = errors.New("signed by a key that the provider does not publish")
	errClosed     = errors.New("closed")
)

// keys are those of one issuer, by their kid.
type keys struct {
	fetch  func() (*set, error)
	outage func(error)
	stop   context.CancelFunc

	mu      sync.Mutex
	set     *set      // nil: none have come
	fetched time.Time // when set was last had, or confirmed
	failure error     // why the last fetch failed; nil: it did not
	failed  time.Time // when it did
	flight  *flight   // the fetch that runs; nil: none does
	closed  bool
	running sync.WaitGroup
}

// flight is a fetch that runs.
type flight struct {
	begun time.Time
	done  chan struct{} // closed at its end
}

// newKeys makes the keys that fetch gets; outage is told of the first failure of
// several, and of their end with nil.
func newKeys(fetch func(context.Context) (*set, error), outage func(error)) *keys {
	life, stop := context.WithCancel(context.Background())
	return &keys{
		stop: stop, outage: outage,
		// A fetch is for all who wait for it: it does not end with one request.
		fetch: func() (*set, error) {
			ctx, cancel := context.WithTimeout(life, limit)
			defer cancel()
			return fetch(ctx)
		},
	}
}

// find gives the keys that may verify a token, and the set that they are of. It
// fetches if it must and may. Errors: errUnknownKey; authz.ErrUnavailable: the issuer
// cannot be asked, or ctx ended.
func (k *keys) find(ctx context.Context, kid, alg string) ([]crypto.PublicKey, *set, error) {
	k.mu.Lock()
	now := time.Now()
	found, of := k.look(now, kid, alg)
	old := now.Sub(k.fetched) >= fresh
	if len(found) > 0 && !old {
		k.mu.Unlock()
		return found, of, nil
	}
	if k.flight == nil && k.mayFetch(now) {
		k.begin(now)
	}
	f, failing := k.flight, k.failure != nil
	k.mu.Unlock()

	switch {
	case f == nil:
	case len(found) == 0:
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%w: %w", authz.ErrUnavailable, ctx.Err())
		}
	case !failing: // an outage that is known slows nobody down
		timer := time.NewTimer(f.begun.Add(patience).Sub(now))
		defer timer.Stop()
		select {
		case <-f.done:
		case <-timer.C:
		case <-ctx.Done():
		}
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	found, of = k.look(time.Now(), kid, alg)
	switch {
	case len(found) > 0:
		return found, of, nil
	case k.failure != nil:
		return nil, nil, fmt.Errorf("%w: %w", authz.ErrUnavailable, k.failure)
	case k.closed && of == nil:
		return nil, nil, fmt.Errorf("%w: %w", authz.ErrUnavailable, errClosed)
	}
	return nil, nil, errUnknownKey
}

// holds reports whether that set is still the one that counts.
func (k *keys) holds(s *set) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return s == k.current(time.Now())
}

// current is the set that counts, nil if there is none (any more).
func (k *keys) current(now time.Time) *set {
	if k.set != nil && now.Sub(k.fetched) >= kept {
		return nil
	}
	return k.set
}

func (k *keys) look(now time.Time, kid, alg string) ([]crypto.PublicKey, *set) {
	s := k.current(now)
	if s == nil {
		return nil, nil
	}
	return s.find(kid, alg), s
}

// mayFetch decides whether the issuer may be asked by now.
func (k *keys) mayFetch(now time.Time) bool {
	switch {
	case k.closed:
		return false
	case k.failure != nil:
		return now.Sub(k.failed) >= again
	case k.set == nil:
		return true
	default:
		return now.Sub(k.fetched) > between
	}
}

// begin starts a fetch. k.mu is held.
func (k *keys) begin(now time.Time) {
	f := &flight{begun: now, done: make(chan struct{})}
	k.flight = f
	k.running.Go(func() {
		s, err := k.fetch()
		began, ended := k.took(s, err)
		close(f.done)
		if began || ended {
			k.outage(err)
		}
	})
}

// took takes the result of a fetch, and says whether an outage began or ended.
func (k *keys) took(s *set, err error) (began, ended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flight = nil
	now := time.Now()
	if err != nil {
		began = k.failure == nil && !k.closed
		k.failure, k.failed = err, now
		return began, false
	}
	ended = k.failure != nil
	k.failure, k.fetched = nil, now
	if !s.equal(k.set) {
		k.set = s
	}
	return false, ended
}

// close ends the fetch that runs, and waits for its end. There is no other after it.
func (k *keys) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.stop()
	k.running.Wait()
}
