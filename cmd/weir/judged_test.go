package main

import (
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
)

// judged are two replicas at each of which a worker of the oracle does what clients do, in
// repositories of its own; and what was answered there, by which they are judged.
type judged struct {
	t       testing.TB
	seed    uint64
	p       *pair
	worlds  [2]*oracletest.World
	ledgers [2]*oracletest.Ledger
	workers [2]*oracletest.Worker
	working sync.RWMutex // held for reading while something is done
	told    map[string]int
}

// newJudged lets nobody work yet. collects: they collect garbage all the time.
func newJudged(t testing.TB, p *pair, collects bool) *judged {
	t.Helper()
	seed := oracletest.Seed(t)
	j := &judged{t: t, seed: seed, p: p, told: map[string]int{}}
	for i := range p.each {
		j.worlds[i] = oracletest.NewWorld(seed, 64<<10).Apart(i)
		j.ledgers[i] = &oracletest.Ledger{Collects: collects}
		j.workers[i] = oracletest.NewWorker(j.at(p.each[i], i), j.ledgers[i], j.worlds[i], seed, uint64(i))
	}
	return j
}

// at is what a process serves of one of the worlds.
func (j *judged) at(p *process, world int) origin.Registry {
	return oracletest.Within(p.registry(), j.worlds[world])
}

// step has a worker do something, and reports whether it may go on.
func (j *judged) step(i int) bool {
	j.working.RLock()
	defer j.working.RUnlock()
	err := j.workers[i].Step(j.t.Context())
	if err != nil {
		j.t.Errorf("worker %d: %v", i, err)
	}
	return err == nil
}

// count adds up what was told since the last time.
func (j *judged) count() {
	for _, l := range j.ledgers {
		for _, o := range []oracletest.Outcome{oracletest.Acked, oracletest.Refused, oracletest.Unknown} {
			j.told[o.String()] += l.Count(o)
		}
	}
}

// rest wants, while nobody works, that all was kept that is to be, and goes on from there:
// to judge a long story takes ever longer.
func (j *judged) rest() {
	j.t.Helper()
	j.working.Lock()
	defer j.working.Unlock()
	j.count()
	for i, l := range j.ledgers {
		reg := j.at(j.p.each[i], i)
		next, err := oracletest.Checkpoint(j.t.Context(), reg, l, j.worlds[i])
		if err != nil {
			j.t.Errorf("in between: %v", err)
			return
		}
		j.ledgers[i] = next
		j.workers[i].Use(reg, next)
	}
}

// end wants, when all have done their work, that all was kept that is to be: each of these
// processes is started and has it. A scrub finds nothing.
func (j *judged) end(fresh ...*process) {
	j.t.Helper()
	j.count()
	for _, p := range fresh {
		p.start()
		for i, l := range j.ledgers {
			l.Settle()
			if err := oracletest.Check(j.t.Context(), j.at(p, i), l, j.worlds[i]); err != nil {
				j.t.Errorf("at the end: %v", err)
			}
		}
	}
	var scrub scrubbed
	if fresh[0].command(exitDone, &scrub, "scrub"); len(scrub.Corrupt) > 0 || scrub.Checked == nil || *scrub.Checked == 0 {
		j.t.Errorf("a scrub found %+v", scrub)
	}
	j.t.Logf("workers were told: %v", j.told)
	if j.told["acked"] == 0 {
		j.t.Errorf("too little happened: %v", j.told)
	}
}
