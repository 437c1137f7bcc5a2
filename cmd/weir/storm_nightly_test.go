//go:build nightly

package main

import (
	"fmt"
	"testing"

	"github.com/weir-registry/weir/origin/oracletest"
)

// 5,000 images are pushed at two replicas over one bucket in ten storms, in which some requests
// hang, too. Of a thousand pushes that are tried once more one may fail (trust X-2).
func TestNightlyStorm(t *testing.T) {
	rep := oracletest.NewReport(t, "bucket, two replicas", 0)
	defer rep.Keep(t)
	const storms, each, hangs = 10, 125, 4
	for i := range oracletest.PartOf(t, storms) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := inStorm(t, each, hangs)
			rep.Operations += int64(s.told["acked"] + s.told["unknown"])
			rep.Cycles += int64(s.collected)
			rep.More["pushes"] += float64(s.pushes.Load())
			rep.More["pushes_failed"] += float64(s.failed.Load())
			for what, n := range s.told {
				rep.More[what] += float64(n)
			}
		})
	}
	if rep.More["pushes_failed"]*1000 > rep.More["pushes"] {
		t.Errorf("%v of %v pushes failed", rep.More["pushes_failed"], rep.More["pushes"])
	}
	if t.Failed() {
		rep.Lost++
	}
}
