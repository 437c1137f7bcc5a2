package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// garbage is how much of it, in bytes, may lie about before it is collected, where what is
	// alive is less. A collection looks at all that is alive, and as much garbage as that is
	// soon made by requests, while next to nothing of either is.
	garbage = 12 << 20
	// balanced is Go's own percentage: as much garbage as there is alive.
	balanced = 100
)

// collectSeldom has garbage collected when there is as much of it as is alive, but not before there
// is some. Whoever sets GOGC decides himself.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		paceCollector(struct{}{})
	}
}

// paceCollector says when to collect next, by what is alive; and does so again after that.
func paceCollector(struct{}) {
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(alive)
	debug.SetGCPercent(percentage(alive[0].Value.Uint64()))
	runtime.AddCleanup(&struct{ untiny *byte }{}, paceCollector, struct{}{})
}

// percentage is how much garbage may lie about, in hundredths of what is alive, which is in bytes.
func percentage(alive uint64) int { return int(max(balanced, 100*garbage/max(alive, 1<<20))) }
