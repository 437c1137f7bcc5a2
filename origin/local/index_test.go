package local

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// slowStore lists its keys when it is told to go on.
type slowStore struct {
	keys    []string
	proceed chan error // one for each listing: nil goes on, an error ends it
	n       int        // listings begun
}

func (s *slowStore) load(ctx context.Context, _, _ string) iter.Seq2[item[struct{}], error] {
	return func(yield func(item[struct{}], error) bool) {
		s.n++
		keys := slices.Clone(s.keys) // what is written from here on is missed
		select {
		case err := <-s.proceed:
			if err != nil {
				yield(item[struct{}]{}, err)
				return
			}
		case <-ctx.Done():
			yield(item[struct{}]{}, ctx.Err())
			return
		}
		for _, k := range keys {
			if !yield(item[struct{}]{key: k}, nil) {
				return
			}
		}
	}
}

func newSlow(keys ...string) (*slowStore, *indexes[struct{}]) {
	s := &slowStore{keys: keys, proceed: make(chan error, 10)}
	return s, newIndexes(1<<20, func(struct{}) int64 { return 0 }, s.load)
}

func list(ctx context.Context, x *indexes[struct{}], name string) (keys []string, err error) {
	err = x.page(ctx, name, "", func(it item[struct{}]) bool {
		keys = append(keys, it.key)
		return true
	})
	return keys, err
}

// A builder lists the store; a writer adds b and removes a, which the listing
// missed; the builder ends. The index has b and not a.
func TestIndexWriteWhileBuilding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := newSlow("a", "c")
		var got []string
		go func() { got, _ = list(t.Context(), x, "tags") }()
		synctest.Wait()
		x.set("tags", item[struct{}]{key: "b"})
		x.remove("tags", "a")
		s.proceed <- nil
		synctest.Wait()
		if want := []string{"b", "c"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if got, _ := list(t.Context(), x, "tags"); !slices.Equal(got, []string{"b", "c"}) || s.n != 1 {
			t.Errorf("%q after %d listings", got, s.n)
		}
	})
}

// Many readers of an index that is not there are one listing.
func TestIndexBuiltOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := newSlow("a")
		for range 5 {
			go func() {
				if got, err := list(t.Context(), x, "tags"); !slices.Equal(got, []string{"a"}) || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}()
		}
		synctest.Wait()
		s.proceed <- nil
		synctest.Wait()
		if s.n != 1 {
			t.Errorf("%d listings", s.n)
		}
	})
}

// A builder that leaves or fails takes nobody with it: the next one lists anew.
func TestIndexBuilderFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := newSlow("a")
		ctx, cancel := context.WithCancel(t.Context())
		var first, second, third error
		var got []string
		go func() { _, first = list(ctx, x, "tags") }()
		synctest.Wait()
		go func() { _, second = list(t.Context(), x, "tags") }()
		synctest.Wait()
		impatient, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := list(impatient, x, "tags"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that waits and gives up: %v", err)
		}
		cancel() // the second lists now
		synctest.Wait()
		broken := errors.New("broken")
		s.proceed <- broken
		synctest.Wait()
		x.set("tags", item[struct{}]{key: "b"}) // nobody builds: the next listing finds it
		s.keys = append(s.keys, "b")
		s.proceed <- nil
		got, third = list(t.Context(), x, "tags")
		if !errors.Is(first, context.Canceled) || !errors.Is(second, broken) || third != nil {
			t.Errorf("errors %v, %v, %v", first, second, third)
		}
		if !slices.Equal(got, []string{"a", "b"}) || s.n != 3 {
			t.Errorf("%q after %d listings", got, s.n)
		}
	})
}

// What has left by the budget or after an uncertain write is built anew.
func TestIndexLeaves(t *testing.T) {
	s, x := newSlow("a")
	x.lru.most = 2*indexCost + itemCost
	for range 4 {
		s.proceed <- nil
	}
	for _, name := range []string{"one", "two", "one"} {
		if got, err := list(t.Context(), x, name); !slices.Equal(got, []string{"a"}) || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if s.n != 3 {
		t.Errorf("%d listings, and no two fit", s.n)
	}
	x.forget("one")
	x.set("one", item[struct{}]{key: "b"}) // tells nobody
	if got, _ := list(t.Context(), x, "one"); !slices.Equal(got, []string{"a"}) || s.n != 4 {
		t.Errorf("%q after %d listings", got, s.n)
	}
}

// The cost of an index is that of what is in it.
func TestIndexCost(t *testing.T) {
	s, x := newSlow("a", "bb")
	s.proceed <- nil
	if _, err := list(t.Context(), x, "tags"); err != nil {
		t.Fatal(err)
	}
	want := func(n int64) {
		t.Helper()
		if x.lru.cost != indexCost+n {
			t.Errorf("cost %d, want %d", x.lru.cost, indexCost+n)
		}
	}
	want(2*itemCost + 3)
	x.set("tags", item[struct{}]{key: "ccc"})
	x.set("tags", item[struct{}]{key: "ccc"})
	want(3*itemCost + 6)
	x.remove("tags", "bb")
	x.remove("tags", "none")
	want(2*itemCost + 4)
}
