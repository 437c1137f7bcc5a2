package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestP99 is S-8's bound: a decision by fifty ordinary rules, none of them kept, takes a
// millisecond at most in 99 of 100 cases. Each case is measured five times and its least
// counts: what the decision takes, and not what the machine does besides. What clients
// see is measured by the bench, on a machine that does nothing else.
func TestP99(t *testing.T) {
	bound := time.Millisecond
	if raceDetector {
		bound *= 10
	}
	who, what := someone()
	p := open(t, Options{Global: Rules{Allow: rules(t, ordinary()...)}})
	var least, all []time.Duration
	for i := range 200 {
		best := time.Hour
		for j := range 5 {
			what.Repository = fmt.Sprint("docker.io/library/r", i, "/", j) // another question each time
			begun := time.Now()
			d := p.Decide(t.Context(), who, what)
			took := time.Since(begun)
			best, all = min(best, took), append(all, took)
			if d.By != "authz.policy.allow[49]" {
				t.Fatal(says(d))
			}
		}
		least = append(least, best)
	}
	slices.Sort(least)
	slices.Sort(all)
	p99 := least[len(least)*99/100]
	t.Logf("p99 %s; with all else that the machine did: median %s, p99 %s", p99, all[len(all)/2], all[len(all)*99/100])
	if p99 > bound {
		t.Errorf("p99 is %s", p99)
	}
}
