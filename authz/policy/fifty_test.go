package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkFiftyRules is S-8's figure, to be 1 ms at most: what a decision by fifty
// ordinary rules takes, none of them kept, in 99 of 100 cases.
func BenchmarkFiftyRules(b *testing.B) {
	who, what := someone()
	p := open(b, Options{Global: Rules{Allow: rules(b, ordinary()...)}})
	var all []time.Duration
	for i := 0; b.Loop(); i++ {
		what.Repository = fmt.Sprint("docker.io/library/r", i) // another question each time
		begun := time.Now()
		d := p.Decide(b.Context(), who, what)
		all = append(all, time.Since(begun))
		if d.By != "authz.policy.allow[49]" {
			b.Fatal(says(d))
		}
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}
