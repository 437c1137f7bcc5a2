//go:build nightly

package main

import (
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/oracletest"
)

// C-3 to the letter: 200 reloads, of which 50 are mistakes, at 200 requests a second, and each
// shows on all listeners within a second. One request in twenty may come after the end.
func TestNightlyReloads(t *testing.T) {
	const rate, least, atOnce = 200, 190, time.Second
	rep := oracletest.NewReport(t, "disk", 0)
	defer rep.Keep(t)
	came := rotations(t, oracletest.PartOf(t, 150), rate)
	rep.Operations, rep.Cycles = came.answered, came.cycles
	rep.More["requests_per_second"], rep.More["slowest_reload_seconds"] = came.rate, came.slowest.Seconds()
	if came.rate < least {
		t.Errorf("%.0f requests a second, want %d", came.rate, rate)
	}
	if came.slowest > atOnce {
		t.Errorf("a reload took %v, want %v", came.slowest, atOnce)
	}
}
