package lifetime_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// One process evicts what it knows to be mirrored only; another one's client has pushed it
// meanwhile, or does so between that and the next collection. It stays. What nobody pushed
// goes with the next collection.
func TestEvictBesideReplica(t *testing.T) {
	twoReplicas(t, func(r *rig) {
		t := r.t
		evicting := open(t, r.blobs, r.records, false)
		fill := func(b []byte) {
			t.Helper()
			if err := uploadBlob(t.Context(), evicting.Mirrored(), repo(t, "hub"), b); err != nil {
				t.Fatal(err)
			}
		}
		pushed, later, lone := []byte("pushed"), []byte("pushed later"), []byte("mirrored only")
		for _, b := range [][]byte{pushed, later, lone} {
			fill(b)
		}
		for _, err := range evicting.Evictable(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
		}
		d := r.blob("a", pushed)
		for _, b := range [][]byte{pushed, later, lone} {
			if err := evicting.Evict(t.Context(), digestOf(b)); err != nil {
				t.Errorf("evict %q: %v", b, err)
			}
		}
		r.blob("a", later)
		r.full()
		for _, b := range [][]byte{pushed, later} {
			if err := oracletest.ReadBlob(t.Context(), r.next(), repo(t, "a"), digestOf(b)); err != nil {
				t.Errorf("%q: %v", b, err)
			}
		}
		if !r.head("a", d) || r.stored(digestOf(lone)) {
			t.Error("what was evicted is there, or what was pushed is not")
		}
	})
}

// Two processes have a Redis each. What a client has pushed at one of them is not evicted by
// the other one, who was not told that it is there; nor is it when there is one Redis again,
// and what nobody pushed is (trust G-5).
func TestEvictWithTwoMasters(t *testing.T) {
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	member := func(server *coordtest.Server) (*local.Registry, *coord.Redis) {
		r := overRedis(t, server, records, time.Minute)
		t.Cleanup(func() { _ = r.Close() })
		reg, err := local.New(blobs, coord.Announce(records, r, func(key string) bool { return strings.HasPrefix(key, "r/") }), local.Options{Delete: true, Grace: grace, Others: r})
		if err != nil {
			t.Fatal(err)
		}
		return reg, r
	}
	pushed, lone := []byte("pushed"), []byte("mirrored only")
	evicting, redis := member(coordtest.Start(t))
	coordtest.Eventually(t, "it is told what others write", redis.Current)
	for _, b := range [][]byte{pushed, lone} {
		if err := uploadBlob(t.Context(), evicting.Mirrored(), repo(t, "hub"), b); err != nil {
			t.Fatal(err)
		}
	}
	listed := func() {
		t.Helper()
		for _, err := range evicting.Evictable(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	listed()
	second := coordtest.Start(t)
	other, _ := member(second)
	if err := uploadBlob(t.Context(), other, repo(t, "a"), pushed); err != nil {
		t.Fatal(err)
	}
	there := func() {
		t.Helper()
		if err := oracletest.ReadBlob(t.Context(), open(t, blobs, records, false), repo(t, "a"), digestOf(pushed)); err != nil {
			t.Errorf("what a client has pushed: %v", err)
		}
	}
	if err := evicting.Evict(t.Context(), digestOf(pushed)); err != nil && !errors.Is(err, origin.ErrPushed) && !errors.Is(err, origin.ErrBusy) {
		t.Errorf("evict: %v", err)
	}
	there()
	second.Stop()
	for _, c := range []struct {
		blob []byte
		want error
	}{{pushed, origin.ErrPushed}, {lone, nil}} {
		coordtest.Eventually(t, "it is evicted, or must not be", func() bool {
			listed() // anything may have been written meanwhile
			err := evicting.Evict(t.Context(), digestOf(c.blob))
			if !errors.Is(err, origin.ErrBusy) && !errors.Is(err, c.want) {
				t.Errorf("evict %q: %v", c.blob, err)
			}
			return !errors.Is(err, origin.ErrBusy)
		})
	}
	there()
}
