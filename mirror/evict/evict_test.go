package evict_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store/mem"
)

func max100() evict.Options { return evict.Options{Limits: evict.Limits{MaxSize: 100}} }

// Who was used least recently leaves, and no more than must.
func TestLeastRecentlyUsed(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		r.pulls(30, "a", "b", "c")
		r.Used(origin.Repo{}, blob("a"))
		r.pulls(30, "d")
		r.want("a", "c", "d")
		r.Reading(origin.Repo{}, blob("c"))()
		r.pulls(40, "e")
		r.want("c", "d", "e")
		if got := r.Bytes(); got != 100 {
			t.Errorf("%d bytes, want 100", got)
		}
	})
}

// An image leaves as a whole; what it shares with one that was used since stays.
func TestImages(t *testing.T) {
	run(t, max100(), func(_ *testing.T, r *rig) {
		r.image("one", "base", "x1", "x2")
		r.pulls(20, "base", "x1", "x2")
		r.image("two", "base", "y1")
		r.pulls(20, "y1")
		r.pulls(20, "z")
		r.pulls(10, "w") // one of x1 and x2 would be enough
		r.want("base", "w", "y1", "z")
	})
}

// A pull of a manifest, or of one layer, keeps the other layers: clients that have them
// do not ask for them.
func TestImageIsUsedAsAWhole(t *testing.T) {
	for name, use := range map[string]func(r *rig){
		"manifest": func(r *rig) { r.image("one", "x1", "x2") },
		"layer":    func(r *rig) { r.Used(origin.Repo{}, blob("x2")) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, max100(), func(_ *testing.T, r *rig) {
				r.image("one", "x1", "x2")
				r.pulls(30, "x1", "x2")
				r.pulls(30, "y")
				use(r)
				r.pulls(30, "z")
				r.want("x1", "x2", "z")
			})
		})
	}
}

// What somebody reads stays, and of its image as much as can.
func TestReaders(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		r.image("one", "x1", "x2")
		r.pulls(30, "x1", "x2")
		done := r.Reading(origin.Repo{}, blob("x1"))
		again := r.Reading(origin.Repo{}, blob("x1"))
		r.pulls(30, "y")
		r.pulls(30, "z")
		r.want("x1", "x2", "z") // not the oldest
		r.pulls(60, "v")
		r.want("v", "x1") // all but it
		if err := r.pull("w", 80); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("beside a reader: %v", err)
		}
		done()
		done()
		if err := r.pull("w", 80); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("beside the other reader: %v", err)
		}
		r.want("v", "x1") // in vain nothing leaves
		again()
		r.pulls(80, "w")
		r.want("w")
	})
}

// What is larger than the budget displaces nothing; nor does what comes beside fills
// that have reserved all.
func TestNoRoom(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		r.pulls(50, "a")
		if err := r.Reserve(origin.Repo{}, blob("huge"), 101); !errors.Is(err, evict.ErrNoRoom) || errors.Is(err, evict.ErrFull) {
			t.Errorf("more than the budget: %v", err)
		}
		r.want("a")
		if err := r.Reserve(origin.Repo{}, blob("b"), 100); err != nil {
			t.Error(err)
		}
		r.want()
		if err := r.Reserve(origin.Repo{}, blob("c"), 1); !errors.Is(err, evict.ErrNoRoom) {
			t.Errorf("beside a fill: %v", err)
		}
		r.Release(origin.Repo{}, blob("b"), 100)
		r.pulls(1, "c")
	})
}

// Of a blob whose size nobody said the budget learns when it is stored.
func TestUnknownSize(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		r.pulls(50, "a", "b")
		if err := r.Reserve(origin.Repo{}, blob("c"), -1); err != nil {
			t.Fatal(err)
		}
		r.put("c", 50)
		r.Stored(origin.Repo{}, blob("c"), 50)
		r.Release(origin.Repo{}, blob("c"), -1)
		r.want("b", "c")
	})
}

