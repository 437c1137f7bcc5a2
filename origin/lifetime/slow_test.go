package lifetime_test

import (
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/origintest"
)

// A push may take longer than the grace: while bytes come, what it has pushed before
// stays. What was begun and given up goes (trust G-3).
func TestSlowPush(t *testing.T) {
	for name, with := range map[string]func(*testing.T, func(*rig)){"memory": inMemory, "two replicas": twoReplicas} {
		t.Run(name, func(t *testing.T) { with(t, slowPush) })
	}
}

func slowPush(r *rig) {
	t := r.t
	r.blob("a", one.Blobs[0].Bytes)
	r.blob("a", one.Blobs[1].Bytes)
	given := r.blob("b", []byte("given up"))
	last := one.Blobs[2]
	in, err := r.reg.Upload(t.Context(), repo(t, "a"), "", last.Digest.Algorithm())
	if err != nil {
		t.Fatal(err)
	}
	for i := range last.Bytes {
		time.Sleep(3 * grace / time.Duration(len(last.Bytes)))
		if _, err := in.Write(last.Bytes[i : i+1]); err != nil {
			t.Fatal(err)
		}
		r.full()
	}
	if _, err := in.Commit(t.Context(), last.Digest); err != nil {
		t.Fatal(err)
	}
	r.full()
	r.manifest("a", one)
	r.full()
	r.pull("a", one)
	if r.stored(given) {
		t.Error("what nobody goes on with is there")
	}
}

// Nor does a repository to which somebody always pushes keep all that was ever pushed.
func TestEndlessPushes(t *testing.T) {
	inMemory(t, func(r *rig) {
		lone := r.blob("a", []byte("lone"))
		for i := range 400 {
			r.age(grace / 20)
			r.push("a", origintest.Image([]byte("{}"), origintest.Bytes(uint64(i), 10)))
		}
		r.full()
		if r.stored(lone) {
			t.Error("what was pushed 20 times the grace ago, and is named by nothing, is there")
		}
	})
}
