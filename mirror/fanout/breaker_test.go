package fanout_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin"
)

// A first endpoint that swallows what it is sent costs one ask its connect timeout.
// Then nobody asks it, but for probes, each later than the one before; when it answers
// one, it is the first again.
func TestBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, fanout.Options{})
		first := r.hosts[0]
		first.does(first.swallows)
		first.pings(func(ctx context.Context) error { return first.swallows(ctx, "") })
		is(t, r.head(t.Context(), "a"), "h2 5s")
		for range 100 {
			is(t, r.head(t.Context(), "b"), "h2 0s")
		}
		is(t, first.took(), "a")
		// 1 s, 2 s, 4 s, each with the 5 s that the probe takes.
		time.Sleep(time.Second)
		for _, pause := range []time.Duration{2, 4, 8, 16, 30, 30} {
			synctest.Wait()
			is(t, first.took(), "ping")
			is(t, r.head(t.Context(), "c"), "h2 0s")
			time.Sleep(5*time.Second + pause*time.Second)
		}
		synctest.Wait() // the next probe has begun, and is swallowed
		first.does(nil)
		first.pings(nil)
		is(t, r.head(t.Context(), "d"), "h2 0s")
		time.Sleep(35 * time.Second)
		synctest.Wait()
		first.took()
		is(t, r.head(t.Context(), "e"), "h1 0s")
		r.turns("h1 false", "h1 true")
		if err := r.Down(); err != nil {
			t.Errorf("down: %v", err)
		}
	})
}

// While all endpoints are away an ask fails at once, with what the last one met, and
// the upstream says that it is down. It is asked again a second after it came back.
func TestAllDown(t *testing.T) {
	for name, x := range map[string]struct {
		does        func(h *host) func(context.Context, string) error
		first, then string
	}{
		"refuse":  {func(h *host) func(context.Context, string) error { return h.refuses }, "silence 0s", "silence 0s"},
		"swallow": {func(h *host) func(context.Context, string) error { return h.swallows }, "timeout 10s", "timeout 0s"},
		"hang":    {func(h *host) func(context.Context, string) error { return h.hangs }, "timeout 14s", "timeout 0s"},
		"503":     {func(h *host) func(context.Context, string) error { return h.status(503, 1) }, "503 0s", "503 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2, fanout.Options{})
				for _, h := range r.hosts {
					h.does(x.does(h))
					h.pings(func(ctx context.Context) error { return x.does(h)(ctx, "") })
				}
				if err := r.Down(); err != nil {
					t.Errorf("down: %v", err)
				}
				is(t, r.head(t.Context(), "a"), x.first)
				for _, h := range r.hosts {
					if got, _, _ := strings.Cut(h.took(), " "); got != "a" {
						t.Errorf("%s was asked %q", h.name, got)
					}
				}
				for range 10 {
					is(t, r.head(t.Context(), "b"), x.then)
				}
				if _, ok := errors.AsType[*origin.UpstreamError](r.Down()); !ok {
					t.Errorf("not down: %v", r.Down())
				}
				for _, h := range r.hosts {
					h.does(nil)
					h.pings(nil)
				}
				time.Sleep(8 * time.Second) // a probe may have begun before
				synctest.Wait()
				is(t, r.head(t.Context(), "c"), "h1 0s")
			})
		})
	}
}

