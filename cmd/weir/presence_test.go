package main

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/ui/view"
)

// Replicas know of each other within the time in which each says that it is there, and of one
// that is gone no more after three times that.
func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := coord.NewProcess()
		began := time.Now()
		var fills atomic.Int64
		one := newPresence(p.Member(), func() view.Peer {
			return view.Peer{Advertise: "http://one", Version: "1", Started: began, Fills: int(fills.Load())}
		})
		two := newPresence(p.Member(), func() view.Peer { return view.Peer{Advertise: "http://two", Started: began.Add(1)} })
		three := newPresence(p.Member(), func() view.Peer { return view.Peer{Advertise: "http://three", Started: began.Add(2)} })
		synctest.Wait()
		fills.Store(3)
		time.Sleep(presentEvery)
		synctest.Wait()
		if got := two.list(); len(got) != 2 || got[0].Advertise != "http://one" || got[0].Fills != 3 || got[0].Version != "1" || got[1].Advertise != "http://three" {
			t.Errorf("two knows of %+v", got)
		}
		if err := three.close(); err != nil {
			t.Error(err)
		}
		time.Sleep(absentAfter + presentEvery)
		synctest.Wait()
		if got := one.list(); len(got) != 1 || got[0].Advertise != "http://two" {
			t.Errorf("one knows of %+v", got)
		}
		// What else is said is none of it.
		stranger := p.Member()
		stranger.Mention(context.Background(), "use/a", presentKey+"{", presentKey+strings.Repeat(" ", longestPresent)+"{}", "r/a/_t/b")
		if got := one.list(); !slices.EqualFunc(got, one.list(), func(a, b view.Peer) bool { return a == b }) || len(got) != 1 {
			t.Errorf("one knows of %+v", got)
		}
		for _, p := range []*presence{one, two} {
			if err := p.close(); err != nil {
				t.Error(err)
			}
		}
	})
}
