package policy

import (
	"runtime"
	"testing"
)

// TestRulesRetainLittle: rules stay, and each collection of garbage looks at all that stays.
// What they were compiled in and from does not.
func TestRulesRetainLittle(t *testing.T) {
	objects := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what the first one finds in pools
		runtime.ReadMemStats(&m)
		return float64(m.HeapObjects)
	}
	texts := ordinary()
	warm := rules(t, texts...) // CEL keeps what it learned of its grammar
	before := objects()
	parsed := rules(t, texts...)
	p := open(t, Options{Global: Rules{Allow: parsed}})
	p.Possible(nobody, "", "")
	// 61 measured; 335 where each had its own environment, its tree, and a second program.
	if each := (objects() - before) / float64(len(texts)); each > 150 {
		t.Errorf("%.0f objects a rule", each)
	}
	runtime.KeepAlive(warm)
	runtime.KeepAlive(p)
}
