package evict_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// quota100 is 100 bytes for hub/a and hub/b each, and no other limit.
func quota100(t *testing.T) evict.Options {
	return evict.Options{Limits: evict.Limits{Quota: quotas(map[origin.Repo]int64{
		origintest.Repo(t, "hub/a"): 100, origintest.Repo(t, "hub/b"): 100,
	})}}
}

func quotas(of map[origin.Repo]int64) func(origin.Repo) int64 {
	return func(repo origin.Repo) int64 { return of[repo] }
}

// in is the rig for another repository.
func (r *rig) in(name string) *rig {
	other := *r
	other.repo = origintest.Repo(r.t, name)
	return &other
}

// has wants a repository to have those blobs, and no others.
func (r *rig) has(names ...string) {
	r.t.Helper()
	synctest.Wait()
	r.shelf.mu.Lock()
	defer r.shelf.mu.Unlock()
	var got []string
	for d, b := range r.shelf.blobs {
		if slices.Contains(b.Repos, r.repo) {
			got = append(got, nameOf(d))
		}
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		r.t.Errorf("%s has %v, want %v (evicted: %v)", r.repo, got, names, r.shelf.evicted)
	}
}

// Each repository that has a quota stays within its own; others are untouched.
func TestQuota(t *testing.T) {
	run(t, quota100(t), func(t *testing.T, r *rig) {
		a, b, free := r.in("hub/a"), r.in("hub/b"), r.in("hub/free")
		free.pulls(90, "x", "y") // the oldest of all
		a.pulls(40, "a1", "a2")
		b.pulls(50, "b1", "b2")
		a.Used(a.repo, blob("a1"))
		a.pulls(40, "a3")
		a.has("a1", "a3")
		b.has("b1", "b2")
		b.Reading(b.repo, blob("b1"))()
		b.image("m", "b3")
		b.pulls(50, "b3")
		b.has("b1", "b3")
		free.has("x", "y")
		if got := r.Bytes(); got != 180+80+100 {
			t.Errorf("%d bytes are counted", got)
		}
		// What it has no room for displaces nothing.
		if err := a.pull("huge", 101); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("more than the quota: %v", err)
		}
		a.has("a1", "a3")
		if err := a.Reserve(a.repo, blob("coming"), 100); err != nil {
			t.Error(err)
		}
		if err := a.pull("a4", 1); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("beside a fill: %v", err)
		}
		b.pulls(50, "b4")
		a.Release(a.repo, blob("coming"), 100)
		a.pulls(100, "a5")
		a.has("a5")
	})
}

// A blob counts in each repository that links it, and leaves one without leaving the other;
// with its last link it goes.
func TestQuotaShared(t *testing.T) {
	run(t, quota100(t), func(t *testing.T, r *rig) {
		a, b, free := r.in("hub/a"), r.in("hub/b"), r.in("hub/free")
		for _, in := range []*rig{a, b} {
			in.pulls(60, "base")
		}
		free.pulls(10, "other")
		a.pulls(10, "other")
		a.Used(a.repo, blob("other")) // in a alone
		a.pulls(60, "a1")
		a.has("a1", "other")
		b.has("base")
		if got := r.Bytes(); got != 130 {
			t.Errorf("%d bytes are counted, want 130", got)
		}
		if a.Room(a.repo, 101) || !a.Room(a.repo, 100) || !free.Room(free.repo, 1000) {
			t.Error("room for what others have is not what the quota has")
		}
		b.pulls(60, "b1")
		b.has("b1")
		r.want("a1", "b1", "other")
		a.pulls(100, "a2")
		a.has("a2")
		free.has("other")
	})
}

// Images leave a repository as a whole, in the order of their use there.
func TestQuotaImages(t *testing.T) {
	run(t, quota100(t), func(_ *testing.T, r *rig) {
		a, free := r.in("hub/a"), r.in("hub/free")
		a.image("one", "x1", "x2")
		a.pulls(20, "x1", "x2")
		a.image("two", "y1", "y2")
		a.pulls(20, "y1", "y2")
		free.pulls(20, "x1")
		free.image("one", "x1", "x2") // that is no use of it in a
		a.pulls(30, "z")
		a.has("y1", "y2", "z")
		free.has("x1")
		r.want("x1", "y1", "y2", "z")
		a.image("two", "y1", "y2")
		a.pulls(60, "v")
		a.has("v", "y1", "y2")
	})
}

