package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Law 6: a stream that breaks off is asked for again where it broke, after pauses
// that grow.
func TestFillResumesWhereItWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(mib)).known()
		cuts := 0
		u.fault = func(off int64) error {
			if off == mib/2 && cuts < stuck-2 {
				cuts++
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		begin := time.Now()
		got, err := r.get(t.Context(), u, store.Range{}, true)
		if err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.done(u)
		if want := append([]string{"0-1"}, slices.Repeat([]string{"524288+524288"}, stuck-2)...); !slices.Equal(u.asks(), want) {
			t.Errorf("asked %v", u.asks())
		}
		if took, want := time.Since(begin), firstPause*(1+2)+lastPause*(stuck-5); took != want {
			t.Errorf("took %v, not %v", took, want)
		}
	})
}

// Law 6: an upstream that is started again within 8 seconds is gone on with, and by as
// many streams as before: that nobody got anything was no limit on streams.
func TestFillOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(32 * mib)).known()
		u.pause = 10 * time.Millisecond
		begin := time.Now()
		away := func() bool {
			took := time.Since(begin)
			return took > 300*time.Millisecond && took < 8*time.Second
		}
		u.fault = func(int64) error {
			if away() {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		later := 0 // streams at a time after it came back
		src := func(ctx context.Context, off, n int64) (Stream, error) {
			if away() {
				return Stream{}, &origin.UpstreamError{Endpoint: "up.test", Err: errors.New("connection refused")}
			}
			s, err := u.source(ctx, off, n)
			if time.Since(begin) > 8*time.Second {
				u.mu.Lock()
				later = max(later, u.open)
				u.mu.Unlock()
			}
			return s, err
		}
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4, PartSize: 2 * mib}})
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
		if later != 4 || u.given != 32*mib {
			t.Errorf("after the outage %d streams at a time; %d bytes given", later, u.given)
		}
	})
}

// Law 6: so is each of several streams, and one that never said how long it is.
func TestFillResumesEachStream(t *testing.T) {
	for _, size := range []int64{-1, 5 * mib} {
		synctest.Test(t, func(t *testing.T) {
			u := newUpstream(content(5 * mib))
			u.size = size
			cuts := map[int64]bool{}
			u.fault = func(off int64) error {
				u.mu.Lock()
				defer u.mu.Unlock()
				if off%(256<<10) == 0 && !cuts[off] {
					cuts[off] = true
					return io.ErrUnexpectedEOF
				}
				return nil
			}
			u.plain = size < 0
			r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
			got, err := r.get(t.Context(), u, store.Range{}, true)
			if err != nil || !bytes.Equal(got, u.data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			r.done(u)
			if size > 0 && u.given != size {
				t.Errorf("the upstream gave %d bytes of %d", u.given, size)
			}
		})
	}
}

// Law 6: an upstream that lets time after time pass without a byte is given up
// sooner than one that breaks off.
func TestFillTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(mib)).known()
		slow := &origin.UpstreamError{Endpoint: "up.test", Timeout: true, Err: context.DeadlineExceeded}
		u.fault = func(off int64) error {
			if off == mib/2 {
				return slow
			}
			return nil
		}
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		if got, err := r.get(t.Context(), u, store.Range{}, true); !errors.Is(err, slow) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if n := len(u.asks()); n != 3 {
			t.Errorf("asked %v", u.asks())
		}
	})
}

// What was fetched before an upstream was given up is not fetched again.
func TestFillGoesOnAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(8 * mib)).known()
		broken := errors.New("broken")
		u.fault = func(off int64) error {
			if off >= 6*mib {
				return broken
			}
			return nil
		}
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		if got, err := r.get(t.Context(), u, store.Range{}, false); !errors.Is(err, broken) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		synctest.Wait()
		if len(r.left()) != 2 {
			t.Errorf("left %v", r.left())
		}
		u.fault = nil
		asked := len(u.asks())
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("the next try: %d bytes, %v", len(got), err)
		}
		r.done(u)
		if want := []string{"6291456+2097152"}; !slices.Equal(u.asks()[asked:], want) {
			t.Errorf("the next try asked %v", u.asks()[asked:])
		}
	})
}

