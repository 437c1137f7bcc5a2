package basic

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
)

const takes = 41 * time.Millisecond // trust.md 23

// login asks until it is told yes or no, as a client does that waits as it is told,
// and gives how long that took.
func (r *rig) login(name, password, from string) (time.Duration, error) {
	began := time.Now()
	for {
		_, err := r.Authenticate(request(name, password, from))
		if !errors.Is(err, authz.ErrUnavailable) {
			return time.Since(began), err
		}
		time.Sleep(time.Second) // Retry-After
	}
}

// S-10: 2,000 clients with wrong passwords for 30 s. As many hashes at a time as there
// are cores, a queue that ends, nobody who waits longer than they have patience; and who
// has the right password is in within 5 s. Memory is bounded by the first.
func TestFlood(t *testing.T) {
	attackers, lasts := 2000, 30*time.Second
	if raceDetector { // which makes each take ten times as long
		attackers, lasts = 400, 10*time.Second
	}
	cores := runtime.GOMAXPROCS(0)
	for name, attack := range map[string]func(i, n int) (name, password, from string){
		"one name, one address": func(i, n int) (string, string, string) {
			return "ann", fmt.Sprint(i, "-", n), fmt.Sprint("198.51.100.1:", i)
		},
		"one's own name and address, on other connections": func(i, n int) (string, string, string) {
			return "ann", fmt.Sprint(i, "-", n), fmt.Sprint("192.0.2.1:", 1000+i)
		},
		"one name, the same machine": func(i, n int) (string, string, string) {
			return "eve", fmt.Sprint(i, "-", n), fmt.Sprint("192.0.2.1:", 1000+i)
		},
		"many names, one address": func(i, n int) (string, string, string) {
			return fmt.Sprint(i, "-", n), "x", fmt.Sprint("198.51.100.1:", i)
		},
		"one name, many addresses": func(i, n int) (string, string, string) {
			return "eve", fmt.Sprint(i, "-", n), fmt.Sprintf("10.1.%d.%d:%d", i/250, i%250, n+1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{Users: people(User{"ann", hashed(t, cheap)}, User{"bob", hashed(t, cheap)})})
				r.takes = takes
				// Somebody was here before, and what is remembered of it has lapsed.
				if _, err := r.login("ann", "right-before", home); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * kept)

				var refused, denied, longest atomic.Int64
				until := time.Now().Add(lasts)
				var flood sync.WaitGroup
				for i := range attackers {
					flood.Go(func() {
						for n := 0; time.Now().Before(until); n++ {
							began := time.Now()
							_, err := r.Authenticate(request(attack(i, n)))
							took := int64(time.Since(began))
							for old := longest.Load(); took > old && !longest.CompareAndSwap(old, took); old = longest.Load() {
							}
							switch {
							case errors.Is(err, authz.ErrUnavailable):
								refused.Add(1)
								time.Sleep(time.Second)
							case errors.Is(err, authz.ErrNone):
								denied.Add(1)
							default:
								t.Errorf("a wrong password: %v", err)
								return
							}
						}
					})
				}
				time.Sleep(3 * time.Second)
				for i, login := range []struct{ name, password, from string }{
					{"ann", "right", home},                    // for the first time, from where nobody was wrong, or by a name nobody was wrong by
					{"ann", "right-before", home},             // again
					{"ann", "right-before", "198.51.100.1:1"}, // from where the wrong ones come from
					{"bob", "right", home},
				} {
					if took, err := r.login(login.name, login.password, login.from); err != nil || took > patience {
						t.Errorf("login %d took %v: %v", i, took, err)
					}
				}
				flood.Wait()
				if r.max > cores {
					t.Errorf("%d hashes at a time, on %d cores", r.max, cores)
				}
				if got := time.Duration(longest.Load()); got > patience+takes {
					t.Errorf("somebody waited %v", got)
				}
				if refused.Load() == 0 || denied.Load() == 0 {
					t.Errorf("%d refused, %d denied: this is no flood", refused.Load(), denied.Load())
				}
			})
		})
	}
}

