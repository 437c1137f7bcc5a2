package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestPercentage(t *testing.T) {
	for alive, want := range map[uint64]int{
		0:          1200, // before the first collection
		4 << 20:    300,
		12 << 20:   100,
		1000 << 20: 100,
	} {
		if got := percentage(alive); got != want {
			t.Errorf("%d bytes alive: %d %%; want %d", alive, got, want)
		}
	}
}

// However little is alive, garbage lies about before it is collected, and after a collection
// that holds again.
func TestCollectSeldom(t *testing.T) {
	t.Setenv("GOGC", "")
	collectSeldom()
	for range 3 {
		runtime.GC()
		eventually(t, "garbage may lie about", func() bool {
			now := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/goal:bytes"}}
			metrics.Read(now)
			return now[1].Value.Uint64() >= now[0].Value.Uint64()+garbage*9/10
		})
	}
}