// What was pushed is not counted, and no reason to let anything else leave.
func TestPushed(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		r.pulls(40, "a", "b")
		r.Pushed(blob("a"))
		r.pulls(60, "c")
		r.want("a", "b", "c")
		// Of b nobody said it, and the store knows.
		r.shelf.fail = func(digest.Digest) error { return origin.ErrPushed }
		r.Reserve(origin.Repo{}, blob("d"), 40)
		synctest.Wait()
		if got := r.Bytes(); got != 60 {
			t.Errorf("%d bytes are counted, want 60", got)
		}
	})
}

// A blob that cannot be removed is counted, and comes to its turn again.
func TestRemovalFails(t *testing.T) {
	for name, fault := range map[string]error{"disk": syscall.EIO, "busy": origin.ErrBusy} {
		t.Run(name, func(t *testing.T) {
			run(t, max100(), func(t *testing.T, r *rig) {
				r.pulls(50, "a", "b")
				r.shelf.fail = func(d digest.Digest) error {
					if d == blob("a") {
						return fault
					}
					return nil
				}
				r.Reserve(origin.Repo{}, blob("c"), 50)
				r.Release(origin.Repo{}, blob("c"), 50)
				r.want("a", "b")
				if got := r.Bytes(); got != 100 {
					t.Errorf("%d bytes are counted, want 100", got)
				}
				r.pulls(50, "c") // another one is tried
				r.want("a", "c")
				r.shelf.fail = nil
				r.pulls(50, "d")
				r.want("c", "d")
			})
		})
	}
}

// The disk is kept free by as much as is wanted, whoever fills it.
func TestMinFree(t *testing.T) {
	const total = 1000
	var r *rig
	var others atomic.Int64
	others.Store(800)
	o := evict.Options{
		Limits: evict.Limits{MinFree: func(total int64) int64 { return total / 10 }},
		Space: func() (int64, int64, error) {
			r.shelf.mu.Lock()
			defer r.shelf.mu.Unlock()
			return total - others.Load() - r.shelf.bytes(), total, nil
		},
	}
	synctest.Test(t, func(t *testing.T) {
		r = &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: o}
		r.start()
		r.pulls(50, "a", "b", "c") // 200 are free, 100 of them to use
		r.want("b", "c")
		others.Add(40) // somebody pushes
		time.Sleep(2 * time.Second)
		r.want("c")
		if err := r.pull("d", 70); !errors.Is(err, evict.ErrNoRoom) || !errors.Is(err, evict.ErrFull) {
			t.Errorf("no room whatever leaves: %v", err)
		}
		r.Configure(evict.Limits{MinFree: r.opts.MinFree, MaxSize: 60})
		if err := r.pull("e", 70); !errors.Is(err, evict.ErrNoRoom) || errors.Is(err, evict.ErrFull) {
			t.Errorf("more than the budget, on a full disk: %v", err)
		}
		r.want("c")
		others.Add(100)
		time.Sleep(2 * time.Second)
		r.want()
		r.close()
	})
}

// Fills that come faster than blobs are removed wait for that, and not for what they
// displace themselves.
func TestWait(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		r.pulls(50, "a", "b")
		slow := make(chan struct{})
		r.shelf.slow = slow
		r.Wait(t.Context(), origin.Repo{})
		if err := r.Reserve(origin.Repo{}, blob("c"), 50); err != nil {
			t.Fatal(err)
		}
		r.Wait(t.Context(), origin.Repo{}) // a is leaving, and nothing has come in its place
		r.put("c", 50)
		r.Stored(origin.Repo{}, blob("c"), 50)
		through := make(chan struct{})
		go func() {
			r.Wait(t.Context(), origin.Repo{})
			close(through)
		}()
		synctest.Wait()
		select {
		case <-through:
			t.Error("it did not wait, with 150 bytes of 100 there")
		default:
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		r.Wait(gone, origin.Repo{})
		close(slow)
		<-through
		r.want("b", "c")
	})
}

