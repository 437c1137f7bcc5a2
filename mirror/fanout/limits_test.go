package fanout_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/fanout"
)

// An endpoint that says 429 is left alone for as long as it says, to the second, and
// the next one takes over; when it may be asked, it is the first again.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, fanout.Options{})
		first := r.hosts[0]
		first.does(first.status(429, 30*time.Second))
		is(t, r.head(t.Context(), "a"), "h2 0s")
		if until := r.Endpoints()[0].LimitedUntil; !until.Equal(time.Now().Add(30 * time.Second)) {
			t.Errorf("limited until %v", until)
		}
		first.does(nil)
		for range 30 {
			is(t, r.head(t.Context(), "b"), "h2 0s")
			time.Sleep(time.Second - time.Nanosecond)
		}
		is(t, r.head(t.Context(), "b"), "h2 0s")
		is(t, first.took(), "a")
		time.Sleep(30 * time.Nanosecond) // what each round left out
		is(t, r.head(t.Context(), "c"), "h1 0s")
		is(t, first.took(), "c")
		if !r.Endpoints()[0].LimitedUntil.IsZero() {
			t.Error("still limited")
		}
		r.turns() // it was there all the time
	})
}

// An endpoint that does not say for how long is left alone for 10 s, then 20, up to ten
// minutes; an answer forgets that.
func TestNoRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, fanout.Options{})
		only := r.hosts[0]
		refused := func(pause time.Duration) {
			t.Helper()
			only.does(only.status(429, 0))
			is(t, r.head(t.Context(), "a"), "429 0s")
			only.does(nil)
			time.Sleep(pause - time.Nanosecond)
			is(t, r.head(t.Context(), "a"), "429 0s")
			is(t, only.took(), "a")
			if r.Down() == nil {
				t.Error("not down while it is left alone")
			}
			time.Sleep(time.Nanosecond)
		}
		for _, seconds := range []time.Duration{10, 20, 40, 80, 160, 320, 600, 600} {
			refused(seconds * time.Second)
		}
		is(t, r.head(t.Context(), "a"), "h1 0s")
		only.took()
		refused(10 * time.Second)
	})
}

// As what is left of a limit falls, checks are put off, until the window has passed.
func TestThrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := &fanout.Limits{}
		h1, h2 := newHost("h1"), newHost("h2")
		f := fanout.New("docker.io", []fanout.Endpoint{
			{Host: "h1", Reader: h1, Limits: limits}, {Host: "h2", Reader: h2},
		}, fanout.Options{}, nil)
		defer f.Close()
		thrift := func(want int) {
			t.Helper()
			if got := f.Thrift(); got != want {
				t.Errorf("thrift is %d, want %d", got, want)
			}
		}
		thrift(1)
		for _, x := range []struct{ remaining, want int }{
			{100, 1}, {50, 1}, {49, 2}, {25, 2}, {24, 4}, {10, 4}, {9, 8}, {0, 8}, {80, 1}, {9, 8},
		} {
			limits.Told(100, x.remaining, time.Hour)
			thrift(x.want)
		}
		if s := f.Endpoints()[0]; s.Limit != 100 || s.Remaining != 9 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour - time.Nanosecond)
		thrift(8)
		time.Sleep(time.Nanosecond)
		thrift(1)
		if s := f.Endpoints()[0]; s.Limit != -1 || s.Remaining != -1 {
			t.Errorf("%+v", s)
		}
		limits.Told(100, 5, 0) // without a window: six hours
		time.Sleep(6*time.Hour - time.Nanosecond)
		thrift(8)
		// While the first is left out, it is the second's that counts.
		h1.does(h1.refuses)
		h1.pings(h1.never)
		if _, err := f.Resolve(t.Context(), repo(t), tag(t, "a")); err != nil {
			t.Error(err)
		}
		thrift(1)
	})
}

// meter writes down what it is told of limits.
type meter struct {
	mu   sync.Mutex
	told []int
}

func (*meter) EndpointUp(string, string, bool) {}

func (m *meter) RateLimitRemaining(_, _ string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, n)
}

// What an endpoint has said of its limit is told until its window has passed, or nobody asks
// it any more: an alert of it ends then.
func TestLimitIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, limits := &meter{}, &fanout.Limits{}
		limits.Told(100, 10, time.Minute) // before anybody wants to know
		f := fanout.New("docker.io", []fanout.Endpoint{{Host: "h1", Reader: newHost("h1"), Limits: limits}}, fanout.Options{}, m)
		told := func(want ...int) {
			t.Helper()
			synctest.Wait()
			m.mu.Lock()
			defer m.mu.Unlock()
			if !slices.Equal(m.told, want) {
				t.Errorf("told %v, want %v", m.told, want)
			}
			m.told = nil
		}
		time.Sleep(time.Minute)
		told(10, -1)
		limits.Told(100, 9, time.Hour)
		time.Sleep(time.Hour - time.Nanosecond)
		told(9)
		limits.Told(100, 5, time.Hour) // it counts from here
		time.Sleep(time.Hour - time.Nanosecond)
		told(5)
		time.Sleep(time.Nanosecond)
		told(-1)
		limits.Told(100, 3, 0)
		f.Close()
		limits.Told(100, 2, 0) // by a download that goes on
		time.Sleep(24 * time.Hour)
		told(3)
	})
}