// abort runs a fill until the upstream has given n bytes, and leaves its files as a
// process does that is killed then: their names, and a copy of what they hold.
func abort(t *testing.T, dir string, u *upstream, n int64, opts Options) {
	t.Helper()
	r := newRig(t, opts)
	reached, hold := make(chan struct{}), make(chan struct{})
	var once sync.Once
	u.fault = func(int64) error {
		u.mu.Lock()
		given := u.given
		u.mu.Unlock()
		if given >= n {
			once.Do(func() { close(reached) })
			<-hold
			return errors.New("killed")
		}
		return nil
	}
	b, err := r.follow(t.Context(), u, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	<-reached
	synctest.Wait()
	if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	cut()
	close(hold)
	_ = r.Close(ctx)
	_ = b.Body.Close()
	u.fault, u.given, u.asked = nil, 0, nil
}

// Law 6, over a restart: what an earlier process fetched is looked through, and only
// the rest is fetched.
func TestFillOverRestart(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, spool string){
		"killed":           func(*testing.T, string) {},
		"a byte is wrong":  func(t *testing.T, spool string) { overwrite(t, spool, mib+5, []byte{1, 2, 3}) },
		"its end is lost":  func(t *testing.T, spool string) { must(t, os.Truncate(spool, 3*mib/2)) },
		"a line is cut":    func(t *testing.T, spool string) { shorten(t, spool+journalSuffix, 3) },
		"zeros at the end": func(t *testing.T, spool string) { lengthen(t, spool+journalSuffix, make([]byte, 100)) },
		"no journal":       func(t *testing.T, spool string) { must(t, os.Remove(spool+journalSuffix)) },
		"no spool":         func(t *testing.T, spool string) { must(t, os.Remove(spool)) },
		"an empty journal": func(t *testing.T, spool string) { must(t, os.Truncate(spool+journalSuffix, 0)) },
		"stored already":   func(t *testing.T, spool string) { must(t, os.Link(spool, filepath.Join(t.TempDir(), "blob"))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				u := newUpstream(content(4 * mib)).known()
				u.pause = time.Millisecond
				opts := Options{Limits: Limits{Linger: Complete, Streams: 2, PartSize: mib}}
				abort(t, dir, u, 5*mib/2, opts)
				spool := ""
				for _, name := range (&rig{t: t, dir: dir}).left() {
					if !strings.HasSuffix(name, journalSuffix) {
						spool = filepath.Join(dir, name)
					}
				}
				spoil(t, spool)
				fresh := name == "no journal" || name == "no spool" || name == "an empty journal" || name == "stored already"

				r := newRigAt(t, dir, opts)
				got, err := r.get(t.Context(), u, store.Range{}, true)
				if err != nil || !bytes.Equal(got, u.data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				r.done(u)
				if r.count() != 1 || !bytes.Equal(r.kept[0], u.data) {
					t.Errorf("kept %d times", r.count())
				}
				// Two streams lose what came after their last full MiB, and what was spoilt.
				least, most := int64(2*mib), int64(2*mib)
				if name != "killed" {
					most = 3 * mib
				}
				if fresh {
					least, most = 4*mib, 4*mib
				}
				if u.given < least || u.given > most {
					t.Errorf("fetched %d bytes again: %v", u.given, u.asks())
				}
			})
		})
	}
}

