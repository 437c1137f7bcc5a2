package main

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"
)

// allRows gives what is measured, in the order of the table.
func allRows() []row {
	return slices.Concat(startRows(), pushRows(), bucketRows(), hugeRows(), hotRows(), coldRows(), fanoutRows(), budgetRows(), rightsRows(), observedRows(), floodRows(), warmRows(), sidecarRows(), growthRows(), pageRows(), gcRows())
}

// registries are the servers that people push to.
func registries() []string { return []string{distribution, dockerRegistry, olareg, weir} }

// everyone are the registries, and what serves files without being one.
func everyone() []string { return []string{distribution, dockerRegistry, olareg, nginx, weir} }

// Names of measures that several rows have.
const (
	throughput = "rate"
	cpu        = "server CPU"
	peak       = "peak RSS"
)

func startRows() []row {
	return []row{
		{
			name: "ready", work: "from exec to the first answer, median of 5 starts in a new directory",
			servers:  everyone(),
			measures: []measure{{name: "ready", unit: "ms", goals: []goal{atMostTimes(1.5, nginx)}}},
			run:      ready,
		},
		{
			name: "idle", work: "resident memory a second after the first answer, and the program's size",
			servers: everyone(),
			measures: []measure{
				{name: "RSS", unit: "MB", goals: []goal{atMost(25)}, beside: dockerRegistry},
				{name: "binary", unit: "MB", goals: []goal{atMost(45)}, beside: dockerRegistry},
			},
			run: idle,
		},
	}
}

func ready(ctx context.Context, t *trial) (values, error) {
	var times []time.Duration
	scratch := t.scratch
	for i := range 5 {
		t.scratch = scratch + "/" + string(rune('a'+i))
		if err := t.start(ctx, "", 0); err != nil {
			return nil, err
		}
		times = append(times, t.running.ready)
		if err := t.stop(); err != nil {
			return nil, err
		}
	}
	t.scratch = scratch
	return values{"ready": milliseconds(median(times))}, nil
}

func idle(ctx context.Context, t *trial) (values, error) {
	if err := t.start(ctx, "", 0); err != nil {
		return nil, err
	}
	if err := pause(ctx, time.Second); err != nil {
		return nil, err
	}
	u, err := readUsage(t.running.pid)
	if err != nil {
		return nil, err
	}
	program, err := os.Stat(t.program)
	if err != nil {
		return nil, err
	}
	return values{"RSS": number(float64(u.rss) / mB), "binary": number(float64(program.Size()) / mB)}, nil
}

// median of a list, which it sorts; zero for none.
func median[T cmp.Ordered](list []T) (zero T) {
	if len(list) == 0 {
		return zero
	}
	slices.Sort(list)
	return list[len(list)/2]
}

func milliseconds(d time.Duration) value { return number(float64(d.Microseconds()) / 1000) }
