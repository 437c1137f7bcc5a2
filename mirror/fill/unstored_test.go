package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// faulty is a spool's file that fails: writes once most bytes were written, reads of
// the byte at bad.
type faulty struct {
	readWriter
	mu      sync.Mutex
	most    int64 // -1: any number
	bad     int64 // -1: none
	written int64
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.most >= 0 && f.written+int64(len(p)) > f.most {
		n, _ := f.readWriter.WriteAt(p[:f.most-f.written], off)
		f.written = f.most
		return n, syscall.ENOSPC
	}
	f.written += int64(len(p))
	return f.readWriter.WriteAt(p, off)
}

func (f *faulty) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.bad && f.bad < off+int64(len(p)) {
		return 0, syscall.EIO
	}
	return f.readWriter.ReadAt(p, off)
}

func (r *rig) fault(most, bad int64) {
	r.spools.seam = func(f readWriter) readWriter { return &faulty{readWriter: f, most: most, bad: bad} }
}

// Law 9: the disk is full from the start, or somewhere in the middle, or cannot be
// read: every reader gets what it asked for, and nothing stays.
func TestFillUnstored(t *testing.T) {
	const size = 5*mib/2 + 77
	for _, x := range []struct {
		name      string
		most, bad int64
	}{
		{"full from the start", 0, -1},
		{"full soon", 100 << 10, -1},
		{"full in the middle", 3 * mib / 2, -1},
		{"full in the last bytes", size - 1000, -1},
		{"unreadable at first", -1, 0},
		{"unreadable in the middle", -1, mib + 5},
		{"unreadable at the end", -1, size - 1},
	} {
		for _, told := range []int64{size, -1} {
			for _, plain := range []bool{false, true} {
				t.Run(x.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						u := newUpstream(content(size))
						u.told, u.plain = told, plain
						if plain {
							u.size = told
						}
						u.pause = time.Millisecond
						r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 3}})
						r.fault(x.most, x.bad)
						var all sync.WaitGroup
						for i, rng := range []store.Range{
							{},
							{Off: 1000},
							{Off: 2 * mib},
							{Off: -5},
							{Off: mib, Len: 100},
							{Off: size - 70000, Len: 70000},
						} {
							all.Go(func() {
								time.Sleep(time.Duration(i) * 3 * time.Millisecond)
								got, err := r.get(t.Context(), u, rng, i%2 == 0)
								off, n, _ := rng.Resolve(size)
								switch {
								case err != nil && !rng.Whole() && u.size < 0 && errors.Is(err, errSpool):
									// Where a range ends cannot be said.
								case err != nil || !bytes.Equal(got, u.data[off:off+n]):
									t.Errorf("%v: %d bytes, %v", rng, len(got), err)
								}
							})
						}
						all.Wait()
						r.done(u)
						if r.count() != 0 {
							t.Errorf("kept %d times", r.count())
						}
					})
				})
			}
		}
	}
}

// Law 9: a reader that goes on by itself costs the upstream what the spool has not,
// and a little more.
func TestFillUnstoredGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(8 * mib)).known()
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		r.fault(6*mib, -1)
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.done(u)
		if most := int64(8+2)*mib + bufferSize; u.given > most {
			t.Errorf("the upstream gave %d bytes for %v", u.given, u.asks())
		}
	})
}

// Law 9: verified all the same. A corrupt upstream is cut before the end, whether it
// is the stream into the spool or the reader's own that is wrong; and one that gave
// two versions of the same bytes too.
func TestFillUnstoredVerdict(t *testing.T) {
	const size = 4 * mib
	good := content(size)
	for name, x := range map[string]struct {
		most, bad int64
		flip      func(ask int, off int64) bool // in the stream of that ask, at that byte
	}{
		"first byte":           {0, -1, func(_ int, off int64) bool { return off == 0 }},
		"last byte":            {0, -1, func(_ int, off int64) bool { return off == size-1 }},
		"in the spool":         {2 * mib, -1, func(_ int, off int64) bool { return off == mib }},
		"in its own stream":    {2 * mib, -1, func(ask int, off int64) bool { return ask > 0 && off == 3*mib }},
		"shown, and not again": {-1, 64 << 10, func(ask int, off int64) bool { return ask == 0 && off == 2*mib }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(good).known()
				u.flip = x.flip
				r := newRig(t, Options{Limits: Limits{Linger: Complete}})
				r.fault(x.most, x.bad)
				if x.most < 0 {
					// The reader is ahead of the verifier, which waits for the disk.
					r.spools.seam = func(f readWriter) readWriter { return &slowReads{faulty{readWriter: f, most: -1, bad: x.bad}} }
				}
				got, err := r.get(t.Context(), u, store.Range{}, true)
				if !errors.Is(err, ErrCorrupt) || len(got) > size-Withheld {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				r.done(u)
			})
		})
	}
}

