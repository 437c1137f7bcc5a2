package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// leastPause is how long after a fetch the next one may begin: some of those
	// services count requests (GetAuthorizationToken had one a second).
	leastPause = time.Second
	// longestPause is what it grows to while each new login is refused at once: it is
	// not the login then that the registry minds.
	longestPause = time.Minute
	// patience is how long a fetch may take, all in all.
	patience = 30 * time.Second
	// headStart is how long before a login lapses, at most, the next one is fetched.
	headStart = 15 * time.Minute
)

// ErrService says that the service that gives logins did not.
var ErrService = errors.New("no credentials from their service")

// Fetch gets a login, and says when it lapses; the zero time = not that anybody
// knew. Its errors hold no secrets.
type Fetch func(ctx context.Context) (l Login, lapses time.Time, err error)

// Cache is a Provider that fetches a login and keeps it.
type Cache struct {
	fetch   Fetch
	flights singleflight.Group

	mu     sync.Mutex
	held   Login
	have   bool
	begun  time.Time     // the last fetch
	lapses time.Time     // of held; zero = it does not
	renew  time.Time     // when to have another
	pause  time.Duration // from begun to the next fetch
	grown  time.Duration // what pause becomes with that
	err    error         // of the last fetch
}

// NewCache fetches nothing yet.
func NewCache(fetch Fetch) *Cache { return &Cache{fetch: fetch, pause: leastPause, grown: leastPause} }

// Login implements Provider. Errors: ctx's, ErrService.
func (c *Cache) Login(ctx context.Context) (Login, error) {
	if l, err, ok := c.settled(); ok {
		return l, err
	}
	landed := c.flights.DoChan("", func() (any, error) {
		if l, err, ok := c.settled(); ok { // by a flight that landed in between
			return l, err
		}
		// It goes on for the others when the one whose call it was leaves.
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), patience, os.ErrDeadlineExceeded)
		defer cancel()
		return c.get(ctx)
	})
	select {
	case r := <-landed:
		return r.Val.(Login), r.Err
	case <-ctx.Done():
		return Login{}, ctx.Err()
	}
}

// settled gives what there is to say without another fetch.
func (c *Cache) settled() (Login, error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch {
	case c.have && (c.renew.IsZero() || now.Before(c.renew)):
		return c.held, nil, true
	case now.Sub(c.begun) >= c.pause:
		return Login{}, nil, false
	case c.have && now.Before(c.lapses):
		return c.held, nil, true
	case c.err != nil:
		return Login{}, c.err, true
	}
	return Login{}, nil, false
}

func (c *Cache) get(ctx context.Context) (Login, error) {
	begun := time.Now()
	l, lapses, err := c.fetch(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun, c.err, c.pause = begun, nil, c.grown
	if err != nil {
		c.pause = leastPause
		// Whatever an error of the service's client is (it may be of a context that is
		// not the caller's), it is not the caller's.
		if ctx.Err() != nil {
			c.err = fmt.Errorf("%w: %w", ErrService, context.Cause(ctx))
		} else {
			c.err = fmt.Errorf("%w: %v", ErrService, err)
		}
		if c.have && begun.Before(c.lapses) {
			return c.held, nil
		}
		return Login{}, c.err
	}
	c.held, c.have, c.lapses, c.renew = l, true, lapses, time.Time{}
	if !lapses.IsZero() {
		c.renew = lapses.Add(-min(headStart, lapses.Sub(begun)/4))
	}
	return l, nil
}

// Drop implements Provider.
func (c *Cache) Drop(l Login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.have || c.held != l {
		return
	}
	age := time.Since(c.begun)
	if age < c.pause {
		return // it is new: no other one will do better
	}
	c.have, c.grown = false, leastPause
	if age < max(longestPause, 2*c.pause) { // refused about as soon as it could be
		c.grown = min(2*c.pause, longestPause)
	}
}

// Format implements fmt.Formatter, for every verb: what a cache holds is not for
// printing.
func (*Cache) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "a login") }
