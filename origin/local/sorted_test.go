package local

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A sorted list says what a map with sorted keys would say.
func TestSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sorted[int]
		model := map[string]int{}
		keys := rapid.StringMatching(`[a-c]{0,3}`)
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				k, v := keys.Draw(t, "key"), rapid.Int().Draw(t, "value")
				old, replaced := s.set(item[int]{key: k, value: v})
				if was, ok := model[k]; ok != replaced || old.value != was {
					t.Fatalf("set %q: replaced %v (%v), the model has %v (%v)", k, old.value, replaced, was, ok)
				}
				model[k] = v
			},
			"remove": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				old, removed := s.remove(k)
				if was, ok := model[k]; ok != removed || old.value != was {
					t.Fatalf("remove %q: %v (%v), the model has %v (%v)", k, old.value, removed, was, ok)
				}
				delete(model, k)
			},
			"": func(t *rapid.T) {
				after := keys.Draw(t, "after")
				var got, want []string
				for it := range s.after(after) {
					if it.value != model[it.key] {
						t.Fatalf("%q has %d, the model %d", it.key, it.value, model[it.key])
					}
					got = append(got, it.key)
				}
				for _, k := range slices.Sorted(maps.Keys(model)) {
					if k > after {
						want = append(want, k)
					}
				}
				if !slices.Equal(got, want) || s.n != len(model) {
					t.Fatalf("after %q: %q of %d, want %q of %d", after, got, s.n, want, len(model))
				}
			},
		})
	})
}

// Chunks split and go, in whatever order keys come.
func TestSortedChunks(t *testing.T) {
	const n = 10 * chunkSize
	orders := map[string]func(i int) int{
		"up":    func(i int) int { return i },
		"down":  func(i int) int { return n - 1 - i },
		"mixed": func(i int) int { return i * 7919 % n },
	}
	for name, at := range orders {
		var s sorted[struct{}]
		for i := range n {
			s.set(item[struct{}]{key: fmt.Sprintf("%06d", at(i))})
		}
		for i, c := range s.chunks {
			if len(c) == 0 || len(c) >= 2*chunkSize {
				t.Errorf("%s: chunk %d has %d items", name, i, len(c))
			}
		}
		for from := 0; from < n; from += chunkSize / 3 {
			next := from + 1
			for it := range s.after(fmt.Sprintf("%06d", from)) {
				if it.key != fmt.Sprintf("%06d", next) {
					t.Fatalf("%s: %s after %d, want %d", name, it.key, from, next)
				}
				next++
			}
			if next != n {
				t.Fatalf("%s: %d items after %d", name, next-from-1, from)
			}
		}
		for i := range n {
			if _, ok := s.remove(fmt.Sprintf("%06d", at(i))); !ok {
				t.Fatalf("%s: %d is not there", name, at(i))
			}
		}
		if s.n != 0 || len(s.chunks) != 0 {
			t.Errorf("%s: %d items in %d chunks are left", name, s.n, len(s.chunks))
		}
	}
}
