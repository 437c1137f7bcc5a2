package storetest

import (
	"testing"
	"time"

	"github.com/weir-registry/weir/store"
)

var timeCases = []recordCase{
	{"when it was written", func(t *testing.T, r store.Records) {
		const tick = time.Second // what a header of HTTP can tell
		before := time.Now().Add(-tick)
		set(t, r, "a/b", "one", store.Always())
		one, err := r.Get(t.Context(), "a/b")
		must(t, err)
		set(t, r, "a/b", "one", store.Version(one.Version))
		two, err := r.Get(t.Context(), "a/b")
		must(t, err)
		if one.Modified.Before(before) || two.Modified.Before(one.Modified) || two.Modified.After(time.Now().Add(tick)) {
			t.Errorf("written at %v, then at %v; it is %v", one.Modified, two.Modified, time.Now())
		}
		for e, err := range r.List(t.Context(), "a", "") {
			must(t, err)
			if e.Modified.Sub(two.Modified).Abs() > tick {
				t.Errorf("listed as of %v, read as of %v", e.Modified, two.Modified)
			}
		}
	}},
}
