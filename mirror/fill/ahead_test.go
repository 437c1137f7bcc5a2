package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// begin has a blob fetched ahead.
func (r *rig) begin(ctx context.Context, u *upstream) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- r.Ahead(ctx, key(u.data), int64(len(u.data)), u.source, r.keep) }()
	synctest.Wait()
	return ended
}

// A fill ahead gives its turn to whoever comes, at once, and goes on where it was when
// nobody waits: no byte is fetched twice.
func TestAheadYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		ahead := newUpstream(content(2 * mib)).known()
		ahead.pause = time.Second // 32 s
		ended := r.begin(t.Context(), ahead)
		time.Sleep(10*time.Second + time.Millisecond)
		begun := time.Now()
		for i := range 3 { // one after the other, and nothing of ahead in between
			client := newUpstream(content(2*mib + 1 + i)).known()
			client.pause = time.Millisecond
			if got, err := r.get(t.Context(), client, store.Range{}, false); err != nil || !bytes.Equal(got, client.data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("clients were held up: %v", d)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if ahead.given > int64(len(ahead.data))+64<<10 || len(ahead.asks()) < 2 {
			t.Errorf("%d bytes fetched of %d, in %v", ahead.given, len(ahead.data), ahead.asks())
		}
		if r.count() != 4 {
			t.Errorf("%d blobs are kept", r.count())
		}
		r.done(ahead)
	})
}

// Who waits for a turn has it before any fill ahead that waits too.
func TestAheadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		first, second := newUpstream(content(2*mib)).known(), newUpstream(content(2*mib+1)).known()
		first.pause, second.pause = 100*time.Millisecond, 100*time.Millisecond
		b, err := r.follow(t.Context(), first, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		ahead := newUpstream(content(2*mib + 2)).known()
		ended := r.begin(t.Context(), ahead)
		// It comes to wait behind the one that is ahead.
		f, _, err := r.Join(t.Context(), key(second.data), second.told, func(ctx context.Context, off, n int64) (Stream, error) {
			if len(ahead.asks()) != 0 {
				t.Error("the fill ahead was first")
			}
			return second.source(ctx, off, n)
		}, r.keep)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, open := range []func() (origin.Blob, error){
			func() (origin.Blob, error) { return b, nil },
			func() (origin.Blob, error) { return f.Follow(t.Context(), store.Range{}) },
		} {
			b, err := open()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, b.Body); err != nil {
				t.Error(err)
			}
			_ = b.Body.Close()
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		r.done(first, second, ahead)
	})
}

// A fill that somebody has joined keeps its turn.
func TestAheadJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		u := newUpstream(content(2 * mib)).known()
		u.pause = 100 * time.Millisecond
		ended := r.begin(t.Context(), u)
		b, err := r.follow(t.Context(), u, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		other := newUpstream(content(2*mib + 1)).known()
		if got, err := r.get(t.Context(), other, store.Range{}, false); err != nil || !bytes.Equal(got, other.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, u.data) || len(u.asks()) != 1 {
			t.Errorf("%d bytes, %v, asked %v", len(got), err, u.asks())
		}
		_ = b.Body.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		r.done(u, other)
	})
}

// When its context ends, a fill that nobody asked for ends; the next one goes on where
// it was. A fill that runs already is only waited for.
func TestAheadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		u := newUpstream(content(2 * mib)).known()
		u.pause = time.Second
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := r.begin(ctx, u)
		time.Sleep(8*time.Second + time.Millisecond)
		enough := errors.New("enough")
		cancel(enough)
		if err := <-ended; !errors.Is(err, enough) {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(r.Running()); n != 0 || u.open != 0 {
			t.Errorf("%d fills, %d streams", n, u.open)
		}
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if u.given > int64(len(u.data))+64<<10 {
			t.Errorf("%d bytes fetched of %d", u.given, len(u.data))
		}

		plain := newUpstream(content(2*mib + 1)).known()
		plain.pause = time.Millisecond
		b, err := r.follow(t.Context(), plain, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Ahead(t.Context(), key(plain.data), plain.told, plain.source, r.keep); err != nil || len(plain.asks()) != 1 {
			t.Errorf("%v, asked %v", err, plain.asks())
		}
		_ = b.Body.Close()
		r.done(u, plain)
		if err := r.Ahead(t.Context(), key(u.data), 1, u.source, r.keep); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// What is dropped while it is fetched is read to its end by those who read it, and not
// stored; one that is being stored is waited for.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		u := newUpstream(content(1 * mib)).known()
		u.pause = time.Millisecond
		if err := r.Drop(t.Context(), key(u.data)); err != nil {
			t.Errorf("not running: %v", err)
		}
		b, err := r.follow(t.Context(), u, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Drop(t.Context(), key(u.data)); err != nil {
			t.Errorf("running: %v", err)
		}
		if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		_ = b.Body.Close()
		synctest.Wait()
		if r.count() != 0 {
			t.Error("it is stored")
		}
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("again: %d bytes, %v", len(got), err)
		}
		synctest.Wait()
		if r.count() != 1 || len(u.asks()) != 2 {
			t.Errorf("again: %d kept, asked %v", r.count(), u.asks())
		}
		r.done(u)
	})
}

// One that is just being stored is waited for: what deletes it then finds it.
func TestDropWhileStoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		u := newUpstream(content(1000)).known()
		slow := func(ctx context.Context, f *os.File, size int64) error {
			time.Sleep(time.Second)
			return r.keep(ctx, f, size)
		}
		f, _, err := r.Join(t.Context(), key(u.data), u.told, u.source, slow)
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.Follow(t.Context(), store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		_ = b.Body.Close()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := r.Drop(ctx, key(u.data)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient: %v", err)
		}
		if err := r.Drop(t.Context(), key(u.data)); err != nil || r.count() != 1 {
			t.Errorf("%v, %d kept", err, r.count())
		}
		r.done(u)
	})
}
