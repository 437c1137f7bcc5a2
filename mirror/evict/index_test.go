package evict

import (
	"math/rand/v2"
	"testing"
)

// The index finds what a map finds, whatever comes and goes.
func TestIndex(t *testing.T) {
	var blobs slab[blob]
	x, want := newIndex(&blobs), map[key]uint32{}
	random := rand.New(rand.NewPCG(1, 2))
	agree := func(k key) {
		t.Helper()
		if i, ok := x.find(k); i != want[k] || ok != (want[k] != 0) {
			t.Fatalf("%x is %d, %v, want %d", k[:2], i, ok, want[k])
		}
	}
	for range 200_000 {
		k := key{byte(random.Uint32()), byte(random.Uint32() % 64)} // 16,384 of them
		agree(k)
		if i, ok := want[k]; ok {
			x.remove(k)
			blobs.drop(i)
			delete(want, k)
		} else {
			i := blobs.take()
			blobs.at(i).key = k
			x.insert(i)
			want[k] = i
		}
		agree(k)
	}
	for a := range 256 {
		for b := range 64 {
			agree(key{byte(a), byte(b)})
		}
	}
}
