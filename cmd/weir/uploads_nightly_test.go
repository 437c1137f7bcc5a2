//go:build nightly

package main

import (
	"fmt"
	"testing"

	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// 1,000 uploads of 4 MiB that are all under way at the same time, and then of 16 MiB, on a disk and
// in a bucket (trust D-4).
func TestNightlyUploads(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *process{
		"disk": func(t *testing.T) *process { return newProcess(t, t.TempDir(), "") },
		"bucket": func(t *testing.T) *process {
			server := s3test.Start(t)
			return newProcessOn(t, freeAddr(t), "{blobs: "+bucket(server, server.Bucket(t), ", spool: '"+t.TempDir()+"'")+"}", "")
		},
	} {
		for _, size := range []int{4 << 20, 16 << 20} {
			t.Run(fmt.Sprint(name, "/", size>>20, "MiB"), func(t *testing.T) {
				rep := oracletest.NewReport(t, name, 0)
				defer rep.Keep(t)
				uploads := oracletest.PartOf(t, 1000)
				before, peak := open(t).uploads(uploads, size)
				rep.Operations = int64(uploads)
				rep.More["rss_before"], rep.More["rss_peak"] = float64(before), float64(peak)
			})
		}
	}
}
