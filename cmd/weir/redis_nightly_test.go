//go:build nightly

package main

import (
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/oracletest"
)

// For 20 minutes Redis is away most of the time, five seconds each time, under two replicas
// whose clients pull and push, and which recover within 5 s (trust X-1).
func TestNightlyPairWithoutRedis(t *testing.T) {
	rep := oracletest.NewReport(t, "bucket, two replicas", 0)
	defer rep.Keep(t)
	long := time.Duration(oracletest.PartOf(t, int64(20*time.Minute)))
	l, slowest := pairWithoutRedis(t, func(string) time.Duration { return 5 * time.Second }, func(round int) bool {
		rep.Cycles = int64(3 * round) // there are three faults
		return time.Since(rep.Begun) < long
	})
	rep.Operations = l.pulls.Load() + l.pushes.Load()
	rep.More["pulls"], rep.More["pushes"], rep.More["slowest_recovery_seconds"] = float64(l.pulls.Load()), float64(l.pushes.Load()), slowest.Seconds()
	if slowest > 5*time.Second {
		t.Errorf("recovered after %v", slowest)
	}
	if t.Failed() {
		rep.Lost++
	}
}
