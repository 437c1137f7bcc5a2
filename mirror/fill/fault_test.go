package fill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// nth fails the n-th call to the files of spools, of those that can fail so, and all
// behind it if it is for good.
type nth struct {
	n    int
	err  error // io.ErrShortWrite fails writes only
	good bool  // for good

	mu    sync.Mutex
	armed bool
	calls int
	hit   string // the first call that failed
}

func (x *nth) arm(armed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.armed = armed
}

func (x *nth) next(op, name string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.armed || x.err == io.ErrShortWrite && op != "write" {
		return nil
	}
	x.calls++
	if x.calls-1 != x.n && (!x.good || x.calls-1 < x.n) {
		return nil
	}
	if x.hit == "" {
		x.hit = op + " " + name
	}
	return x.err
}

// nthFile is a spool or a journal. A write that fails has written the first half.
type nthFile struct {
	readWriter
	x *nth
}

func (f nthFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.x.next("write", fmt.Sprint(len(p), " at ", off)); err != nil {
		n, _ := f.readWriter.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.readWriter.WriteAt(p, off)
}

func (f nthFile) Write(p []byte) (int, error) {
	if err := f.x.next("write", string(p)); err != nil {
		n, _ := f.readWriter.Write(p[:len(p)/2])
		return n, err
	}
	return f.readWriter.Write(p)
}

func (f nthFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.x.next("read", fmt.Sprint(len(p), " at ", off)); err != nil {
		return 0, err
	}
	return f.readWriter.ReadAt(p, off)
}

// Law 9: whichever call to a spool or its journal fails, once or from then on, in a fill
// that begins or in one that goes on where an earlier one was: every reader gets what it
// asked for, nothing stays open or running (nothing may in a bubble), and the next pull is kept.
func TestFillEveryFault(t *testing.T) {
	data := content(small + 300<<10)
	for _, resumed := range []bool{false, true} {
		for _, good := range []bool{false, true} {
			// Each write is cut short, and each call fails in one of the other ways.
			for i, err := range []error{io.ErrShortWrite, syscall.EIO, syscall.ENOSPC, syscall.EINTR} {
				n, step := 0, 1
				if i > 0 {
					n, step = i-1, 3
				}
				t.Run(fmt.Sprint(err, ", for good ", good, ", resumed ", resumed), func(t *testing.T) {
					for ; ; n += step {
						x := &nth{n: n, err: err, good: good}
						fillOverFault(t, data, x, resumed)
						if t.Failed() {
							t.Fatalf("when %q fails (call %d)", x.hit, n)
						}
						if x.hit == "" {
							break
						}
					}
				})
			}
		}
	}
}

func fillOverFault(t *testing.T, data []byte, x *nth, resumed bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := disktest.Dir(t)
		if resumed {
			leaveHalf(t, dir, data)
		}
		u := newUpstream(data).known()
		u.pause = time.Millisecond
		r := newRigAt(t, dir, Options{Limits: Limits{Linger: Complete, Streams: 2}})
		r.spools.seam = func(f readWriter) readWriter { return nthFile{f, x} }
		r.spools.call = x.next
		files := disktest.OpenFiles(t, dir)
		x.arm(true)
		var all sync.WaitGroup
		for i, rng := range []store.Range{{}, {Off: small, Len: 1000}} {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 3 * time.Millisecond)
				off, n, _ := rng.Resolve(int64(len(data)))
				if got, err := r.get(t.Context(), u, rng, i%2 == 0); err != nil || !bytes.Equal(got, data[off:off+n]) {
					t.Errorf("%v: %d bytes, %v", rng, len(got), err)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		x.arm(false)

		kept := r.count()
		if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the next pull: %d bytes, %v", len(got), err)
		}
		synctest.Wait()
		if r.count() != kept+1 {
			t.Error("the next pull is not kept")
		}
		must(t, r.Close(context.Background()))
		if got := disktest.OpenFiles(t, dir); got != files {
			t.Errorf("%d files are open, want %d", got, files)
		}
		// What could not be removed goes with the next process.
		must(t, r.spools.Close())
		r = newRigAt(t, dir, Options{})
		must(t, r.spools.Sweep(time.Unix(1<<40, 0)))
		r.done(u)
		must(t, r.spools.Close())
	})
}

// leaveHalf has a fill break off that has come far.
func leaveHalf(t *testing.T, dir string, data []byte) {
	t.Helper()
	u := newUpstream(data).known()
	u.fault = func(off int64) error {
		if off >= int64(len(data))-100<<10 {
			return errors.New("gone")
		}
		return nil
	}
	r := newRigAt(t, dir, Options{Limits: Limits{Linger: Complete}})
	if _, err := r.get(t.Context(), u, store.Range{}, true); err == nil {
		t.Error("it did not break off")
	}
	synctest.Wait()
	must(t, r.Close(context.Background()))
	must(t, r.spools.Close())
	if left := r.left(); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}