// What somebody reads stays.
func TestQuotaReaders(t *testing.T) {
	run(t, quota100(t), func(t *testing.T, r *rig) {
		a := r.in("hub/a")
		a.pulls(50, "a1")
		done := a.Reading(a.repo, blob("a1"))
		a.pulls(50, "a2", "a3")
		a.has("a1", "a3")
		if err := a.pull("a4", 60); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("beside a reader: %v", err)
		}
		done()
		a.pulls(60, "a4")
		a.has("a4")
	})
}

// Both the budget and the quota hold, whichever is reached.
func TestQuotaWithinBudget(t *testing.T) {
	o := quota100(t)
	o.MaxSize = 150
	run(t, o, func(t *testing.T, r *rig) {
		a, free := r.in("hub/a"), r.in("hub/free")
		free.pulls(50, "x")
		a.pulls(50, "a1", "a2", "a3")
		a.has("a2", "a3")
		free.has("x") // the oldest of all, and what leaves by the quota is room enough
		free.pulls(50, "y")
		free.has("y")
		a.has("a2", "a3")
		if err := free.pull("z", 151); !errors.Is(err, evict.ErrNoRoom) {
			t.Error(err)
		}
		if err := a.pull("z", 101); !errors.Is(err, evict.ErrNoRoom) {
			t.Error(err)
		}
		a.has("a2", "a3")
	})
}

// A quota that is lower holds at once, and so does one where there was none, in the order of
// what was used before.
func TestQuotaConfigured(t *testing.T) {
	run(t, evict.Options{}, func(_ *testing.T, r *rig) {
		a, b := r.in("hub/a"), r.in("hub/b")
		a.image("one", "a1", "a2")
		a.pulls(20, "a1", "a2")
		a.pulls(20, "a3")
		b.pulls(20, "a1", "b1")
		a.image("one", "a1", "a2")
		r.Configure(evict.Limits{Quota: quotas(map[origin.Repo]int64{a.repo: 50})})
		a.has("a1", "a2")
		b.has("a1", "b1")
		r.Configure(evict.Limits{})
		a.pulls(20, "a4", "a5", "a6")
		a.has("a1", "a2", "a4", "a5", "a6")
		r.Configure(evict.Limits{Quota: quotas(map[origin.Repo]int64{a.repo: 60, b.repo: 10})})
		a.has("a4", "a5", "a6")
		b.has()
		r.Configure(evict.Limits{Quota: quotas(map[origin.Repo]int64{a.repo: 20})})
		a.has("a6")
		r.want("a6")
	})
}

// A restart changes nothing in what counts where, nor in who leaves first.
func TestQuotaRestart(t *testing.T) {
	run(t, quota100(t), func(t *testing.T, r *rig) {
		a, b := r.in("hub/a"), r.in("hub/b")
		a.image("one", "x1", "x2")
		a.pulls(20, "x1", "x2")
		time.Sleep(time.Minute)
		b.pulls(20, "x1", "b1")
		time.Sleep(time.Minute)
		a.pulls(40, "a1")
		time.Sleep(time.Minute)
		a.Used(a.repo, blob("x1"))
		r.close()

		time.Sleep(time.Minute)
		r.shelf.listing = make(chan struct{})
		r.start()
		a, b = r.in("hub/a"), r.in("hub/b")
		b.Used(b.repo, blob("x1")) // while it is listed
		if err := b.pull("b2", 70); !errors.Is(err, evict.ErrUnlisted) {
			t.Errorf("while it is not known what counts: %v", err)
		}
		close(r.shelf.listing)
		synctest.Wait()
		b.pulls(70, "b2")
		b.has("b2", "x1")
		a.pulls(40, "a2")
		a.has("a2", "x1", "x2")
		if got := r.Bytes(); got != r.shelf.bytes() {
			t.Errorf("%d bytes are counted, want %d", got, r.shelf.bytes())
		}
	})
}

