//go:build nightly

package main

import (
	"testing"

	"github.com/weir-registry/weir/origin/oracletest"
)

// C-3 to the letter: 200 reloads, of which 50 are mistakes, at 200 requests a second.
func TestNightlyReloads(t *testing.T) {
	rep := oracletest.NewReport(t, "disk", 0)
	defer rep.Keep(t)
	applied := oracletest.PartOf(t, 150)
	answered, mistakes := rotations(t, applied)
	rep.Operations, rep.Cycles = answered, int64(applied+mistakes)
}