// All was there when the process was killed: nobody need be asked.
func TestFillOverRestartWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		u := newUpstream(content(4 * mib)).known()
		killed := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
		f, _, err := killed.Join(t.Context(), key(u.data), u.told, u.source, func(context.Context, *os.File, int64) error {
			return os.CopyFS(dir, os.DirFS(killed.dir)) // all is here, and not stored
		})
		must(t, err)
		f.Leave()
		killed.done(u)
		u.asked = nil
		r := newRigAt(t, dir, Options{Limits: Limits{Linger: Complete}})
		if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.done(u)
		if len(u.asks()) != 0 {
			t.Errorf("asked %v", u.asks())
		}
	})
}

// Bytes whose sums are right and that are not the blob's: the digest has the last
// word, and the next try begins anew.
func TestFillOverRestartForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		u := newUpstream(content(8 * mib)).known()
		k := key(u.data)
		other := newUpstream(bytes.Repeat([]byte{7}, 8*mib)).known()
		abort(t, dir, other, 5*mib, Options{Limits: Limits{Linger: Complete}})
		forged := key(other.data).id()
		for _, name := range (&rig{t: t, dir: dir}).left() {
			must(t, os.Rename(filepath.Join(dir, name), filepath.Join(dir, strings.Replace(name, forged, k.id(), 1))))
		}
		r := newRigAt(t, dir, Options{Limits: Limits{Linger: Complete}})
		if got, err := r.get(t.Context(), u, store.Range{}, true); !errors.Is(err, ErrCorrupt) || len(got) > len(u.data)-Withheld {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		synctest.Wait()
		if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("the next try: %d bytes, %v", len(got), err)
		}
		r.done(u)
		if r.count() != 1 {
			t.Errorf("kept %d times", r.count())
		}
	})
}

// What nobody asks for again is swept, and what makes no sense goes at once.
func TestSpoolsSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		u := newUpstream(content(8 * mib)).known()
		abort(t, dir, u, 5*mib, Options{Limits: Limits{Linger: Complete}})
		must(t, os.WriteFile(filepath.Join(dir, "stray"), nil, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, key(nil).id()+".0123"), nil, 0o600))
		must(t, os.Mkdir(filepath.Join(dir, "directory"), 0o700))
		r := newRigAt(t, dir, Options{Limits: Limits{Linger: Complete}})
		if got := r.left(); len(got) != 2 {
			t.Errorf("left %v", got)
		}
		must(t, r.spools.Sweep(time.Unix(0, 0)))
		if got := r.left(); len(got) != 2 {
			t.Errorf("left %v", got)
		}
		must(t, r.spools.Sweep(time.Now().Add(100*365*24*time.Hour)))
		r.done()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, name string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(b, off)
	must(t, errors.Join(err, f.Close()))
}

func shorten(t *testing.T, name string, by int64) {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	must(t, os.Truncate(name, info.Size()-by))
}

func lengthen(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.Write(b)
	must(t, errors.Join(err, f.Close()))
}

// Whatever a journal says, its chunks lie inside the blob, and it is read as far as
// it was written.
func FuzzParseJournal(f *testing.F) {
	f.Add([]byte("weir spool 1 size 2097152\n0 1048576 deadbeef\n1048576 1048576 00000000\n"))
	f.Add([]byte("weir spool 1 size 2097152\n1048576 9 deadbeef\n0 5 0000"))
	f.Add([]byte("weir spool 1 size 9223372036854775807\n9223372036854775806 9223372036854775807 1\n"))
	f.Add([]byte("weir spool 1 size -5\n"))
	f.Add([]byte("weir spool 1 size 2097152\n\n-1 2 3\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		size, chunks, err := parseJournal(text)
		if err != nil {
			if !errors.Is(err, errStale) || size != 0 || chunks != nil {
				t.Fatalf("%d, %v, %v", size, chunks, err)
			}
			return
		}
		for i, c := range chunks {
			if c.off < 0 || c.n <= 0 || c.off+c.n > size || c.off+c.n < 0 || i > 0 && chunks[i-1].off > c.off {
				t.Fatalf("%v of %d bytes", chunks, size)
			}
		}
	})
}
