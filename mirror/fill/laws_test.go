package fill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const mib = 1 << 20

// Law 1: one writer. Fifty ask at once, and one more when half has come; the
// upstream is asked once and gives each byte once.
func TestFillOneWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(mib + 123)).known()
		u.pause = time.Millisecond
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
		var all sync.WaitGroup
		ask := func(i int) {
			got, err := r.get(t.Context(), u, store.Range{}, i%2 == 0)
			if err != nil || !bytes.Equal(got, u.data) {
				t.Errorf("reader %d: %d bytes, %v", i, len(got), err)
			}
		}
		for i := range 50 {
			all.Go(func() { ask(i) })
		}
		all.Go(func() { time.Sleep(8 * time.Millisecond); ask(50) })
		all.Wait()
		r.done(u)
		if want := []string{"0-1"}; !slices.Equal(u.asks(), want) || u.given != int64(len(u.data)) {
			t.Errorf("upstream was asked %v and gave %d bytes", u.asks(), u.given)
		}
		if r.count() != 1 || !bytes.Equal(r.kept[0], u.data) {
			t.Errorf("kept %d times", r.count())
		}
	})
}

// Law 1: between a reader's look into the store, which missed, and its Join, the
// fill that was running may end. The source looks again, and its word reaches the
// reader.
func TestFillOneWriterLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		stored := func(context.Context, int64, int64) (Stream, error) { return Stream{}, ErrStored }
		f, first, err := r.Join(t.Context(), key(nil), -1, stored, r.keep)
		if err != nil || !first {
			t.Fatal(first, err)
		}
		if _, err := f.Follow(t.Context(), store.Range{}); !errors.Is(err, ErrStored) {
			t.Errorf("follow: %v", err)
		}
		r.done()
		if r.count() != 0 {
			t.Error("kept what was stored")
		}
	})
}

// Law 2: a follower that takes a second for each MiB delays nobody, and one that
// comes when most is there starts at byte 0 at once.
func TestFillOwnPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(8 * mib))
		u.pause = time.Millisecond // 128 reads
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		begin := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			b, err := r.follow(t.Context(), u, store.Range{})
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Body.Close()
			var got bytes.Buffer
			for {
				n, err := io.CopyN(&got, b.Body, mib)
				if err == io.EOF && n == 0 {
					break
				}
				time.Sleep(time.Second)
			}
			if !bytes.Equal(got.Bytes(), u.data) {
				t.Error("the slow reader got other bytes")
			}
		})
		for i := range 10 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				joined := time.Now()
				b, err := r.follow(t.Context(), u, store.Range{})
				if err != nil {
					t.Error(err)
					return
				}
				defer b.Body.Close()
				if _, err := io.ReadFull(b.Body, make([]byte, 1)); err != nil || time.Since(joined) > 5*time.Millisecond {
					t.Errorf("reader %d had its first byte after %v, %v", i, time.Since(joined), err)
				}
				if n, err := io.Copy(io.Discard, b.Body); n != 8*mib-1 || err != nil {
					t.Errorf("reader %d: %d bytes, %v", i, n, err)
				}
				if took := time.Since(begin); took > 200*time.Millisecond {
					t.Errorf("reader %d was done after %v", i, took)
				}
			})
		}
		all.Wait()
		r.done(u)
	})
}

// Law 2: who wants a range far ahead does not wait for all before it, and the
// bytes it brought in are not fetched again. Who wants one near waits for it.
func TestFillRangeAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(16 * mib)).known()
		u.pause = time.Millisecond // 256 reads in order
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4, PartSize: mib}})
		var all sync.WaitGroup
		all.Go(func() {
			if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
				t.Errorf("whole: %d bytes, %v", len(got), err)
			}
		})
		for _, x := range []struct {
			rng    store.Range
			within time.Duration
		}{
			{store.Range{Off: 12 * mib, Len: mib}, 40 * time.Millisecond},
			{store.Range{Off: mib / 2, Len: mib}, 40 * time.Millisecond},
			{store.Range{Off: 7 * mib, Len: 1}, 40 * time.Millisecond},
		} {
			all.Go(func() {
				time.Sleep(2 * time.Millisecond)
				joined := time.Now()
				got, err := r.get(t.Context(), u, x.rng, true)
				if err != nil || !bytes.Equal(got, u.data[x.rng.Off:x.rng.Off+x.rng.Len]) {
					t.Errorf("range %v: %d bytes, %v", x.rng, len(got), err)
				}
				if took := time.Since(joined); took > x.within {
					t.Errorf("range %v took %v", x.rng, took)
				}
			})
		}
		all.Wait()
		r.done(u)
		if u.given != int64(len(u.data)) {
			t.Errorf("the upstream gave %d bytes of %d", u.given, len(u.data))
		}
		if r.count() != 1 || !bytes.Equal(r.kept[0], u.data) {
			t.Error("what was kept is not the blob")
		}
	})
}