// What is fetched and not stored yet takes its room as well: while that and removals take
// long, no more is fetched than the budget has room for.
func TestWaitForStores(t *testing.T) {
	for name, o := range map[string]evict.Options{"budget": max100(), "quota": quota100(t)} {
		t.Run(name, func(t *testing.T) {
			run(t, o, func(t *testing.T, r *rig) {
				r = r.in("hub/a")
				r.pulls(50, "a", "b")
				slow := make(chan struct{})
				r.shelf.slow = slow
				c := blob("c")
				if err := r.Reserve(r.repo, c, 50); err != nil {
					t.Fatal(err)
				}
				r.Wait(t.Context(), r.repo)
				r.Fetched(r.repo, c, 50)
				waited := make(chan struct{})
				go func() {
					r.Wait(t.Context(), r.repo)
					close(waited)
				}()
				synctest.Wait()
				select {
				case <-waited:
					t.Error("it did not wait, with 150 bytes of 100 there")
				default:
				}
				close(slow)
				<-waited
				r.Release(r.repo, c, 50) // it could not be stored
				r.Fetched(r.repo, c, 50)
				r.pulls(40, "d")
				slow = make(chan struct{})
				r.shelf.slow = slow
				if err := r.Reserve(r.repo, c, 50); err != nil {
					t.Fatal(err)
				}
				r.Wait(t.Context(), r.repo) // b is leaving, and nothing is being stored
				close(slow)
				r.Release(r.repo, c, 50)
				r.want("d")
			})
		})
	}
}

// A nil Cache is one without a budget.
func TestNil(t *testing.T) {
	var c *evict.Cache
	c.Used(origin.Repo{}, blob("a"))
	c.Wait(t.Context(), origin.Repo{})
	c.Listed(t.Context())
	c.Image(origin.Repo{}, blob("m"), []digest.Digest{blob("a")})
	c.Stored(origin.Repo{}, blob("a"), 1)
	c.Pushed(blob("a"))
	c.Reading(origin.Repo{}, blob("a"))()
	c.Fetched(origin.Repo{}, blob("a"), 1)
	c.Release(origin.Repo{}, blob("a"), 1)
	if _, ok := c.LastUse(blob("a")); ok || c.Bytes() != 0 || c.Reserve(origin.Repo{}, blob("a"), 1<<60) != nil || c.Close(t.Context()) != nil {
		t.Error("it remembers something")
	}
}

// Many do everything at once; at the end what is counted is what is there, and within
// the budget.
func TestCrowd(t *testing.T) {
	run(t, max100(), func(t *testing.T, r *rig) {
		names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
		for n := range 8 {
			rnd := rand.New(rand.NewPCG(uint64(n), 0))
			go func() {
				for range 300 {
					i := rnd.IntN(len(names))
					name, size := names[i], int64(10+i)
					switch rnd.IntN(5) {
					case 0:
						r.image("image"+names[i%3], name, names[(i+1)%10])
					case 1:
						done := r.Reading(origin.Repo{}, blob(name))
						time.Sleep(time.Millisecond)
						done()
					case 2:
						r.Used(origin.Repo{}, blob(name))
					default:
						if r.Reserve(origin.Repo{}, blob(name), size) != nil {
							continue
						}
						time.Sleep(time.Millisecond)
						// As in a mirror: it is stored, then counted.
						r.shelf.mu.Lock()
						_, there := r.shelf.blobs[blob(name)]
						r.shelf.mu.Unlock()
						if !there {
							r.put(name, size)
							r.Stored(origin.Repo{}, blob(name), size)
						}
						r.Release(origin.Repo{}, blob(name), size)
					}
				}
			}()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.shelf.mu.Lock()
		there := r.shelf.bytes()
		r.shelf.mu.Unlock()
		if got := r.Bytes(); there > 100 || got > 100 {
			t.Errorf("%d bytes are counted, %d are there, of 100", got, there)
		}
	})
}

// Of a smaller budget what exceeds it leaves at once; a larger one holds for what comes.
func TestConfigure(t *testing.T) {
	run(t, max100(), func(_ *testing.T, r *rig) {
		r.pulls(30, "a", "b", "c")
		r.Configure(evict.Limits{MaxSize: 60})
		synctest.Wait()
		r.want("b", "c")
		r.Configure(evict.Limits{MaxSize: 120})
		r.pulls(30, "d", "e")
		r.want("b", "c", "d", "e")
	})
}
