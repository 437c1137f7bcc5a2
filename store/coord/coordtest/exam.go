package coordtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-registry/weir/store/coord"
)

// Party is one of those who coordinate.
type Party struct {
	coord.Locker
	coord.Cache
	coord.Notify
}

// Pair makes two parties that share what they coordinate by, and nothing else does.
type Pair func(t *testing.T) (one, other Party)

// ttl is that of the exam's locks: whoever holds one may have no processor for most of it.
const ttl = 5 * time.Second

// Locks examines a Locker.
func Locks(t *testing.T, pair Pair) {
	ctx := t.Context()
	take := func(t *testing.T, p Party, name, holder string) coord.Lock {
		t.Helper()
		l, err := p.TryLock(ctx, name, holder, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Run("held by one", func(t *testing.T) {
		one, other := pair(t)
		l := take(t, one, "a/b:c", "http://one")
		for _, p := range []Party{one, other} {
			_, err := p.TryLock(ctx, "a/b:c", "http://other", ttl)
			held, ok := errors.AsType[*coord.HeldError](err)
			if !ok || held.Holder != "http://one" || held.Name != "a/b:c" {
				t.Errorf("error %v, holder %+v", err, held)
			}
		}
		take(t, other, "a/b:d", "").Unlock()
		l.Unlock()
		take(t, other, "a/b:c", "").Unlock()
	})
	t.Run("tokens grow", func(t *testing.T) {
		one, other := pair(t)
		last := uint64(0)
		for i := range 20 {
			l := take(t, []Party{one, other}[i%2], "x", "")
			if l.Token() <= last {
				t.Errorf("token %d after %d", l.Token(), last)
			}
			last = l.Token()
			l.Unlock()
		}
	})
	t.Run("unlocking twice takes nothing from the next", func(t *testing.T) {
		one, other := pair(t)
		l := take(t, one, "x", "")
		l.Unlock()
		next := take(t, other, "x", "next")
		l.Unlock()
		if _, err := one.TryLock(ctx, "x", "", ttl); err == nil {
			t.Error("the lock of another was given back")
		}
		next.Unlock()
	})
	t.Run("renewed", func(t *testing.T) {
		one, other := pair(t)
		begun := time.Now()
		l := take(t, one, "x", "")
		first := l.Until()
		if first.Before(begun) || first.After(time.Now().Add(ttl)) {
			t.Errorf("it is held for %v from when it was asked for", first.Sub(begun))
		}
		select {
		case <-l.Lost():
			t.Error("lost")
		case <-time.After(time.Until(first)):
		}
		if !l.Until().After(first) {
			t.Error("renewed, and not for longer")
		}
		if _, err := other.TryLock(ctx, "x", "", ttl); err == nil {
			t.Error("two hold it")
		}
		l.Unlock()
	})
	t.Run("awaited", func(t *testing.T) {
		one, other := pair(t)
		if err := one.Await(ctx, "x"); err != nil {
			t.Errorf("what nobody holds: %v", err)
		}
		l := take(t, one, "x", "")
		ended, end := context.WithCancel(ctx)
		var all sync.WaitGroup
		all.Go(func() {
			if err := other.Await(ended, "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("who waits no more: %v", err)
			}
		})
		var freed atomic.Int64
		for i := range 10 {
			all.Go(func() {
				if err := []Party{one, other}[i%2].Await(ctx, "x"); err != nil {
					t.Error(err)
				}
				freed.Add(1)
			})
		}
		take(t, other, "y", "").Unlock() // another one
		end()
		time.Sleep(300 * time.Millisecond)
		if n := freed.Load(); n > 0 {
			t.Errorf("%d were told of a lock that is held", n)
		}
		l.Unlock()
		all.Wait()
	})
	t.Run("one of many", func(t *testing.T) {
		one, other := pair(t)
		var mu sync.Mutex
		var won []coord.Lock
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				l, err := []Party{one, other}[i%2].TryLock(ctx, "x", "", 10*time.Second)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				won = append(won, l)
			})
		}
		all.Wait()
		if len(won) != 1 {
			t.Fatalf("%d hold it", len(won))
		}
		won[0].Unlock()
	})
}

