package lifetime_test

import (
	"testing"

	"github.com/weir-registry/weir/origin/oracletest"
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