type slowReads struct{ faulty }

func (s *slowReads) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(time.Second)
	return s.faulty.ReadAt(p, off)
}

// Law 9: a small blob has an error for an answer if it is bad, as ever.
func TestFillUnstoredSmall(t *testing.T) {
	for _, bad := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			u := newUpstream(content(1000)).known()
			u.flip = func(_ int, off int64) bool { return bad && off == 999 }
			r := newRig(t, Options{Limits: Limits{Linger: Complete}})
			r.fault(0, -1)
			b, err := r.follow(t.Context(), u, store.Range{})
			if bad {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("told %v", err)
				}
			} else {
				must(t, err)
				if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, u.data) || b.Source.Cache != origin.Miss {
					t.Errorf("%d bytes, %v, %v", len(got), err, b.Source)
				}
				must(t, b.Body.Close())
			}
			r.done(u)
		})
	}
}

// Law 9: a reader's own stream is resumed like a fill's.
func TestFillUnstoredResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(4 * mib)).known()
		cut := map[int64]bool{}
		u.fault = func(off int64) error {
			if off > 0 && off%mib == 0 && !cut[off] {
				cut[off] = true
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		r.fault(0, -1)
		if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.done(u)
	})
}

// Law 9: the spool's directory goes, and its file's name; it is made anew where it can
// be, and blobs are kept again.
func TestFillSpoolGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(4 * mib)).known()
		u.pause = time.Millisecond
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 2}})
		first, err := r.follow(t.Context(), u, store.Range{})
		must(t, err)
		for _, name := range r.left() {
			must(t, os.Remove(filepath.Join(r.dir, name)))
		}
		if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("a reader who comes when the name is gone: %d bytes, %v", len(got), err)
		}
		if n, err := io.Copy(io.Discard, first.Body); n != 4*mib || err != nil {
			t.Errorf("one who was there: %d bytes, %v", n, err)
		}
		must(t, first.Body.Close())
		synctest.Wait()
		if r.count() != 0 {
			t.Error("kept what has no name")
		}

		must(t, os.RemoveAll(r.dir))
		must(t, os.WriteFile(r.dir, nil, 0o600)) // in its place
		if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("without a directory: %d bytes, %v", len(got), err)
		}
		synctest.Wait()
		must(t, os.Remove(r.dir))
		if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, u.data) {
			t.Errorf("when it can be made: %d bytes, %v", len(got), err)
		}
		r.done(u)
		if r.count() != 1 {
			t.Errorf("kept %d times", r.count())
		}
	})
}

// Law 9: what nobody has measured is measured by whoever asks for it.
func TestFillUnstoredStat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(content(mib))
		r := newRig(t, Options{Limits: Limits{Linger: Complete}})
		r.fault(0, -1)
		f, _, err := r.Join(t.Context(), key(u.data), -1, u.source, r.keep)
		must(t, err)
		if d, err := f.Stat(t.Context()); err != nil || d.Size != mib {
			t.Errorf("%v, %v", d, err)
		}
		r.done(u)
	})
}

// ending is a context that ends as soon as somebody wants to know of its end.
type ending struct {
	context.Context
	end func()
}

func (e ending) Done() <-chan struct{} {
	e.end()
	return e.Context.Done()
}

// Law 9: the spool fails, and something else ends the fill, between the verifier's look and
// its wait. It leaves readers where they go on by themselves, whichever it hears of.
func TestFillUnstoredAndFailed(t *testing.T) {
	r := newRig(t, Options{})
	broken := errors.New("broken")
	for range 50 {
		ctx, cancel := context.WithCancelCause(t.Context())
		f := &Fill{key: key(nil), group: r.Group, cancel: cancel, size: 1000, plan: plan{streams: 1, largest: mib, size: 1000}}
		end := sync.OnceFunc(func() {
			f.unkeep(syscall.ENOSPC)
			f.fail(broken)
		})
		f.src = func(context.Context, int64, int64) (Stream, error) {
			end()
			return Stream{}, broken
		}
		if err := f.verify(ending{ctx, end}); !errors.Is(err, errSpool) || f.direct == nil {
			t.Fatalf("it ended with %v, readers go on at %v", err, f.direct)
		}
		f.work.Wait()
	}
}