// TestFloodIsTold: the log is told of a flood now and then, and of how many there were,
// not of each.
func TestFloodIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, Options{Users: people(User{"ann", hashed(t, cheap)}), Log: slog.New(slog.NewTextHandler(&log, nil))})
		r.takes = takes
		until := time.Now().Add(tellEvery + tellEvery/2)
		var refused atomic.Int64
		var flood sync.WaitGroup
		for i := range 3 * queue {
			flood.Go(func() {
				for n := 0; time.Now().Before(until); n++ {
					if _, err := r.Authenticate(request("ann", fmt.Sprint(i, "-", n), fmt.Sprint("198.51.100.1:", i))); errors.Is(err, authz.ErrBusy) {
						refused.Add(1)
						time.Sleep(time.Second)
					}
				}
			})
		}
		flood.Wait()
		lines := strings.Count(log.String(), "more passwords come than can be checked")
		if lines != 2 || refused.Load() < 100 {
			t.Errorf("%d lines for %d:\n%s", lines, refused.Load(), log.String())
		}
	})
}

// The same wrong password again and again, such as of a machine that was not told of a
// new one, costs one hash.
func TestSameMistake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Users: people(User{"ann", hashed(t, cheap)})})
		r.takes = takes
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := r.Authenticate(request("ann", "wrong", home)); !errors.Is(err, authz.ErrNone) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(r.taken()); n > runtime.GOMAXPROCS(0) {
			t.Errorf("%d computed", n)
		}
		if s := r.failures.standing(fromHome("ann")); s.pair > float64(runtime.GOMAXPROCS(0)) {
			t.Errorf("counted as %v failures", s.pair)
		}
	})
}

func fromHome(user string) from {
	return from{pair{user, network(peer(request("", "", home)).IP)}, home}
}

func TestGate(t *testing.T) {
	named := func(user string) from { return from{pair: pair{user: user}} }
	clean := named("clean")
	bad := func(g *gate, who from) {
		for range suspicious {
			g.failures.wrong(who)
		}
	}
	t.Run("suspects have half of the cores", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(4, newFailures())
			bad(g, named("eve"))
			var in atomic.Int64
			for range 10 {
				go func() {
					leave, err := g.enter(t.Context(), named("eve"), false)
					if err != nil {
						return
					}
					in.Add(1)
					time.Sleep(time.Second)
					leave()
				}()
			}
			synctest.Wait()
			if in.Load() != 2 {
				t.Errorf("%d suspects are in", in.Load())
			}
			for range 2 {
				leave, err := g.enter(t.Context(), clean, false)
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
			}
			time.Sleep(10 * time.Second)
			if in.Load() != 10 {
				t.Errorf("%d suspects were in", in.Load())
			}
		})
	})
	t.Run("one core is everybody's", func(t *testing.T) {
		g := newGate(1, newFailures())
		bad(g, named("eve"))
		leave, err := g.enter(t.Context(), named("eve"), false)
		if err != nil {
			t.Fatal(err)
		}
		leave()
	})
	t.Run("order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(1, newFailures())
			leave, err := g.enter(t.Context(), clean, false)
			if err != nil {
				t.Fatal(err)
			}
			bad(g, named("eve"))
			var order []string
			var mu sync.Mutex
			for _, w := range []struct {
				user    string
				trusted bool
			}{{"eve", false}, {"ann", false}, {"bob", false}, {"cat", true}} {
				go func() {
					leave, err := g.enter(t.Context(), named(w.user), w.trusted)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					order = append(order, w.user)
					mu.Unlock()
					leave()
				}()
				synctest.Wait()
			}
			leave()
			synctest.Wait()
			if want := []string{"cat", "ann", "bob", "eve"}; !slices.Equal(order, want) {
				t.Errorf("%v, want %v", order, want)
			}
		})
	})
	t.Run("full", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(1, newFailures())
			leave, err := g.enter(t.Context(), clean, false)
			if err != nil {
				t.Fatal(err)
			}
			bad(g, named("eve"))
			var refused, in atomic.Int64
			wait := func(user string) {
				leave, err := g.enter(t.Context(), named(user), false)
				if err != nil {
					refused.Add(1)
					return
				}
				in.Add(1)
				leave()
			}
			for range queue {
				go wait("eve")
			}
			synctest.Wait()
			if _, err := g.enter(t.Context(), named("eve"), false); !errors.Is(err, authz.ErrUnavailable) {
				t.Errorf("one more of the same: %v", err)
			}
			go wait("ann") // who pushes one out
			synctest.Wait()
			if refused.Load() != 1 || len(g.waiting) != queue {
				t.Errorf("%d pushed out, %d wait", refused.Load(), len(g.waiting))
			}
			leave()
			synctest.Wait()
			if in.Load() != queue || g.free != 1 || g.suspects != 1 || len(g.waiting) != 0 {
				t.Errorf("%d were in; %d free, %d for suspects, %d wait", in.Load(), g.free, g.suspects, len(g.waiting))
			}
		})
	})
	t.Run("who leaves, and who waits too long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(1, newFailures())
			leave, err := g.enter(t.Context(), clean, false)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := g.enter(ctx, clean, false); !errors.Is(err, authz.ErrUnavailable) {
				t.Error(err)
			}
			began := time.Now()
			if _, err := g.enter(t.Context(), clean, false); !errors.Is(err, authz.ErrUnavailable) || time.Since(began) != patience {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			leave()
			if g.free != 1 || len(g.waiting) != 0 {
				t.Errorf("%d free, %d wait", g.free, len(g.waiting))
			}
		})
	})
}

