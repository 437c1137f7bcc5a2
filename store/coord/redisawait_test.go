package coord_test

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
)

// awaited begins to await a lock that is held, and gives how that ends. It returns once the
// server knows of it.
func (r *rig) awaited(c *coord.Redis, name string) <-chan error {
	r.Helper()
	end := make(chan error, 1)
	go func() { end <- c.Await(r.Context(), name) }()
	coordtest.Eventually(r, "somebody awaits it", func() bool {
		return r.server.Do("KEYS", "*:w:"+name) != ""
	})
	return end
}

func (r *rig) ends(end <-chan error) error {
	r.Helper()
	select {
	case err := <-end:
		return err
	case <-time.After(coordtest.Limit):
		r.Fatal("still waits")
		return nil
	}
}

// scripts is how many the server was asked for.
func (r *rig) scripts() int {
	r.Helper()
	found := regexp.MustCompile(`cmdstat_eval:calls=(\d+)`).FindStringSubmatch(r.server.Do("INFO", "commandstats"))
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		r.Fatal(err)
	}
	return n
}

// TestAwaitAsksOnce: who awaits a lock is told that it is free, and does not ask again and
// again; where nobody awaits it nothing is published.
func TestAwaitAsksOnce(t *testing.T) {
	r := newRig(t)
	coordtest.Listen(t, r.other) // its subscription is there
	l := r.lock(r.one, "x", time.Minute)
	asked := r.scripts()
	end := r.awaited(r.other, "x")
	time.Sleep(500 * time.Millisecond) // in which it would ask again
	if n := r.scripts() - asked; n != 1 {
		t.Errorf("asked %d times", n)
	}
	l.Unlock()
	if err := r.ends(end); err != nil {
		t.Error(err)
	}
	if n := r.scripts() - asked; n != 3 { // the unlock, and whether it is free
		t.Errorf("%d questions in all", n)
	}
	published := func() string {
		return regexp.MustCompile(`cmdstat_publish:calls=\d+`).FindString(r.server.Do("INFO", "commandstats"))
	}
	before := published()
	r.lock(r.one, "x", time.Minute).Unlock()
	if after := published(); after != before {
		t.Errorf("%s, then %s, for nobody", before, after)
	}
}

// TestAwaitOfOneWhoIsGone: a lock whose holder is gone ends by itself, and without a word.
func TestAwaitOfOneWhoIsGone(t *testing.T) {
	r := newRig(t)
	r.lock(r.one, "x", 5*time.Second)
	end := r.awaited(r.other, "x")
	_ = r.one.Close()
	if err := r.ends(end); err != nil {
		t.Error(err)
	}
	r.lock(r.other, "x", time.Minute)
}

// TestAwaitIsCutOff: what was told while the subscription was cut off is asked for.
func TestAwaitIsCutOff(t *testing.T) {
	r := newRig(t)
	coordtest.Listen(t, r.other)
	l := r.lock(r.one, "x", time.Hour)
	end := r.awaited(r.other, "x")
	for range 3 {
		r.server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	}
	l.Unlock()
	if err := r.ends(end); err != nil {
		t.Error(err)
	}
}

// TestAwaitWithoutServer: nobody waits for a server that is stopped or hangs.
func TestAwaitWithoutServer(t *testing.T) {
	for name, goes := range map[string]func(*coordtest.Server){"stopped": (*coordtest.Server).Stop, "hangs": (*coordtest.Server).Hold} {
		t.Run(name, func(t *testing.T) {
			patience := time.Minute
			if name == "hangs" {
				patience = 5 * time.Second
			}
			r := newRig(t, patience)
			r.lock(r.one, "x", time.Hour)
			end := r.awaited(r.other, "x")
			goes(r.server)
			if name == "hangs" {
				defer r.server.Resume()
			}
			if err := r.ends(end); !errors.Is(err, coord.ErrAway) {
				t.Errorf("%v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.other.Await(ctx, "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("whose request has ended: %v", err)
			}
		})
	}
}

// TestAwaitOfNoLock: somebody set what stands for a lock, without an end or of another
// kind. Nobody spins, and it is found out when it goes.
func TestAwaitOfNoLock(t *testing.T) {
	r := newRig(t)
	l := r.lock(r.one, "x", time.Hour)
	key := ""
	for _, k := range r.server.Keys() {
		if k[len(k)-4:] == ":l:x" {
			key = k
		}
	}
	r.server.Do("PERSIST", key)
	asked := r.scripts()
	began := time.Now()
	end := r.awaited(r.other, "x")
	time.Sleep(300 * time.Millisecond)
	// The subscription may have come up meanwhile, and it asks once a second.
	if n := r.scripts() - asked; n > 3+int(time.Since(began)/time.Second) {
		t.Errorf("asked %d times", n)
	}
	r.server.Do("DEL", key)
	if err := r.ends(end); err != nil {
		t.Error(err)
	}
	l.Unlock()
}
