package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Law 7: a long blob comes in ranges, as many at a time as may, and no byte twice;
// one that is not long comes in one piece.
func TestFillParallelRanges(t *testing.T) {
	for _, x := range []struct {
		name     string
		size     int
		told     bool
		streams  int
		part     int64
		want     []string // sorted
		together int      // streams at a time
	}{
		{"in one piece", 2 * mib, true, 4, 0, []string{"0-1"}, 1},
		{"as many as may", 16 * mib, true, 4, 0, []string{"0+4194304", "12582912+4194304", "4194304+4194304", "8388608+4194304"}, 4},
		{"none larger than that", 20 * mib, true, 2, 5 * mib, []string{"0+5242880", "10485760+5242880", "15728640+5242880", "5242880+5242880"}, 2},
		{"none smaller than 1 MiB", 3 * mib, true, 8, 0, []string{"0+1048576", "1048576+1048576", "2097152+1048576"}, 3},
		{"an odd size", 5*mib + 1, true, 4, 0, []string{"0+1376256", "1376256+1376256", "2752512+1376256", "4128768+1114113"}, 4},
		{"nobody said how long", 9 * mib, false, 4, 0, []string{"0+1048576", "1048576+2359296", "3407872+2359296", "5767168+2359296", "8126464+1310720"}, 4},
		{"one at a time", 20 * mib, true, 1, 0, []string{"0+8388608", "16777216+4194304", "8388608+8388608"}, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(content(x.size))
				if x.told {
					u.known()
				}
				u.pause = time.Millisecond
				r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: x.streams, PartSize: x.part}})
				var all sync.WaitGroup
				for i := range 2 {
					all.Go(func() {
						if got, err := r.get(t.Context(), u, store.Range{}, i == 0); err != nil || !bytes.Equal(got, u.data) {
							t.Errorf("%d bytes, %v", len(got), err)
						}
					})
				}
				all.Wait()
				r.done(u)
				if got := slices.Sorted(slices.Values(u.asks())); !slices.Equal(got, x.want) {
					t.Errorf("asked %v", got)
				}
				if u.given != int64(x.size) || u.most != x.together {
					t.Errorf("the upstream gave %d bytes over %d streams at a time", u.given, u.most)
				}
				if r.count() != 1 || !bytes.Equal(r.kept[0], u.data) {
					t.Errorf("kept %d times", r.count())
				}
			})
		})
	}
}

// Law 7: an upstream without ranges, and one that does not say how long the blob is,
// is taken as it is: one request, no byte twice.
func TestFillWithoutRanges(t *testing.T) {
	for _, size := range []int64{-1, 5 * mib} {
		for _, told := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(content(5 * mib))
				if told {
					u.known()
				}
				u.plain, u.size = true, size
				u.pause = time.Millisecond
				r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
				var all sync.WaitGroup
				for i := range 4 {
					all.Go(func() {
						rng := store.Range{Off: int64(i) * mib}
						if got, err := r.get(t.Context(), u, rng, false); err != nil || !bytes.Equal(got, u.data[rng.Off:]) {
							t.Errorf("from %d: %d bytes, %v", rng.Off, len(got), err)
						}
					})
				}
				all.Wait()
				r.done(u)
				if u.given != 5*mib || len(u.asks()) != 1 {
					t.Errorf("size %d, told %v: the upstream gave %d bytes for %v", size, told, u.given, u.asks())
				}
			})
		}
	}
}

// Law 7: what an upstream without ranges broke off is read over when it comes again.
func TestFillWithoutRangesResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(9 * mib)).known()
		u.plain = true
		cut := false
		u.fault = func(off int64) error {
			if off == 5*mib && !cut {
				cut = true
				return context.DeadlineExceeded
			}
			return nil
		}
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.done(u)
		if len(u.asks()) != 2 || u.given != 14*mib {
			t.Errorf("asked %v, got %d", u.asks(), u.given)
		}
	})
}

