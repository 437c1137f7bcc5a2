package lifetime_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// Each call to the disk fails once, in a collection. What is needed stays, nothing stays
// open, what was to go can be pushed again at once, and goes with the next collection
// otherwise.
func TestEveryFault(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	base := disktest.Dir(t)
	for i, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, io.ErrShortWrite} {
		t.Run(fault.Error(), func(t *testing.T) {
			failed, first, step := 0, 0, 1
			if raceDetector {
				first, step = i%3, 3 // each call fails in one of the three ways
			}
			for n := first; ; n += step {
				dir := filepath.Join(base, fmt.Sprint(n, "-", i))
				hit, noticed := collectFaulty(t, dir, n, fault)
				if hit == "" {
					break
				}
				if noticed {
					failed++
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if t.Failed() {
					t.Fatalf("%s fails (call %d)", hit, n)
				}
			}
			if failed == 0 {
				t.Error("no fault was noticed")
			}
		})
	}
}

// collectFaulty collects while the n-th call to the disk fails (a short write: the n-th
// write), and gives that call, "" if there are fewer.
func collectFaulty(t *testing.T, dir string, n int, fault error) (hit string, noticed bool) {
	t.Helper()
	var faulty disktest.Faulty
	r := &rig{t: t}
	var s *disk.Store
	start := func() {
		var err error
		if s, err = disk.Open(dir, disk.Options{FS: faulty.FS}); err != nil {
			t.Fatal(err)
		}
		r.blobs, r.records = s.Blobs(), s.Records()
		r.reg = open(t, r.blobs, r.records, true)
		r.use(r.reg, false)
	}
	stop := func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	start()
	about := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("about"))
	r.push("a", one, "x")
	r.push("a", about)
	r.push("b", two, "x")
	garbage := r.blob("b", []byte("garbage"))
	r.deleteManifest("a", one)
	in, err := r.reg.Upload(t.Context(), repo(t, "a"), "", layer.Digest.Algorithm())
	if err == nil {
		_, err = in.Write([]byte("half"))
	}
	if err == nil {
		err = in.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop()
	older(t, dir, long)
	start()
	files := disktest.OpenFiles(t, dir)
	seen := 0
	faulty.Arm(func(_ int, call string) error {
		if fault == io.ErrShortWrite && !strings.HasPrefix(call, "write ") {
			return nil
		}
		if seen++; seen != n+1 {
			return nil
		}
		hit = call
		return fault
	})
	_, err = r.collect.Run(t.Context(), false)
	faulty.Disarm()
	if got := disktest.OpenFiles(t, dir); got != files {
		t.Errorf("%d files are open, want %d", got, files)
	}
	r.pull("b", two)
	if n%2 == 0 {
		// What was to go is needed after all.
		r.push("a", one, "x")
		r.pull("a", one)
	}
	stop()
	start() // what a log has that could not be settled is written anew, and young again
	stop()
	older(t, dir, long)
	start()
	r.full()
	r.pull("b", two)
	if n%2 == 0 {
		r.pull("a", one)
	} else if r.stored(layer.Digest) {
		t.Error("what nobody needs is there after the next collection")
	}
	if r.stored(garbage) {
		t.Error("garbage is there after the next collection")
	}
	stop()
	return hit, err != nil
}
