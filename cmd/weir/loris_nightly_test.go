//go:build nightly

package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/oracletest"
)

// C-2 with the limits that weir has by default: for as long as an upload of 100 MiB takes at
// 50 KiB a second, 2,000 connections come that stand still, and others as soon as those were cut.
// All are, a minute after weir took the last byte of them; until it has, of so many at once, takes
// seconds, and is in what they had. All who are honest are served.
func TestNightlyLorises(t *testing.T) {
	const (
		connections, size = 2000, 100 << 20
		header, stall     = 10 * time.Second, time.Minute // the defaults
		slack             = 10 * time.Second              // for what else this machine does
	)
	rep := oracletest.NewReport(t, "disk", 0)
	defer rep.Keep(t)
	l := startLorises(t, connections, header, stall, 10*time.Second)
	ctx, over := context.WithCancel(t.Context())
	defer over()
	var others sync.WaitGroup
	others.Go(func() { rep.Operations = l.healthy(ctx) })
	var sent int64
	others.Go(func() {
		defer over()
		var err error
		if sent, err = l.upload(t.Context(), oracletest.PartOf(t, int64(size))); err != nil {
			t.Errorf("the slow upload, after %d bytes: %v", sent, err)
		}
	})
	for first := true; first || ctx.Err() == nil; first = false {
		longest := l.round()
		rep.Cycles++
		for _, x := range []struct {
			what       string
			took, most time.Duration
		}{
			{"header", longest.dripped, header + slack},
			{"body", longest.stopped, stall + slack},
			// Who takes a file is looked at 60 times within the stall time.
			{"answer", longest.gazed, stall + stall/60 + slack},
		} {
			rep.More["longest_"+x.what+"_seconds"] = max(rep.More["longest_"+x.what+"_seconds"], x.took.Seconds())
			if x.took > x.most {
				t.Errorf("%s: one had %v", x.what, x.took)
			}
		}
	}
	others.Wait()
	rep.More["slow_bytes"], rep.More["rss_peak"] = float64(sent), float64(l.memory("VmHWM"))
	l.stop()
	l.saidNothingBad()
}
