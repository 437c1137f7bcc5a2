package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	standing := atLeastTimes(1.3, zot, standIn{olareg, 9}, standIn{dockerRegistry, 2})
	have := func(ours float64) map[string]value {
		return map[string]value{weir: number(ours), dockerRegistry: number(100), nginx: number(10)}
	}
	for _, c := range []struct {
		name      string
		goals     []goal
		have      map[string]value
		want      verdict
		text      string
		reference string
	}{
		{"most, reached", []goal{atMost(25)}, have(25), reached, "≤ 25", "beside"},
		{"most, missed", []goal{atMost(25)}, have(25.1), missed, "≤ 25", "beside"},
		{"least of a peer", []goal{atLeastTimes(1.5, nginx)}, have(15), reached, "≥ 1.5 × nginx", nginx},
		{"least of a peer, missed", []goal{atLeastTimes(1.5, nginx)}, have(14), missed, "≥ 1.5 × nginx", nginx},
		{"stand-in", []goal{standing}, have(260), reached, "≥ 1.3 × zot (as 2.6 × docker-registry)", dockerRegistry},
		{"stand-in, missed", []goal{standing}, have(259), missed, "≥ 1.3 × zot (as 2.6 × docker-registry)", dockerRegistry},
		{"nobody to compare with", []goal{atLeastTimes(1, zot)}, have(1), unknown, "≥ 1 × zot", "beside"},
		{"two, one missed", []goal{atMost(5), atMost(30)}, have(25), missed, "≤ 5, ≤ 30", "beside"},
		{"two, the other missed", []goal{atMost(30), atMost(5)}, have(25), missed, "≤ 30, ≤ 5", "beside"},
		{"words are no number", []goal{atMost(5)}, map[string]value{weir: {Text: "none in 8s"}}, missed, "≤ 5", "beside"},
		{"a peer's words are none either", []goal{atMostTimes(1, nginx)}, map[string]value{weir: number(1), nginx: {Text: "none"}}, unknown, "≤ 1 × nginx", "beside"},
		{"not measured", []goal{atMost(5)}, map[string]value{nginx: number(1)}, unknown, "≤ 5", "beside"},
		{"no goal", nil, have(1), unknown, "", "beside"},
	} {
		m := measure{name: "x", goals: c.goals, beside: "beside"}
		got, text, reference := m.judge(c.have)
		if got != c.want || text != c.text || reference != c.reference {
			t.Errorf("%s: %s, %q, %s; want %s, %q, %s", c.name, got, text, reference, c.want, c.text, c.reference)
		}
	}
}

func TestShort(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.254: "0.25", 1: "1", 1.5: "1.5", 9.999: "10", 12.34: "12.3", 20: "20", 100: "100", 1234.5: "1234", -12.34: "-12.3"} {
		if got := short(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
}

// TestReport: ratios are ours to the peer's, a failure of weir is one of the run, and
// one of a peer is shown and no more.
func TestReport(t *testing.T) {
	r := newReport(time.Unix(0, 0))
	w := row{name: "push", measures: []measure{
		{name: "rate", unit: "MB/s", goals: []goal{atLeastTimes(2, dockerRegistry)}},
		{name: "peak", unit: "MB", beside: olareg},
	}}
	f := r.row(w)
	f.note(dockerRegistry, values{"rate": number(100), "peak": number(1)}, time.Second, nil)
	f.note(weir, values{"rate": number(250), "peak": number(2)}, time.Second, nil)
	f.note(olareg, nil, 0, errors.New("is not well"))
	r.judge()
	if m := f.Measures[0]; m.Verdict != reached || m.Ratio != 2.5 || m.To != dockerRegistry {
		t.Errorf("%+v", m)
	}
	if m := f.Measures[1]; m.Verdict != unknown || m.To != "" {
		t.Errorf("a ratio to who has none: %+v", m)
	}
	if err := r.failure(); err != nil {
		t.Errorf("a peer's failure is ours: %v", err)
	}
	var out bytes.Buffer
	if err := r.table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.5 × docker-registry", "≥ 2 × docker-registry", "ok", "failed", "push, olareg: is not well"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, out.String())
		}
	}

	bad := r.row(w)
	bad.note(weir, nil, 0, errors.New("other bytes"))
	r.judge()
	if err := r.failure(); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("%v", err)
	}
	if bad.Measures[0].Verdict != failed || bad.missed() {
		t.Errorf("%+v", bad.Measures[0])
	}
}
