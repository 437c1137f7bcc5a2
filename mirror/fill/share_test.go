package fill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/store"
)

// cluster is replicas in one process: who leads, and how their fills are reached.
type cluster struct {
	mu      sync.Mutex
	leaders map[Key]string
	groups  map[string]*Group
	lies    bool // everybody leads
	deaf    bool // nobody can say
	asks    []string
	flip    bool // what is followed is other content
	breaks  int64
	leads   int                   // how often it was asked who leads
	freed   map[Key]chan struct{} // closed when its leader is none any more
}

type seat struct {
	*cluster
	name string
}

func (s seat) Lead(_ context.Context, key Key) (release func(), leader string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads++
	switch leader = s.leaders[key]; {
	case s.deaf:
		return nil, ""
	case leader != "" && !s.lies:
		return nil, leader
	}
	s.leaders[key] = s.name
	freed := make(chan struct{})
	s.freed[key] = freed
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.leaders, key)
		close(freed)
	}, ""
}

func (s seat) Await(ctx context.Context, key Key) error {
	s.mu.Lock()
	freed := s.freed[key]
	s.mu.Unlock()
	select {
	case <-freed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s seat) Follow(ctx context.Context, leader string, key Key, off, n int64) (Stream, error) {
	s.mu.Lock()
	s.asks = append(s.asks, fmt.Sprintf("%s>%s %d%+d", s.name, leader, off, n))
	s.mu.Unlock()
	f, ok := s.groups[leader].Find(key)
	if !ok {
		return Stream{}, errors.New("no such fill")
	}
	b, err := f.Follow(ctx, store.Range{Off: off, Len: max(n, 0)})
	if err != nil {
		return Stream{}, err
	}
	body := io.ReadCloser(b.Body)
	if s.flip || s.breaks > 0 {
		body = &spoilt{ReadCloser: body, off: b.Offset, flip: s.flip, breaks: s.breaks}
	}
	return Stream{ReadCloser: body, Offset: b.Offset, Length: b.Length, Size: b.Size, Upstream: b.Source.Upstream}, nil
}

// spoilt is a stream with a wrong byte, or with an end that is none.
type spoilt struct {
	io.ReadCloser
	off    int64
	flip   bool
	breaks int64
}

func (s *spoilt) Read(p []byte) (int, error) {
	if s.breaks > 0 && s.off >= s.breaks {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.ReadCloser.Read(p)
	if s.flip && s.off == 0 && n > 0 {
		p[0] ^= 1
	}
	s.off += int64(n)
	return n, err
}

// pair makes two replicas.
func pair(t *testing.T) (c *cluster, one, other *rig) {
	c = &cluster{leaders: map[Key]string{}, groups: map[string]*Group{}, freed: map[Key]chan struct{}{}}
	seated := func(name string) *rig {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 2}, Replicas: seat{c, name}})
		c.groups[name] = r.Group
		return r
	}
	return c, seated("one"), seated("other")
}

// read has one replica begin, and then the other ask too; it gives what each got.
func read(t *testing.T, one, other *rig, first, second *upstream) (errs [2]error) {
	t.Helper()
	var both sync.WaitGroup
	get := func(i int, r *rig, u *upstream) {
		got, err := r.get(t.Context(), u, store.Range{}, i == 0)
		if err == nil && !bytes.Equal(got, first.data) {
			t.Errorf("replica %d: %d bytes of %d, others, and no error", i, len(got), len(first.data))
		}
		errs[i] = err
	}
	both.Go(func() { get(0, one, first) })
	time.Sleep(5 * time.Millisecond)
	both.Go(func() { get(1, other, second) })
	both.Wait()
	return errs
}

func wantNil(t *testing.T, errs [2]error) {
	t.Helper()
	if errs != [2]error{} {
		t.Errorf("errors %v", errs)
	}
}

// Law 8: two replicas are asked for a blob; the upstream gives its bytes once.
func TestFillOncePerCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, other := pair(t)
		u, none := newUpstream(content(5*mib+123)).known(), newUpstream(content(5*mib+123)).known()
		u.pause = time.Millisecond
		wantNil(t, read(t, one, other, u, none))
		one.done(u)
		other.done(none)
		if u.given != int64(len(u.data)) || len(none.asks()) > 0 {
			t.Errorf("the upstream gave %d bytes of %d, and was asked %v by the other", u.given, len(u.data), none.asks())
		}
		if len(c.asks) == 0 || len(c.leaders) > 0 {
			t.Errorf("followed %v, leases left %v", c.asks, c.leaders)
		}
		if one.count() != 1 || other.count() != 1 || !bytes.Equal(other.kept[0], u.data) {
			t.Errorf("kept %d and %d times", one.count(), other.count())
		}
	})
}

// Law 8: a follower that has all waits for its leader to have stored it, and asks nobody
// meanwhile.
func TestFillFollowerStoresLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, other := pair(t)
		u := newUpstream(content(mib)).known()
		u.pause = time.Millisecond
		order := make(chan string, 2)
		join := func(r *rig, name string, takes time.Duration) *Fill {
			f, _, err := r.Join(t.Context(), key(u.data), u.told, u.source, func(ctx context.Context, _ *os.File, _ int64) error {
				time.Sleep(takes)
				order <- name
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		a := join(one, "leader", 5*time.Second)
		time.Sleep(time.Millisecond)
		b := join(other, "follower", 0)
		a.Leave()
		b.Leave()
		if first, second := <-order, <-order; first != "leader" || second != "follower" {
			t.Errorf("stored by the %s, then by the %s", first, second)
		}
		one.done(u)
		other.done(u)
		// The leader; the follower when it began, when it had all, and when the leader was done.
		if c.leads != 4 {
			t.Errorf("asked %d times who leads", c.leads)
		}
	})
}

