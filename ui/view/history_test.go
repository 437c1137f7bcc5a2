package view_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/ui/view"
)

// A day is what was in it: what is older has no part in it, also where its place in memory
// is taken anew.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := view.NewHistory()
		if d := h.Day("none"); len(d.Points) != 96 || d.Requests != 0 {
			t.Errorf("%v", d)
		}
		h.MirrorRequest("hub", "blob", "hit")
		h.MirrorRequest("hub", "blob", "fill")
		h.ServedBytes("hub", 100)
		h.UpstreamBytes("hub", 40)
		time.Sleep(15 * time.Minute)
		h.MirrorRequest("hub", "manifest", "stale")
		all := h.Day("hub")
		if ratio, ok := all.HitRatio(); all.Requests != 3 || all.Hits != 2 || all.Saved() != 60 || !ok || ratio != 2./3 {
			t.Errorf("%v", all)
		}
		if before, last := all.Points[94], all.Points[95]; before.Requests != 2 || last.Requests != 1 || !last.At.Equal(before.At.Add(15*time.Minute)) {
			t.Errorf("%v, %v", before, last)
		}
		time.Sleep(23*time.Hour + 45*time.Minute)
		if all := h.Day("hub"); all.Requests != 1 {
			t.Errorf("a day later %v", all)
		}
		h.MirrorRequest("hub", "blob", "hit")
		time.Sleep(15 * time.Minute)
		if all := h.Day("hub"); all.Requests != 1 || all.Hits != 1 {
			t.Errorf("in the place of the first %v", all)
		}
	})
}
