package evict_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store/mem"
)

// A restart changes nothing in who leaves first, and neither does a kill, but for the
// last hour.
func TestRestart(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		r.image("one", "x1", "x2")
		r.pulls(20, "x1")
		time.Sleep(time.Minute)
		r.pulls(20, "a")
		time.Sleep(time.Minute)
		r.pulls(20, "b")
		time.Sleep(time.Minute)
		r.pulls(20, "x2")
		time.Sleep(time.Minute)
		r.Used(origin.Repo{}, blob("a"))
		last := time.Now().Truncate(time.Millisecond)
		r.close()

		time.Sleep(time.Minute)
		r.start()
		if got, ok := r.LastUse(blob("a")); !ok || !got.Equal(last) {
			t.Errorf("a was used at %v, %v, want %v", got, ok, last)
		}
		if got := r.Bytes(); got != 80 {
			t.Errorf("%d bytes are counted, want 80", got)
		}
		r.pulls(40, "c") // b is the oldest, though it came after a and x1
		r.want("a", "c", "x1", "x2")
		r.pulls(20, "d") // and then an image
		r.want("a", "c", "d")

		// Killed: what was used in the last hour is not known, what is there is.
		time.Sleep(61 * time.Minute) // written down
		r.Used(origin.Repo{}, blob("a"))
		killed := r.Cache
		r.start()
		if got := r.Bytes(); got != 80 {
			t.Errorf("%d bytes are counted, want 80", got)
		}
		r.pulls(30, "e")
		r.want("c", "d", "e") // a was the oldest when it was written down
		if err := killed.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Until everything is known nothing leaves, and nothing is stored that the budget may have
// no room for; what is used meanwhile counts.
func TestLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: max100()}
		r.put("a", 30)
		time.Sleep(time.Second)
		r.put("b", 30)
		time.Sleep(time.Second)
		r.put("c", 30)
		r.shelf.listing = make(chan struct{})
		r.start()
		r.Used(origin.Repo{}, blob("a"))
		r.image("two", "b", "new")
		if use, ok := r.LastUse(blob("a")); !ok || use.IsZero() {
			t.Errorf("last use while listing: %v, %v", use, ok)
		}
		if err := r.pull("new", 20); !errors.Is(err, evict.ErrUnlisted) {
			t.Errorf("while it is not known that there is no room: %v", err)
		}
		if err := r.pull("huge", 101); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("while it is known that there is none: %v", err)
		}
		r.want("a", "b", "c")
		close(r.shelf.listing)
		synctest.Wait()
		r.pulls(60, "new") // c leaves, then a, which was used before image two
		r.want("b", "new")
		r.close()
	})
}

// Who waits to hear what there is waits until that is known, and not for ever.
func TestListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: max100()}
		r.shelf.listing = make(chan struct{})
		wait := func(ctx context.Context) (waited time.Duration) {
			before := time.Now()
			r.Listed(ctx)
			return time.Since(before)
		}
		r.start()
		hasty, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		for _, want := range []time.Duration{3 * time.Second, 7 * time.Second, 0} {
			if got := wait(hasty); got != want {
				t.Errorf("waited for %s of a listing that hangs, want %s", got, want)
			}
			hasty = t.Context()
		}
		r.Configure(evict.Limits{})
		r.pulls(1000, "unlimited")
		r.close()
		if got := wait(t.Context()); got != 0 {
			t.Errorf("waited for %s when it was closed", got)
		}

		r.start()
		time.AfterFunc(2*time.Second, func() { close(r.shelf.listing) })
		if got := wait(t.Context()); got != 2*time.Second {
			t.Errorf("waited for %s of a listing that took 2s", got)
		}
		r.close()
	})
}

// The disk may have too little room for what comes, and what could leave is not known yet.
func TestFullWhileLoading(t *testing.T) {
	free := int64(60)
	space := func() (int64, int64, error) { return free, 1000, nil }
	o := evict.Options{Limits: evict.Limits{MinFree: func(int64) int64 { return 50 }}, Space: space}
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: o}
		r.put("a", 30)
		r.shelf.listing = make(chan struct{})
		r.start()
		r.pulls(10, "b")
		if err := r.pull("c", 20); !errors.Is(err, evict.ErrUnlisted) {
			t.Errorf("while it is not known what could leave: %v", err)
		}
		close(r.shelf.listing)
		r.Listed(t.Context())
		r.pulls(20, "c")
		r.want("b", "c")
		r.close()
	})
}

// Who is never started, as a command's, has the budget for what comes.
func TestUnstarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: max100()}
		r.Cache = evict.New(r.shelf, r.records, r.opts)
		r.Listed(t.Context())
		r.Wait(t.Context(), r.repo)
		r.pulls(60, "a")
		if err := r.pull("b", 50); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("more than the budget: %v", err)
		}
		r.close()
	})
}

// A listing that fails is tried again.
func TestLoadingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: max100()}
		r.put("a", 90)
		r.Cache = evict.New(&lame{shelf: r.shelf}, r.records, r.opts)
		r.Start()
		time.Sleep(59 * time.Second)
		if err := r.Reserve(origin.Repo{}, blob("b"), 101); !errors.Is(err, evict.ErrNoRoom) {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if got := r.Bytes(); got != 90 {
			t.Errorf("%d bytes are counted, want 90", got)
		}
		r.close()
	})
}