// Law 8: a leader that is stopped while it stores keeps its followers from nothing but that
// for a minute: they store the blob themselves then. So a lease saves work, and nothing else.
func TestFillLeaderIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, other := pair(t)
		u := newUpstream(content(mib)).known()
		stored := make(chan string, 2)
		join := func(r *rig, name string, takes time.Duration) {
			f, _, err := r.Join(t.Context(), key(u.data), u.told, u.source, func(context.Context, *os.File, int64) error {
				time.Sleep(takes)
				stored <- name
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			b, err := f.Follow(t.Context(), store.Range{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(b.Body)
			if err != nil || !bytes.Equal(got, u.data) {
				t.Errorf("at %s: %d bytes, %v", name, len(got), err)
			}
			_ = b.Body.Close()
		}
		begun := time.Now()
		join(one, "leader", time.Hour)
		join(other, "follower", 0)
		if took := time.Since(begun); took > quiet {
			t.Errorf("who reads has waited %v", took)
		}
		if first := <-stored; first != "follower" || time.Since(begun) > settled+quiet {
			t.Errorf("stored by the %s after %v", first, time.Since(begun))
		}
		if last := <-stored; last != "leader" {
			t.Errorf("stored by the %s again", last)
		}
		one.done(u)
		other.done(u)
	})
}

// A follower that waits for its leader to store does not keep a shutdown waiting.
func TestFillFollowerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, other := pair(t)
		u := newUpstream(content(mib)).known()
		join := func(r *rig, takes time.Duration) {
			f, _, err := r.Join(t.Context(), key(u.data), u.told, u.source, func(context.Context, *os.File, int64) error {
				time.Sleep(takes)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			f.Leave()
			time.Sleep(time.Second) // it has all
		}
		join(one, time.Hour)
		join(other, 0)
		begun := time.Now()
		if err := other.Close(t.Context()); err != nil || time.Since(begun) > 0 {
			t.Errorf("closed after %v, %v", time.Since(begun), err)
		}
		one.done(u)
	})
}

// Law 8: a leader that gives no byte for 2 s is not waited for: its follower asks the
// upstream for what it lacks.
func TestFillLeaderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, other := pair(t)
		slow, fast := newUpstream(content(5*mib)).known(), newUpstream(content(5*mib)).known()
		slow.pause = time.Millisecond
		slow.fault = func(off int64) error {
			if off >= 2*mib {
				time.Sleep(time.Minute)
			}
			return nil
		}
		begun := time.Now()
		got := make(chan time.Duration, 1)
		var both sync.WaitGroup
		both.Go(func() { _, _ = one.get(t.Context(), slow, store.Range{}, true) })
		time.Sleep(5 * time.Millisecond)
		both.Go(func() {
			b, err := other.get(t.Context(), fast, store.Range{}, true)
			if err != nil || !bytes.Equal(b, fast.data) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			got <- time.Since(begun)
		})
		if d := <-got; d > 5*time.Second {
			t.Errorf("the follower had it after %v", d)
		}
		if fast.given == 0 || fast.given > 4*mib {
			t.Errorf("the follower fetched %d bytes itself", fast.given)
		}
		both.Wait()
		one.done(slow)
		other.done(fast)
	})
}

// Law 8: a leader that goes away in the middle costs a download of what was missing.
func TestFillLeaderBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, other := pair(t)
		u, own := newUpstream(content(5*mib)).known(), newUpstream(content(5*mib)).known()
		u.pause = time.Millisecond
		c.breaks = mib
		wantNil(t, read(t, one, other, u, own))
		if own.given == 0 {
			t.Error("nothing was fetched again: this looks at nothing")
		}
		one.done(u)
		other.done(own)
	})
}

// Law 8: where all are told that they lead, or none can be told, each fetches for itself,
// and each gives the right bytes.
func TestFillLeasesLie(t *testing.T) {
	for name, set := range map[string]func(*cluster){
		"all lead": func(c *cluster) { c.lies = true }, "none leads": func(c *cluster) { c.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, one, other := pair(t)
				set(c)
				u, own := newUpstream(content(3*mib)).known(), newUpstream(content(3*mib)).known()
				u.pause = time.Millisecond
				wantNil(t, read(t, one, other, u, own))
				one.done(u)
				other.done(own)
				if len(c.asks) > 0 || own.given != int64(len(own.data)) {
					t.Errorf("followed %v, fetched %d bytes", c.asks, own.given)
				}
			})
		})
	}
}

// Law 8: what a leader gives is verified as an upstream's is.
func TestFillLeaderIsCorrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, other := pair(t)
		u := newUpstream(content(3 * mib)).known()
		u.pause = time.Millisecond
		c.flip = true
		errs := read(t, one, other, u, u)
		if errs[0] != nil || !errors.Is(errs[1], ErrCorrupt) {
			t.Errorf("errors %v", errs)
		}
		if other.count() > 0 {
			t.Error("corrupt content was stored")
		}
		one.done(u)
		other.done(u)
	})
}
