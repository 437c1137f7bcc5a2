package oracletest

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// partVariable holds which part of what a nightly test does is to be done: "0.01" is a
// hundredth of it. Without it all is.
const partVariable = "NIGHTLY"

// reports is where reports are kept, seen from a room of the second level, in which its
// tests run.
const reports = "../../conformance/reports"

// Part gives which part of a nightly test is to be done, more than 0 and at most 1.
func Part(t testing.TB) float64 {
	t.Helper()
	given := os.Getenv(partVariable)
	if given == "" {
		return 1
	}
	part, err := strconv.ParseFloat(given, 64)
	if err != nil || !(part > 0 && part <= 1) {
		t.Fatalf("$%s: %q is not more than 0 and at most 1", partVariable, given)
	}
	return part
}

// PartOf gives that part of n, and at least 1.
func PartOf[N int | int64](t testing.TB, n N) N {
	t.Helper()
	return N(math.Ceil(Part(t) * float64(n)))
}

// Report is what came of a long test.
type Report struct {
	Test   string    `json:"test"`
	Store  string    `json:"store"`
	Begun  time.Time `json:"time"`
	Seed   uint64    `json:"seed"`
	Part   float64   `json:"part"` // of what a night asks for
	Failed bool      `json:"failed"`

	Seconds    float64 `json:"seconds"`
	Operations int64   `json:"operations"`
	Cycles     int64   `json:"cycles"` // of whatever happens meanwhile: collections, kills, faults
	Lost       int64   `json:"lost"`

	// More is what else was counted or measured.
	More map[string]float64 `json:"more,omitempty"`
}

// NewReport begins the report of a test on such a store.
func NewReport(t testing.TB, store string, seed uint64) *Report {
	return &Report{Test: t.Name(), Store: store, Begun: time.Now().UTC(), Seed: seed, Part: Part(t), More: map[string]float64{}}
}

// Keep ends the report, and writes it to conformance/reports. Deferred, it is written of a
// test that has failed, too.
func (r *Report) Keep(t testing.TB) {
	t.Helper()
	r.Seconds, r.Failed = time.Since(r.Begun).Seconds(), t.Failed()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s-%s.json", strings.ReplaceAll(r.Test, "/", "-"), r.Begun.Format("2006-01-02T15-04-05Z"))
	if err := os.WriteFile(filepath.Join(reports, name), append(data, '\n'), 0o644); err != nil {
		t.Error(err)
	}
	t.Logf("%s", data)
}