// What leaves an endpoint out, and what does not.
func TestTrips(t *testing.T) {
	broken := func(h *host) func(context.Context, string) error {
		return func(context.Context, string) error { return h.error(0) }
	}
	status := func(code int, after time.Duration) func(h *host) func(context.Context, string) error {
		return func(h *host) func(context.Context, string) error { return h.status(code, after) }
	}
	for name, x := range map[string]struct {
		does func(h *host) func(context.Context, string) error
		asks []string
		up   bool
	}{
		"silence":                      {func(h *host) func(context.Context, string) error { return h.refuses }, []string{"a"}, false},
		"a wrong answer":               {broken, []string{"a", "b", "c", "d"}, true},
		"a 500":                        {status(500, 0), []string{"a", "b"}, true},
		"500s of one thing":            {status(500, 0), []string{"a", "a", "a", "a", "a"}, true},
		"three 500s":                   {status(500, 0), []string{"a", "b", "c"}, false},
		"a 503 that says for how long": {status(503, time.Second), []string{"a"}, false},
		"404":                          {status(404, 0), []string{"a", "b", "c", "d"}, true},
		"403":                          {status(403, 0), []string{"a", "b", "c", "d"}, true},
		"429":                          {status(429, 0), []string{"a", "b", "c", "d"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2, fanout.Options{})
				r.hosts[0].does(x.does(r.hosts[0]))
				for _, tag := range x.asks {
					is(t, r.head(t.Context(), tag), "h2 0s")
				}
				if up := r.Endpoints()[0].Up; up != x.up {
					t.Errorf("up: %t", up)
				}
			})
		})
	}
}

// An endpoint that answered a probe is on probation: the next failure leaves it out for
// twice as long, the next answer forgets all that was.
func TestProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, fanout.Options{})
		first := r.hosts[0]
		fails := func(pause time.Duration) {
			t.Helper()
			first.does(first.refuses)
			is(t, r.head(t.Context(), "a"), "h2 0s")
			time.Sleep(pause - time.Millisecond)
			first.took()
			is(t, r.head(t.Context(), "a"), "h2 0s")
			is(t, first.took(), "")
			time.Sleep(time.Millisecond)
			synctest.Wait()
			is(t, first.took(), "ping")
		}
		fails(time.Second)
		fails(2 * time.Second)
		fails(4 * time.Second)
		first.does(nil)
		is(t, r.head(t.Context(), "a"), "h1 0s")
		fails(time.Second)
	})
}

// An endpoint that is there for probes and hangs all the same costs one ask at a time its
// patience, the others nothing.
func TestLiar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, fanout.Options{})
		r.hosts[0].does(r.hosts[0].hangs)
		is(t, r.head(t.Context(), "a"), "timeout 14s")
		is(t, r.head(t.Context(), "a"), "timeout 0s")
		time.Sleep(time.Second)
		synctest.Wait()
		is(t, r.head(t.Context(), "b"), "timeout 14s")
		for range 5 {
			time.Sleep(30 * time.Second)
			synctest.Wait()
			r.hosts[0].took()
			var asks sync.WaitGroup
			asks.Go(func() { is(t, r.head(t.Context(), "c"), "timeout 14s") })
			time.Sleep(time.Second)
			is(t, r.head(t.Context(), "d"), "timeout 0s")
			asks.Wait()
			r.asks("c")
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		r.hosts[0].does(nil)
		is(t, r.head(t.Context(), "e"), "h1 0s")
		r.turns("h1 false", "h1 true", "h1 false", "h1 true")
		// Who is cut off while trying does not keep others from it.
		r.hosts[0].does(r.hosts[0].hangs)
		is(t, r.head(t.Context(), "a"), "timeout 14s")
		time.Sleep(time.Second)
		synctest.Wait()
		is(t, r.head(t.Context(), "a"), "timeout 14s")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		is(t, r.head(ctx, "a"), "context deadline exceeded 1s")
		synctest.Wait()
		r.hosts[0].does(nil)
		is(t, r.head(t.Context(), "a"), "h1 0s")
	})
}

