package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// An upstream that breaks off again and again without giving anything is given up.
func TestFillGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(mib))
		broken := errors.New("broken")
		u.fault = func(off int64) error {
			if off >= mib/2 {
				return broken
			}
			return nil
		}
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		if got, err := r.get(t.Context(), u, store.Range{}, false); !errors.Is(err, broken) || len(got) > mib/2 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.done(u)
		if n := len(u.asks()); n != 1+stuck-1 && n != 1+stuck {
			t.Errorf("asked %d times", n)
		}
	})
}

// Ranges of a blob whose size the upstream does not say, and ranges that are none.
func TestFillRanges(t *testing.T) {
	data := content(200 << 10)
	for _, x := range []struct {
		rng  store.Range
		want []byte
		err  error
	}{
		{store.Range{}, data, nil},
		{store.Range{Off: 100}, data[100:], nil},
		{store.Range{Off: 100, Len: 7}, data[100:107], nil},
		{store.Range{Off: -7}, data[len(data)-7:], nil},
		{store.Range{Off: 199 << 10, Len: mib}, data[199<<10:], nil},
		{store.Range{Off: 200 << 10}, nil, store.ErrRange},
	} {
		for _, size := range []int64{-1, int64(len(data))} {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(data)
				u.size = size
				r := newRig(t, Options{Limits: Limits{Linger: Complete}})
				got, err := r.get(t.Context(), u, x.rng, true)
				if !errors.Is(err, x.err) || !bytes.Equal(got, x.want) {
					t.Errorf("%v, size %d: %d bytes, %v", x.rng, size, len(got), err)
				}
				r.done(u)
			})
		}
	}
}

// An empty blob whose size a manifest told is asked for all the same: the upstream
// may say that it has it not.
func TestFillEmpty(t *testing.T) {
	no := errors.New("no")
	for _, refuse := range []error{nil, no} {
		synctest.Test(t, func(t *testing.T) {
			u := newUpstream(nil)
			r := newRig(t, Options{Limits: Limits{Linger: Complete}})
			src := func(ctx context.Context, off, n int64) (Stream, error) {
				time.Sleep(time.Second)
				s, err := u.source(ctx, off, n)
				return s, errors.Join(err, refuse)
			}
			f, _, err := r.Join(t.Context(), key(nil), 0, src, r.keep)
			if err != nil {
				t.Fatal(err)
			}
			b, err := f.Follow(t.Context(), store.Range{})
			if !errors.Is(err, refuse) || err == nil && refuse != nil {
				t.Errorf("told %v", err)
			}
			if err == nil {
				if got, err := io.ReadAll(b.Body); err != nil || len(got) != 0 {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				_ = b.Body.Close()
			}
			r.done()
			if len(u.asks()) != 1 {
				t.Errorf("asked %v", u.asks())
			}
		})
	}
}

// Large blobs take turns; who does not get one in time is told to come again. Small
// ones need none.
func TestFillTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		slow := newUpstream(content(2 * mib))
		slow.pause = time.Second // 33 s
		first, err := r.follow(t.Context(), slow, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		other := newUpstream(content(2*mib + 1))
		_, err = r.follow(t.Context(), other, store.Range{})
		var oe *origin.Error
		if !errors.As(err, &oe) || oe.HTTPStatus() != 503 || time.Since(begin) != maxWait {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		tiny := newUpstream(content(1000))
		f, _, err := r.Join(t.Context(), key(tiny.data), 1000, tiny.source, r.keep)
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.Follow(t.Context(), store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, tiny.data) || time.Since(begin) > maxWait+time.Second {
			t.Errorf("a small one: %d bytes, %v", len(got), err)
		}
		_ = b.Body.Close()
		if _, err := io.Copy(io.Discard, first.Body); err != nil {
			t.Error(err)
		}
		_ = first.Body.Close()
		synctest.Wait()
		if got, err := r.get(t.Context(), other, store.Range{}, false); err != nil || !bytes.Equal(got, other.data) {
			t.Errorf("when the turn is free: %d bytes, %v", len(got), err)
		}
		r.done(slow, other, tiny)
	})
}

// A group that closes waits for what runs; what does not end in time is cut, and
// readers see it cut.
func TestFillClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(2 * mib))
		u.pause = time.Second
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		b, err := r.follow(t.Context(), u, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		var reading sync.WaitGroup
		reading.Go(func() {
			if _, err := io.Copy(io.Discard, b.Body); !errors.Is(err, ErrClosed) {
				t.Errorf("the reader was told %v", err)
			}
			_ = b.Body.Close()
		})
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		if _, err := r.follow(t.Context(), u, store.Range{}); !errors.Is(err, ErrClosed) {
			t.Errorf("a late one was told %v", err)
		}
		reading.Wait()
		if r.count() != 0 {
			t.Error("half a blob was kept")
		}
	})
}

// Extents against the simplest thing that does the same.
func TestExtents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		var e extents
		var model [size]bool
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			from := rapid.Int64Range(0, size).Draw(t, "from")
			to := rapid.Int64Range(from, size).Draw(t, "to")
			e = e.add(span{from, to})
			for i := from; i < to; i++ {
				model[i] = true
			}
		}
		for i := range int64(size) {
			end := i
			for end < size && model[end] {
				end++
			}
			if got := e.end(i); got != end {
				t.Fatalf("%v: end(%d) = %d, want %d", e, i, got, end)
			}
		}
		for i := 1; i < len(e); i++ {
			if e[i-1].to >= e[i].from {
				t.Fatalf("%v: spans overlap or touch", e)
			}
		}
	})
}

// waits is a spool's file that is not read before a moment.
type waits struct {
	readWriter
	until <-chan struct{}
}

func (s waits) ReadAt(p []byte, off int64) (int, error) {
	<-s.until
	return s.readWriter.ReadAt(p, off)
}

// A turn is for what an upstream gives: a fill whose bytes have all come gives it back,
// however long it takes to hash them.
func TestFillTurnEndsWithItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		hash := make(chan struct{})
		first := newUpstream(content(2 * mib)).known()
		r.spools.seam = func(f readWriter) readWriter { return waits{f, hash} }
		one, _, err := r.Join(t.Context(), key(first.data), first.told, first.source, r.keep)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // all has landed, nothing is hashed
		if first.given != int64(len(first.data)) || r.count() != 0 {
			t.Fatalf("%d bytes have come, %d blobs are kept", first.given, r.count())
		}
		r.spools.seam = func(f readWriter) readWriter { return f }
		begin, second := time.Now(), newUpstream(content(2*mib+1)).known()
		got, err := r.get(t.Context(), second, store.Range{}, false)
		if err != nil || !bytes.Equal(got, second.data) || time.Since(begin) != 0 {
			t.Errorf("the next one: %d bytes after %v, %v", len(got), time.Since(begin), err)
		}
		close(hash)
		one.Leave()
		r.done(first, second)
		if r.count() != 2 {
			t.Errorf("%d blobs are kept", r.count())
		}
	})
}