// Law 7: an upstream that refuses to give as many streams at a time is asked for
// fewer, and the blob comes.
func TestFillFewerStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(8 * mib)).known()
		u.pause = time.Millisecond
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 8, PartSize: mib}})
		var asking sync.Mutex // one at a time
		refused := 0
		src := func(ctx context.Context, off, n int64) (Stream, error) {
			asking.Lock()
			defer asking.Unlock()
			u.mu.Lock()
			full := u.open >= 3
			u.mu.Unlock()
			if full {
				refused++
				return Stream{}, &origin.UpstreamError{Endpoint: "up.test", Status: 429, Err: origin.ErrUnavailable}
			}
			return u.source(ctx, off, n)
		}
		f, _, err := r.Join(t.Context(), key(u.data), u.told, src, r.keep)
		must(t, err)
		b, err := f.Follow(t.Context(), store.Range{})
		must(t, err)
		var got bytes.Buffer
		if _, err := got.ReadFrom(b.Body); err != nil || !bytes.Equal(got.Bytes(), u.data) {
			t.Errorf("%d bytes, %v", got.Len(), err)
		}
		must(t, b.Body.Close())
		r.done(u)
		if u.given != 8*mib || u.most != 3 || refused == 0 || refused > 5 {
			t.Errorf("the upstream gave %d bytes, %d streams at a time, refused %d", u.given, u.most, refused)
		}
	})
}

// Law 7: answers that make no sense end the fill cleanly, and nothing is kept.
func TestFillLyingRanges(t *testing.T) {
	data := content(9 * mib)
	for name, lie := range map[string]func(off, n int64, s *Stream){
		"another offset": func(off, _ int64, s *Stream) {
			if off > 0 {
				s.Offset = off + 1
			}
		},
		"another size": func(off, _ int64, s *Stream) {
			if off > 0 {
				s.Size++
			}
		},
		"another blob's part": func(off, _ int64, s *Stream) {
			if off > 0 {
				s.ReadCloser.(*stream).off = 0
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(data).known()
				r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
				src := func(ctx context.Context, off, n int64) (Stream, error) {
					s, err := u.source(ctx, off, n)
					if err == nil {
						lie(off, n, &s)
					}
					return s, err
				}
				f, _, err := r.Join(t.Context(), key(data), u.told, src, r.keep)
				must(t, err)
				b, err := f.Follow(t.Context(), store.Range{})
				if err == nil {
					var got bytes.Buffer
					_, err = got.ReadFrom(b.Body)
					if got.Len() == len(data) {
						t.Error("all bytes were given")
					}
					_ = b.Body.Close()
				}
				if err == nil {
					t.Error("it ended well")
				}
				r.done(u)
				if r.count() != 0 {
					t.Error("it was kept")
				}
			})
		})
	}
}

// A range without a total says too little: all is asked for, once.
func TestFillRangeWithoutTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(3 * mib))
		u.size = -1
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.done(u)
		if want := []string{"0+1048576", "0-1"}; !slices.Equal(u.asks(), want) || u.given != 3*mib {
			t.Errorf("asked %v, got %d bytes", u.asks(), u.given)
		}
	})
}

// Parts without a total, of a blob whose size is known, are taken for what they are: the
// first one, and what comes after a break. Where it is not known nothing is asked for again
// that was answered so.
func TestFillPartsWithoutTotal(t *testing.T) {
	for _, x := range []struct {
		name    string
		told    bool
		streams int
		want    []string // sorted
	}{
		{"in one piece", true, 1, []string{"0-1", "524288+2621440"}},
		{"in ranges", true, 4, []string{"0+1048576", "1048576+1048576", "2097152+1048576", "524288+524288"}},
		{"nobody said how long", false, 4, []string{"0+1048576", "0-1", "524288-1"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(content(3 * mib))
				u.size = -1
				if x.told {
					u.known()
				}
				cut := false
				u.fault = func(off int64) error {
					u.mu.Lock()
					defer u.mu.Unlock()
					if off == mib/2 && !cut {
						cut = true
						return io.ErrUnexpectedEOF
					}
					return nil
				}
				r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: x.streams}})
				got, err := r.get(t.Context(), u, store.Range{}, false)
				if x.told && (err != nil || !bytes.Equal(got, u.data)) || !x.told && !errors.Is(err, ErrCorrupt) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if asks := slices.Sorted(slices.Values(u.asks())); !slices.Equal(asks, x.want) {
					t.Errorf("asked %v", asks)
				}
				if x.told && u.given != 3*mib {
					t.Errorf("the upstream gave %d bytes", u.given)
				}
				r.done(u)
			})
		})
	}
}