// Law 2: who wants a range far ahead does not wait for one of those that are coming,
// however long they take; the upstream gives one stream more for it, and no more.
func TestFillRangeBesideStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(32 * mib)).known()
		u.pause = time.Second // a range of 8 MiB takes two minutes
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 2}})
		var all sync.WaitGroup
		all.Go(func() {
			if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, u.data) {
				t.Errorf("whole: %d bytes, %v", len(got), err)
			}
		})
		for i, off := range []int64{24 * mib, 28 * mib} {
			all.Go(func() {
				time.Sleep(time.Duration(10+i) * time.Second)
				joined := time.Now()
				got, err := r.get(t.Context(), u, store.Range{Off: off, Len: 64 << 10}, false)
				if err != nil || !bytes.Equal(got, u.data[off:off+64<<10]) {
					t.Errorf("range at %d: %d bytes, %v", off, len(got), err)
				}
				// The second one lies in the range that the first one has fetched.
				if took := time.Since(joined); off == 24*mib && took > time.Second {
					t.Errorf("range at %d took %v", off, took)
				}
			})
		}
		all.Wait()
		r.done(u)
		if u.given != int64(len(u.data)) || u.most != 3 {
			t.Errorf("the upstream gave %d bytes of %d, over %d streams at a time", u.given, len(u.data), u.most)
		}
	})
}

// Law 2: more ranges than may be fetched at a time wait for a worker that is done.
func TestFillRangesBeyondStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(20 * mib))
		u.pause = time.Millisecond
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 2}})
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				time.Sleep(time.Millisecond)
				rng := store.Range{Off: int64(i) * 2 * mib, Len: 2 * mib}
				got, err := r.get(t.Context(), u, rng, i%2 == 0)
				if err != nil || !bytes.Equal(got, u.data[rng.Off:rng.Off+rng.Len]) {
					t.Errorf("range %v: %d bytes, %v", rng, len(got), err)
				}
			})
		}
		all.Wait()
		r.done(u)
		if u.given != int64(len(u.data)) {
			t.Errorf("the upstream gave %d bytes of %d", u.given, len(u.data))
		}
	})
}

// Law 3: the first client leaves after its first byte; the second goes on, and when
// nobody is left the fill still ends by itself.
func TestFillLeaver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(4 * mib))
		u.pause = time.Millisecond
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		first, err := r.follow(t.Context(), u, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		second, err := r.follow(ctx, u, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(first.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := first.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(second.Body, make([]byte, mib)); err != nil {
			t.Fatal(err)
		}
		leave(gone) // while it waits for more
		if _, err := io.Copy(io.Discard, second.Body); !errors.Is(err, gone) {
			t.Errorf("the leaver was told %v", err)
		}
		_ = second.Body.Close()
		r.done(u)
		if r.count() != 1 || u.given != int64(len(u.data)) {
			t.Errorf("kept %d times, the upstream gave %d bytes", r.count(), u.given)
		}
	})
}

// Law 3, with a linger: it goes on for that long without readers. Who comes in time
// finds it running; after it, nothing is left.
func TestFillLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(4 * mib)).known() // takes a minute
		u.pause = time.Second
		r := newRig(t, Options{Limits: Limits{Linger: 10 * time.Second}})
		peek := func() {
			b, err := r.follow(t.Context(), u, store.Range{})
			if err != nil {
				t.Fatal(err)
			}
			_ = b.Body.Close()
		}
		peek()
		time.Sleep(9 * time.Second)
		peek()
		time.Sleep(9 * time.Second)
		if n := len(r.Running()); n != 1 || len(u.asks()) != 1 {
			t.Errorf("after 18 s: %d running, asked %v", n, u.asks())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(r.Running()); n != 0 {
			t.Errorf("after 20 s: %d running", n)
		}
		r.done(u)
		if r.count() != 0 {
			t.Error("half a blob was kept")
		}
	})
}

// Laws 1 and 3: the linger of a blob that has come, and is being stored, ends nothing. Who
// comes then reads it, and fetches nothing; who deletes it waits until it can be found.
func TestFillLingerWhileStoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(1000)).known()
		r := newRig(t, Options{})
		slow := func(ctx context.Context, f *os.File, size int64) error {
			time.Sleep(time.Minute)
			return r.keep(ctx, f, size)
		}
		f, _, err := r.Join(t.Context(), key(u.data), u.told, u.source, slow)
		must(t, err)
		b, err := f.Follow(t.Context(), store.Range{})
		must(t, err)
		if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		must(t, b.Body.Close())
		time.Sleep(time.Second)
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) || len(u.asks()) != 1 {
			t.Errorf("the next one: %d bytes, %v, asked %v", len(got), err, u.asks())
		}
		time.Sleep(time.Second)
		if err := r.Drop(t.Context(), key(u.data)); err != nil || r.count() != 1 {
			t.Errorf("dropped: %v, %d kept", err, r.count())
		}
		r.done(u)
		if r.count() != 1 {
			t.Errorf("kept %d times", r.count())
		}
	})
}