// What cannot leave is counted, and comes to its turn again; of what was pushed nothing is
// counted any more; and what the others have lost unheard goes.
func TestQuotaRemovalFails(t *testing.T) {
	for name, x := range map[string]struct {
		fault  error
		before func(r *rig)
		a      []string // after the first one is to leave
		bytes  int64
	}{
		"busy":   {origin.ErrBusy, func(*rig) {}, []string{"a1", "a2", "base"}, 100},
		"pushed": {origin.ErrPushed, func(*rig) {}, []string{"a1", "a2", "base"}, 60},
		"unheard": {nil, func(r *rig) {
			r.shelf.mu.Lock()
			defer r.shelf.mu.Unlock()
			b := r.shelf.blobs[blob("base")]
			b.Repos = []origin.Repo{origintest.Repo(r.t, "hub/a")}
			r.shelf.blobs[blob("base")] = b
		}, []string{"a1", "a2"}, 60},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, quota100(t), func(t *testing.T, r *rig) {
				a, free := r.in("hub/a"), r.in("hub/free")
				free.pulls(40, "base")
				a.pulls(40, "base")
				a.pulls(30, "a1", "a2")
				x.before(r)
				r.shelf.fail = func(d digest.Digest) error {
					if d == blob("base") {
						return x.fault
					}
					return nil
				}
				a.Reserve(a.repo, blob("a3"), 40)
				a.Release(a.repo, blob("a3"), 40)
				a.has(x.a...)
				if got := r.Bytes(); got != x.bytes {
					t.Errorf("%d bytes are counted, want %d", got, x.bytes)
				}
				if name != "busy" {
					return
				}
				a.pulls(30, "a3") // another one is tried
				a.has("a2", "a3", "base")
				r.shelf.fail = nil
				a.pulls(40, "a4", "a5")
				a.has("a4", "a5")
				free.has("base")
			})
		})
	}
}

// A repository's fills wait where what leaves it exceeds its quota with what has come, and
// others' do not.
func TestQuotaWait(t *testing.T) {
	run(t, quota100(t), func(t *testing.T, r *rig) {
		a := r.in("hub/a")
		r.in("hub/free").pulls(50, "a1")
		a.pulls(50, "a1", "a2")
		slow := make(chan struct{})
		r.shelf.slow = slow
		a.Reserve(a.repo, blob("a3"), 50)
		a.Wait(t.Context(), a.repo)
		a.put("a3", 50)
		a.Stored(a.repo, blob("a3"), 50)
		r.Wait(t.Context(), origintest.Repo(t, "hub/b"))
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if a.Wait(soon, a.repo); soon.Err() == nil {
			t.Error("it did not wait, with 150 bytes of 100 there")
		}
		close(slow)
		a.Wait(t.Context(), a.repo)
		a.has("a2", "a3")
	})
}

// Of several caches one lets go of what exceeds a quota, whoever has stored it; the others
// count what is left, also of a blob that has left one repository only, and hear where
// something was used.
func TestQuotaOneEvicts(t *testing.T) {
	togetherWithin(t, quota100(t).Limits, func(t *testing.T, _ *council, one, other *rig) {
		oneA, otherA, otherFree := one.in("hub/a"), other.in("hub/a"), other.in("hub/free")
		oneA.pulls(50, "a1", "a2")
		otherA.told(true, "a1", "a2")
		otherFree.pulls(50, "a2")
		one.in("hub/free").told(true, "a2")
		otherA.Used(otherA.repo, blob("a1"))
		time.Sleep(2 * time.Second) // it is mentioned
		otherA.pulls(10, "a3")      // it fits in with what has not left yet
		if err := otherA.pull("a4", 10); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("more than an eighth above the quota: %v", err)
		}
		otherA.has("a1", "a2", "a3")
		oneA.told(true, "a3")
		oneA.has("a1", "a3")
		otherFree.has("a2")
		before, _ := other.LastUse(blob("a2"))
		time.Sleep(time.Minute)
		otherA.told(false, "a2")
		if use, ok := other.LastUse(blob("a2")); !ok || !use.Equal(before) {
			t.Errorf("that a blob left a repository is a use of it: %v, %v, before %v", use, ok, before)
		}
		otherA.pulls(40, "a4")
		oneA.told(true, "a4")
		otherA.has("a1", "a3", "a4")
		if one.Bytes() != 150 || other.Bytes() != 150 {
			t.Errorf("they count %d and %d", one.Bytes(), other.Bytes())
		}
	})
}
