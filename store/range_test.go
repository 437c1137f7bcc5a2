package store_test

import (
	"errors"
	"math"
	"testing"

	"github.com/weir-registry/weir/store"
)

func TestRangeResolve(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      store.Range
		size   int64
		off, n int64
		err    error
	}{
		{"whole", store.Range{}, 100, 0, 100, nil},
		{"whole of nothing", store.Range{}, 0, 0, 0, nil},
		{"first byte", store.Range{Off: 0, Len: 1}, 100, 0, 1, nil},
		{"middle", store.Range{Off: 10, Len: 20}, 100, 10, 20, nil},
		{"to the end", store.Range{Off: 10}, 100, 10, 90, nil},
		{"last byte", store.Range{Off: 99, Len: 1}, 100, 99, 1, nil},
		{"shortened", store.Range{Off: 90, Len: 20}, 100, 90, 10, nil},
		{"shortened to the whole", store.Range{Off: 0, Len: 101}, 100, 0, 100, nil},
		{"length beyond all numbers", store.Range{Off: 1, Len: math.MaxInt64}, 100, 1, 99, nil},
		{"suffix", store.Range{Off: -30}, 100, 70, 30, nil},
		{"suffix of the size", store.Range{Off: -100}, 100, 0, 100, nil},
		{"suffix longer than the blob", store.Range{Off: -101}, 100, 0, 100, nil},
		{"suffix beyond all numbers", store.Range{Off: math.MinInt64}, 100, 0, 100, nil},
		{"part of a suffix", store.Range{Off: -30, Len: 10}, 100, 70, 10, nil},
		{"at the end", store.Range{Off: 100}, 100, 0, 0, store.ErrRange},
		{"at the end, with a length", store.Range{Off: 100, Len: 1}, 100, 0, 0, store.ErrRange},
		{"far behind the end", store.Range{Off: math.MaxInt64, Len: math.MaxInt64}, 100, 0, 0, store.ErrRange},
		{"of nothing", store.Range{Off: 0, Len: 1}, 0, 0, 0, store.ErrRange},
		{"suffix of nothing", store.Range{Off: -1}, 0, 0, 0, store.ErrRange},
		{"negative length", store.Range{Off: 0, Len: -1}, 100, 0, 0, store.ErrRange},
	} {
		t.Run(c.name, func(t *testing.T) {
			off, n, err := c.r.Resolve(c.size)
			if off != c.off || n != c.n || !errors.Is(err, c.err) {
				t.Errorf("Resolve(%d) = %d, %d, %v; want %d, %d, %v", c.size, off, n, err, c.off, c.n, c.err)
			}
		})
	}
}

func TestRangeWhole(t *testing.T) {
	for r, want := range map[store.Range]bool{
		{}:       true,
		{Off: 1}: false, {Off: -1}: false, {Len: 1}: false,
	} {
		if r.Whole() != want {
			t.Errorf("%+v: Whole = %v, want %v", r, r.Whole(), want)
		}
	}
}

// Whatever the range, what is resolved lies inside the blob and is not empty.
func FuzzRangeResolve(f *testing.F) {
	f.Add(int64(0), int64(0), int64(100))
	f.Add(int64(-5), int64(0), int64(100))
	f.Add(int64(99), int64(1<<62), int64(100))
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, off, length, size int64) {
		if size < 0 {
			return
		}
		r := store.Range{Off: off, Len: length}
		at, n, err := r.Resolve(size)
		switch {
		case err != nil:
			if !errors.Is(err, store.ErrRange) || at != 0 || n != 0 {
				t.Errorf("%+v of %d: %d, %d, %v", r, size, at, n, err)
			}
		case at < 0 || n < 0 || at > size-n || n == 0 && size > 0:
			t.Errorf("%+v of %d: %d bytes at %d", r, size, n, at)
		case length > 0 && n > length:
			t.Errorf("%+v of %d: %d bytes", r, size, n)
		}
	})
}