// Who is let in at the moment at which they leave gives the core back.
func TestLeaveAtTheDoor(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(1, newFailures())
			leave, err := g.enter(t.Context(), from{}, false)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if leave, err := g.enter(ctx, from{}, false); err == nil {
					leave()
				}
			}()
			synctest.Wait()
			// The waiter finds both when it is run, or one of them and then the other.
			g.mu.Lock()
			cancel()
			go leave()
			g.mu.Unlock()
			synctest.Wait()
			if g.free != 1 || len(g.waiting) != 0 {
				t.Fatalf("%d free, %d wait", g.free, len(g.waiting))
			}
		})
	}
}

// Failures are forgiven, and a right password clears its user.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailures()
		eve := fromHome("eve")
		for range 30 {
			f.wrong(eve)
		}
		f.refused(eve)
		if s := f.standing(eve); s != (standing{30, 30, 30, 31}) {
			t.Errorf("%v", s)
		}
		if !f.standing(eve).suspect() || !f.standing(fromHome("ann")).suspect() || f.standing(from{pair: pair{user: "eve"}}).suspect() {
			t.Error("who is suspect")
		}
		f.right(eve)
		if s := f.standing(eve); s != (standing{0, 30, 30, 0}) {
			t.Errorf("%v after a right one", s)
		}
		time.Sleep(forgiven)
		if f.standing(eve).suspect() {
			t.Error("not forgiven")
		}
		time.Sleep(10 * forgiven)
		if s := f.standing(eve); s != (standing{}) {
			t.Errorf("%v are left", s)
		}
	})
}

// What tells most decides first.
func TestStanding(t *testing.T) {
	rising := []standing{{}, {connection: 9}, {user: 1}, {user: 1, connection: 1}, {address: 1}, {address: 1, user: 1}, {pair: 1}, {pair: 1, connection: 1}, {pair: 2}}
	for i, a := range rising {
		for j, b := range rising {
			if got := a.compare(b); got != cmp.Compare(i, j) {
				t.Errorf("%v to %v: %d", a, b, got)
			}
		}
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:1":            "192.0.2.1",
		"[::ffff:192.0.2.1]:1":   "192.0.2.1",
		"[2001:db8::1]:1":        "2001:db8::",
		"[2001:db8::2:0:0:1]:1":  "2001:db8::",
		"[fe80::1%eth0]:1":       "fe80::",
		"[2001:db8:0:1::2]:1234": "2001:db8:0:1::",
		"@":                      "invalid IP",
	} {
		if got := network(peer(request("", "", in)).IP).String(); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}
