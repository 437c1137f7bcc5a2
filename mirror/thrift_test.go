package mirror_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin"
)

// As the budget of requests falls, tags are checked less often, with a HEAD each time,
// and a digest is never asked for again.
func TestThrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := &fanout.Limits{}
		r := newRig(t, func(r *rig) { r.limits = limits })
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		r.hub[0].took()
		for _, x := range []struct{ remaining, times int }{{60, 1}, {40, 2}, {20, 4}, {5, 8}, {90, 1}} {
			limits.Told(100, x.remaining, 6*time.Hour)
			time.Sleep(time.Duration(x.times)*r.tags.TTL - time.Nanosecond)
			if s := r.pull(full, "1.27", img); s.Cache != origin.Hit {
				t.Errorf("with %d left: %+v before %d TTLs", x.remaining, s, x.times)
			}
			r.requests(r.hub[0])
			time.Sleep(time.Nanosecond)
			if s := r.pull(full, "1.27", img); s.Cache != origin.Revalidated {
				t.Errorf("with %d left: %+v after %d TTLs", x.remaining, s, x.times)
			}
			r.requests(r.hub[0], "HEAD "+name+" 1.27")
		}
		r.stop()
	})
}

// While an upstream limits requests, what is kept is served, stale where it is past its
// time; it is asked again when it may be, not before.
func TestLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		time.Sleep(r.tags.TTL)
		r.hub[0].took()
		r.hub[0].fail = r.hub[0].limits
		for range 60 {
			if s := r.pull(full, "1.27", img); s.Cache != origin.Stale || s.Stale != "upstream docker.io limits requests" {
				t.Errorf("%+v", s)
			}
			time.Sleep(time.Second / 2)
		}
		r.requests(r.hub[0], "HEAD "+name+" 1.27")
		r.hub[0].fail = nil
		time.Sleep(r.tags.NegativeTTL) // the failed check that was the last is not repeated before
		if s := r.pull(full, "1.27", img); s.Cache != origin.Revalidated {
			t.Errorf("%+v", s)
		}
		r.requests(r.hub[0], "HEAD "+name+" 1.27")
		r.stop()
	})
}
