//go:build nightly

package main

import (
	"fmt"
	"testing"

	"github.com/weir-registry/weir/origin/oracletest"
)

// 1,000 uploads of 4 MiB that are all under way at the same time, and then of 16 MiB (trust
// D-4).
func TestNightlyUploads(t *testing.T) {
	for _, size := range []int{4 << 20, 16 << 20} {
		t.Run(fmt.Sprint(size>>20, "MiB"), func(t *testing.T) {
			rep := oracletest.NewReport(t, "disk", 0)
			defer rep.Keep(t)
			uploads := oracletest.PartOf(t, 1000)
			before, peak := newProcess(t, t.TempDir(), "").uploads(uploads, size)
			rep.Operations = int64(uploads)
			rep.More["rss_before"], rep.More["rss_peak"] = float64(before), float64(peak)
		})
	}
}