// An endpoint that answers with a 5xx is asked last, and does not keep what only it has
// from anyone: it may be a mirror whose own upstream is away. That it is silent then
// leaves it out.
func TestAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, fanout.Options{})
		first, second := r.hosts[0], r.hosts[1]
		first.does(func(ctx context.Context, ref string) error {
			if ref == "kept" {
				return nil
			}
			return first.status(502, 0)(ctx, ref)
		})
		for _, tag := range []string{"a", "b", "c"} {
			is(t, r.head(t.Context(), tag), "h2 0s")
		}
		r.asks("a b c", "a b c")
		is(t, r.head(t.Context(), "d"), "h2 0s")
		r.asks("", "d")
		second.does(second.status(404, 0))
		is(t, r.head(t.Context(), "e"), "502 0s")
		if err := r.Down(); err != nil {
			t.Errorf("down: %v", err)
		}
		is(t, r.head(t.Context(), "kept"), "h1 0s")
		r.asks("e kept", "e kept")
		r.turns("h1 false", "h1 true")

		second.does(nil)
		for _, tag := range []string{"a", "b", "c"} {
			is(t, r.head(t.Context(), tag), "h2 0s")
		}
		second.does(second.refuses)
		first.does(first.refuses)
		first.took()
		is(t, r.head(t.Context(), "a"), "silence 0s")
		is(t, r.head(t.Context(), "kept"), "silence 0s")
		is(t, first.took(), "a")
		if r.Down() == nil {
			t.Error("not down")
		}
	})
}

// An endpoint that takes no probes is tried by one question at a time.
func TestNoProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost("h1")
		r := &rig{t: t, hosts: []*host{h}}
		r.Fanout = fanout.New("docker.io", []fanout.Endpoint{{Host: h.name, Reader: struct{ origin.Reader }{h}}}, fanout.Options{}, r)
		t.Cleanup(r.Close)
		h.does(h.swallows)
		is(t, r.head(t.Context(), "a"), "timeout 5s")
		is(t, r.head(t.Context(), "a"), "timeout 0s")
		time.Sleep(time.Second)
		synctest.Wait()
		h.took()
		var asks sync.WaitGroup
		asks.Go(func() { is(t, r.head(t.Context(), "b"), "timeout 5s") })
		time.Sleep(time.Second)
		is(t, r.head(t.Context(), "c"), "timeout 0s")
		asks.Wait()
		r.asks("b")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		h.does(nil)
		is(t, r.head(t.Context(), "d"), "h1 0s")
		r.turns("h1 false", "h1 true")
	})
}

// A silence while something came for others is no outage: the connection was bad, or
// the endpoint busy.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, fanout.Options{})
		r.hosts[0].does(func(ctx context.Context, ref string) error {
			if ref == "waits" {
				return r.hosts[0].swallows(ctx, ref)
			}
			return nil
		})
		var asks sync.WaitGroup
		asks.Go(func() { is(t, r.head(t.Context(), "waits"), "timeout 5s") })
		time.Sleep(time.Second)
		is(t, r.head(t.Context(), "b"), "h1 0s")
		asks.Wait()
		r.turns()
		// And with nothing from it, it is one.
		is(t, r.head(t.Context(), "waits"), "timeout 5s")
		r.turns("h1 false")
	})
}

// While an endpoint answers others, who waits there for a turn is not given up.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, fanout.Options{})
		r.hosts[0].does(func(ctx context.Context, ref string) error {
			if ref == "waits" {
				return wait(ctx, time.Minute)
			}
			return nil
		})
		var asks sync.WaitGroup
		asks.Go(func() { is(t, r.head(t.Context(), "waits"), "h1 1m0s") })
		for range 59 {
			time.Sleep(time.Second)
			is(t, r.head(t.Context(), "b"), "h1 0s")
		}
		asks.Wait()
	})
}

// A probe that runs is cut by the end of the fan-out, and one that was to come does not.
func TestCloseEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, fanout.Options{})
		for _, h := range r.hosts {
			h.does(h.refuses)
			h.pings(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		}
		r.head(t.Context(), "a")
		time.Sleep(time.Second)
		synctest.Wait()
		r.asks("a ping", "a ping")
		begin := time.Now()
		r.Close()
		if took := time.Since(begin); took > 0 {
			t.Errorf("it took %v to end", took)
		}
		time.Sleep(time.Hour)
		r.asks("", "")
	})
}
