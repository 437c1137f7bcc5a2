//go:build nightly

package main

import (
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/oracletest"
)

// C-4 to the letter: 100 pulls of 64 MiB, ten fills of which they are, and 20 pushes. Weir is
// not ready within a second, ends within its drain, and within a second when it is told twice.
func TestNightlyTerminated(t *testing.T) {
	const (
		atOnce = time.Second
		drain  = 30 * time.Second // the default
	)
	rep := oracletest.NewReport(t, "disk", 0)
	defer rep.Keep(t)
	n := amid{pulls: oracletest.PartOf(t, 100), pushes: oracletest.PartOf(t, 20), fills: oracletest.PartOf(t, 10), size: 64 << 20}
	unready, took := terminated(t, n, drain)
	twice := terminatedTwice(t, n, drain)
	rep.Operations, rep.Cycles = int64(2*(n.pulls+n.pushes)), 2
	for what, x := range map[string]struct{ took, most time.Duration }{"not_ready": {unready, atOnce}, "ended": {took, drain}, "told_twice": {twice, atOnce}} {
		rep.More[what+"_seconds"] = x.took.Seconds()
		if x.took > x.most {
			t.Errorf("%s after %v, want %v", what, x.took, x.most)
		}
	}
}
