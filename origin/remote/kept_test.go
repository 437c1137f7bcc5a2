package remote

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

func TestPlacesLapseAndAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces()
		at := func(i int) *url.URL { return &url.URL{Scheme: "https", Host: fmt.Sprint("h", i)} }
		key := func(i int) placeKey { return placeKey{"x", digest.FromString(fmt.Sprint(i))} }
		first := at(0)
		p.keep(key(0), first)
		time.Sleep(placeLife - time.Nanosecond)
		if p.find(key(0)) != first {
			t.Error("it is gone early")
		}
		time.Sleep(time.Nanosecond)
		if p.find(key(0)) != nil {
			t.Error("it is there after its time")
		}
		second := at(0)
		p.keep(key(0), second)
		if p.drop(key(0), first); p.find(key(0)) != second {
			t.Error("the failure of one drops the next one")
		}
		if p.drop(key(0), second); p.find(key(0)) != nil {
			t.Error("it is not dropped")
		}
		for i := range maxPlaces + 10 {
			p.keep(key(i), at(i))
			p.keep(key(i), at(i)) // takes no other's place
			time.Sleep(time.Millisecond)
		}
		if len(p.kept) != maxPlaces {
			t.Errorf("%d are kept", len(p.kept))
		}
		for i, want := range map[int]bool{9: false, 10: true, maxPlaces + 9: true} {
			if got := p.find(key(i)) != nil; got != want {
				t.Errorf("%d is kept: %t", i, got)
			}
		}
	})
}

// An address that was let through once is looked at again whenever it is dialled:
// its name may stand for another one by then.
func TestPlaceIsGuardedAgain(t *testing.T) {
	u, canary := remotetest.New(t), remotetest.New(t)
	d := u.AddBlob("x", []byte("0123456789")).Digest
	canary.AddBlob("x", []byte("0123456789"))
	u.Fault("/blobs/", remotetest.Redirect("http://localhost:"+canary.URL().Port()+"/v2/x/blobs/"+d.String()))
	var moved atomic.Bool
	r, err := New(Options{URL: u.URL(), Network: egress.Network{Classify: func(a netip.Addr) egress.Reach {
		if moved.Load() {
			return egress.Never
		}
		return egress.ReachOf(a)
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x := parsed(t, "x")
	for off := range int64(2) {
		b, err := r.Stretch(t.Context(), x, d, store.Range{Off: off, Len: 1})
		if err != nil {
			t.Fatal(err)
		}
		b.Body.Close()
	}
	if n := len(canary.Take()); n != 2 {
		t.Fatalf("%d requests at the address: it proves nothing", n)
	}
	moved.Store(true)
	r.Close()
	if _, err := r.Stretch(t.Context(), x, d, store.Range{Off: 2, Len: 1}); !errors.Is(err, egress.ErrAddress) {
		t.Error(err)
	}
	if lines := canary.Take(); lines != nil {
		t.Errorf("asked for %q", lines)
	}
}