// Values examines a Cache.
func Values(t *testing.T, pair Pair) {
	ctx := t.Context()
	want := func(t *testing.T, c coord.Cache, key, value string) {
		t.Helper()
		got, ok := c.Get(ctx, key)
		if !ok || string(got) != value {
			t.Errorf("%s is %q (%t), want %q", key, got, ok, value)
		}
	}
	miss := func(t *testing.T, c coord.Cache, key string) {
		t.Helper()
		if got, ok := c.Get(ctx, key); ok {
			t.Errorf("%s is %q, want a miss", key, got)
		}
	}
	t.Run("set and got", func(t *testing.T) {
		one, other := pair(t)
		miss(t, one, "a")
		one.Set(ctx, "a", []byte("1\x00\xff"), time.Hour)
		want(t, one, "a", "1\x00\xff")
		want(t, other, "a", "1\x00\xff")
		miss(t, other, "b")
		other.Set(ctx, "a", nil, time.Hour)
		want(t, one, "a", "")
	})
	t.Run("deleted", func(t *testing.T) {
		one, other := pair(t)
		one.Set(ctx, "a", []byte("1"), time.Hour)
		one.Set(ctx, "b", []byte("2"), time.Hour)
		other.Delete(ctx, "a")
		other.Delete(ctx, "never")
		miss(t, one, "a")
		want(t, one, "b", "2")
	})
	t.Run("over its time", func(t *testing.T) {
		one, other := pair(t)
		one.Set(ctx, "a", []byte("1"), 20*time.Millisecond)
		one.Set(ctx, "b", []byte("1"), time.Hour)
		one.Set(ctx, "b", []byte("2"), 0)
		miss(t, other, "b") // it is over at once, and what was before is not there either
		Eventually(t, "the value goes", func() bool { _, ok := other.Get(ctx, "a"); return !ok })
	})
	t.Run("large", func(t *testing.T) {
		one, other := pair(t)
		most := bytes.Repeat([]byte("x"), coord.MaxValue)
		one.Set(ctx, "a", most, time.Hour)
		want(t, other, "a", string(most))
		one.Set(ctx, "b", []byte("1"), time.Hour)
		one.Set(ctx, "b", append(most, 'x'), time.Hour)
		miss(t, other, "b")
	})
}

// Heard is what a subscriber was told.
type Heard struct {
	mu     sync.Mutex
	keys   []string
	missed int

	Current func() bool
}

// Listen subscribes, and waits until the subscription is current.
func Listen(t *testing.T, n coord.Notify) *Heard {
	t.Helper()
	h := Hear(n)
	Eventually(t, "the subscription is current", h.Current)
	return h
}

// Hear is Listen that does not wait.
func Hear(n coord.Notify) *Heard {
	h := &Heard{}
	h.Current = n.Subscribe(func(keys []string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.keys = append(h.keys, keys...)
	}, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.missed++
	})
	return h
}

// Keys gives the keys that it was told, in order.
func (h *Heard) Keys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.keys)
}

// Missed gives how often it was told that it may have missed something.
func (h *Heard) Missed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.missed
}

// Changes examines a Notify.
func Changes(t *testing.T, pair Pair) {
	t.Run("told to the others", func(t *testing.T) {
		one, other := pair(t)
		own, first, second := Listen(t, one), Listen(t, other), Listen(t, other)
		var want []string
		for i := range 50 {
			keys := []string{"r/a/_t/v1", "r/a/_m/sha256/" + strings.Repeat("a", i)}
			want = append(want, keys...)
			one.Publish(t.Context(), keys...)
		}
		one.Publish(t.Context())
		for _, h := range []*Heard{first, second} {
			Eventually(t, "all keys are told", func() bool { return len(h.Keys()) >= len(want) })
			if !slices.Equal(h.Keys(), want) {
				t.Errorf("told %q, want %q", h.Keys(), want)
			}
		}
		if got := own.Keys(); len(got) > 0 {
			t.Errorf("told of what it published itself: %q", got)
		}
		other.Publish(t.Context(), "back")
		Eventually(t, "the other direction", func() bool { return slices.Equal(own.Keys(), []string{"back"}) })
	})
	t.Run("mentioned to the others", func(t *testing.T) {
		one, other := pair(t)
		h := Listen(t, other)
		Listen(t, one) // or it mentions nothing
		one.Mention(t.Context(), "use/a", "use/b")
		one.Mention(t.Context())
		one.Publish(t.Context(), "c")
		Eventually(t, "all keys are told", func() bool { return len(h.Keys()) >= 3 })
		if want := []string{"use/a", "use/b", "c"}; !slices.Equal(h.Keys(), want) {
			t.Errorf("told %q, want %q", h.Keys(), want)
		}
	})
	t.Run("settled", func(t *testing.T) {
		one, other := pair(t)
		heard, own := Listen(t, one), Listen(t, other)
		for i := range 20 {
			other.Publish(t.Context(), fmt.Sprint("k", i))
		}
		one.Publish(t.Context(), "back")
		Eventually(t, "it is settled", func() bool { // which a machine that is busy may make uncertain
			err := one.Settle(t.Context())
			if err != nil && !errors.Is(err, coord.ErrAway) {
				t.Fatal(err)
			}
			return err == nil
		})
		if len(heard.Keys()) != 20 || own.Current() && len(own.Keys()) != 1 {
			t.Errorf("settled, and told %d keys here, %d there", len(heard.Keys()), len(own.Keys()))
		}
	})
	t.Run("though its request has ended", func(t *testing.T) {
		one, other := pair(t)
		h := Listen(t, other)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		one.Publish(ctx, "a")
		Eventually(t, "it is told", func() bool { return len(h.Keys()) > 0 || h.Missed() > 1 })
	})
}

// Limit is how long what happens by itself may take on a machine that is busy.
const Limit = 2 * time.Minute

// Eventually waits until something is so.
func Eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.After(Limit); !so(); {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("not within %v: %s", Limit, what)
		}
	}
}