// Law 5, without a linger: who waited for an answer that did not come leaves, and who comes
// just after it is told the same, and asks nobody.
func TestFillFailureIsSharedWithoutLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		asked := 0
		no := &origin.UpstreamError{Endpoint: "up.test", Status: 404, Err: origin.ErrBlobUnknown}
		for range 3 {
			f, _, err := r.Join(t.Context(), key(nil), -1, func(context.Context, int64, int64) (Stream, error) {
				asked++
				return Stream{}, no
			}, r.keep)
			must(t, err)
			if _, err := f.Follow(t.Context(), store.Range{}); err != no {
				t.Errorf("told %v", err)
			}
			time.Sleep(hold / 4)
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		r.done()
	})
}

// Law 4: whatever is wrong with what an upstream sends, no reader gets to the end of
// a blob, nothing is kept, and the next try is a new one.
func TestFillVerdict(t *testing.T) {
	const size = 300 << 10
	good := content(size)
	flip := func(i int) []byte { b := slices.Clone(good); b[i] ^= 1; return b }
	for name, bad := range map[string][]byte{
		"first byte": flip(0), "middle byte": flip(size / 2), "last byte": flip(size - 1),
		"empty": {}, "one byte": good[:1], "half": good[:size/2], "all but one": good[:size-1],
		"one more": append(slices.Clone(good), 0), "html": []byte("<html>welcome</html>"),
	} {
		for _, says := range []struct {
			name string
			size int64
		}{{"true size", int64(len(bad))}, {"no size", -1}, {"wanted size", size}} {
			if name == "one more" && says.size == size {
				continue // what is more than it says is not read, and the rest is good
			}
			for _, rng := range []store.Range{{}, {Off: 10}, {Off: size - 100}, {Off: -5}} {
				t.Run(fmt.Sprintf("%s, %s, from %d", name, says.name, rng.Off), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						u := newUpstream(bad)
						u.size = says.size
						r := newRig(t, Options{Limits: Limits{Linger: Complete}})
						k := key(good)
						f, _, err := r.Join(t.Context(), k, -1, u.source, r.keep)
						if err != nil {
							t.Fatal(err)
						}
						b, err := f.Follow(t.Context(), rng)
						if err == nil {
							var n int64
							n, err = io.Copy(io.Discard, b.Body)
							if b.Length >= 0 && n >= b.Length {
								t.Errorf("a reader got all %d bytes of a bad blob", n)
							}
							_ = b.Body.Close()
						}
						if err == nil {
							t.Error("a bad blob ended well")
						}
						synctest.Wait()
						again, first, err := r.Join(t.Context(), k, -1, newUpstream(good).source, r.keep)
						if err != nil || !first {
							t.Fatalf("the next try: first %v, %v", first, err)
						}
						whole, err := again.Follow(t.Context(), store.Range{})
						if err != nil {
							t.Fatal(err)
						}
						if got, err := io.ReadAll(whole.Body); err != nil || digest.FromBytes(got) != k.Digest {
							t.Errorf("the next try: %d bytes, %v", len(got), err)
						}
						_ = whole.Body.Close()
						r.done(u)
						if r.count() != 1 {
							t.Errorf("kept %d times", r.count())
						}
					})
				})
			}
		}
	}
}

// Law 4: until the verdict, no reader sees the last bytes.
func TestFillWithholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(mib))
		release := make(chan struct{})
		u.fault = func(off int64) error {
			if off == mib { // all has come but the end of it
				<-release
			}
			return nil
		}
		u.size = -1
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		b, err := r.follow(t.Context(), u, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Body.Close()
		var got bytes.Buffer
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(&got, b.Body) })
		synctest.Wait()
		if got.Len() != mib-Withheld {
			t.Errorf("%d bytes are visible before the verdict", got.Len())
		}
		close(release)
		reading.Wait()
		if !bytes.Equal(got.Bytes(), u.data) {
			t.Errorf("after it, %d bytes", got.Len())
		}
	})
}

// Law 5: fifty wait for an upstream that says no. All are told the same, by one
// request; the failure is forgotten a moment later.
func TestFillFailureIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		no := &origin.UpstreamError{Endpoint: "up.test", Status: 404, Err: origin.ErrBlobUnknown}
		asked := 0
		src := func(context.Context, int64, int64) (Stream, error) {
			asked++
			time.Sleep(50 * time.Millisecond)
			return Stream{}, no
		}
		try := func() {
			f, _, err := r.Join(t.Context(), key(nil), -1, src, r.keep)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := f.Follow(t.Context(), store.Range{}); err != no {
				t.Errorf("told %v", err)
			}
		}
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { time.Sleep(time.Duration(i) * time.Millisecond); try() })
		}
		all.Wait()
		try() // just after it
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(time.Second)
		try()
		if asked != 2 {
			t.Errorf("after the hold, asked %d times", asked)
		}
		r.done()
	})
}
