package fanout_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/fanout"
)

type does = func(context.Context, string) error

// Endpoints are asked in order; what nobody has is told as the worst of what they
// said.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost("any")
		for name, x := range map[string]struct {
			hosts []does
			want  string
			asks  []string
		}{
			"the first":         {[]does{nil, nil}, "h1 0s", []string{"a", ""}},
			"404":               {[]does{h.status(404, 0), nil}, "h2 0s", []string{"a", "a"}},
			"429":               {[]does{h.status(429, 0), nil}, "h2 0s", []string{"a", "a"}},
			"500":               {[]does{h.status(500, 0), nil}, "h2 0s", []string{"a", "a"}},
			"silence":           {[]does{h.refuses, nil}, "h2 0s", []string{"a", "a"}},
			"hanging":           {[]does{h.hangs, nil}, "h2 7s", []string{"a", "a"}},
			"two hang":          {[]does{h.hangs, h.hangs}, "timeout 14s", []string{"a", "a"}},
			"three hang":        {[]does{h.hangs, h.hangs, h.hangs}, "timeout 14s", []string{"a", "a", "a"}},
			"the third":         {[]does{h.hangs, h.status(404, 0), slow(4 * time.Second)}, "h3 8.666666666s", []string{"a", "a", "a"}},
			"nobody has it":     {[]does{h.status(404, 0), h.status(401, 0)}, "401 0s", []string{"a", "a"}},
			"one cannot say":    {[]does{h.refuses, h.status(404, 0)}, "silence 0s", []string{"a", "a"}},
			"the last cannot":   {[]does{h.status(404, 0), h.status(502, 0)}, "502 0s", []string{"a", "a"}},
			"one limits":        {[]does{h.status(429, 0), h.status(404, 0)}, "429 0s", []string{"a", "a"}},
			"a stranger's word": {[]does{func(context.Context, string) error { return errors.New("disk") }, nil}, "disk 0s", []string{"a", ""}},
		} {
			r := newRig(t, len(x.hosts), fanout.Options{})
			for i, d := range x.hosts {
				r.hosts[i].does(d)
				r.hosts[i].pings(r.hosts[i].never)
			}
			t.Log(name)
			is(t, r.head(t.Context(), "a"), x.want)
			r.answers(x.asks...)
			r.Close()
		}
	})
}

// That something is not there is not believed of the second endpoint while the first is
// left out: it could not say.
func TestLeftOutCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, fanout.Options{})
		r.hosts[0].does(r.hosts[0].refuses)
		r.hosts[1].does(r.hosts[1].status(404, 0))
		is(t, r.head(t.Context(), "a"), "silence 0s")
		is(t, r.head(t.Context(), "a"), "silence 0s")
		r.asks("a", "a a")
	})
}

// With HedgeAfter the next endpoint is asked too when one was silent for so long. The
// first good answer counts, and the loser is cut off, which is not held against it.
func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost("any")
		second := time.Second
		for name, x := range map[string]struct {
			hosts []does
			want  string
			asks  []string
			cut   int
		}{
			"in time":              {[]does{slow(second / 2), nil}, "h1 500ms", []string{"a", ""}, 0},
			"the second wins":      {[]does{slow(5 * second), nil}, "h2 1s", []string{"a", "a"}, 1},
			"the first wins":       {[]does{slow(2 * second), slow(5 * second)}, "h1 2s", []string{"a", "a"}, 1},
			"a 404 wins nothing":   {[]does{late(2*second, h.status(404, 0)), slow(5 * second)}, "h2 6s", []string{"a", "a"}, 0},
			"nor an early one":     {[]does{slow(3 * second), h.status(404, 0)}, "h1 3s", []string{"a", "a"}, 0},
			"nor an outage":        {[]does{late(3*second, h.refuses), slow(5 * second)}, "h2 6s", []string{"a", "a"}, 0},
			"a failure is at once": {[]does{h.refuses, nil}, "h2 0s", []string{"a", "a"}, 0},
			"one after the other":  {[]does{h.hangs, h.hangs, nil}, "h3 2s", []string{"a", "a", "a"}, 2},
			"all hang":             {[]does{h.hangs, h.hangs}, "timeout 14s", []string{"a", "a"}, 2},
		} {
			r := newRig(t, len(x.hosts), fanout.Options{HedgeAfter: second})
			for i, d := range x.hosts {
				r.hosts[i].does(d)
				r.hosts[i].pings(r.hosts[i].never)
			}
			t.Log(name)
			is(t, r.head(t.Context(), "a"), x.want)
			r.answers(x.asks...)
			synctest.Wait()
			cut := 0
			for i, h := range r.hosts {
				cut += h.cut
				if lost := x.want[:2] != "ti" && h.cut > 0; lost && !r.Endpoints()[i].Up {
					t.Errorf("%s lost, and is left out for it", h.name)
				}
			}
			if cut != x.cut {
				t.Errorf("%d were cut off, want %d", cut, x.cut)
			}
			r.Close()
		}
	})
}

// Who leaves is told so at once, and nobody is blamed.
func TestLeaver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, fanout.Options{HedgeAfter: time.Second})
		for _, h := range r.hosts {
			h.does(h.hangs)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(gone) })
		is(t, r.head(ctx, "a"), "gone 3s")
		r.turns()
	})
}
