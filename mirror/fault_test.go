package mirror_test

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

// Whichever call to the store fails while an image is pulled that is not there yet, once
// or from then on: the client gets it all the same, nothing stays open or running, and once
// the disk is well again the next pull keeps it. Calls to spools fail in mirror/fill.
func TestPullWhileTheDiskFails(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	img := origintest.Image([]byte("{}"), origintest.Bytes(1, 100<<10), origintest.Bytes(2, 3000))
	// Each write is cut short, and each call fails in one of the other ways.
	for i, failure := range []error{io.ErrShortWrite, syscall.EIO, syscall.ENOSPC, syscall.EINTR} {
		first, step := 0, 1
		if i > 0 {
			first, step = i-1, 3
		}
		for name, fault := range map[string]func(int, error) disktest.Fault{"once": disktest.Nth, "from then on": disktest.From} {
			t.Run(fmt.Sprintf("%v %s", failure, name), func(t *testing.T) {
				for n, calls := first, first+1; n < calls; n += step {
					calls = pullOverFault(t, img, fault(n, failure), failure == io.ErrShortWrite)
					if t.Failed() {
						t.Fatalf("when call %d fails", n)
					}
				}
			})
		}
	}
}

// pullOverFault gives how many calls to the disk a pull made that can fail so; writes only,
// or all.
func pullOverFault(t *testing.T, img origintest.Tree, fault disktest.Fault, writes bool) (calls int) {
	t.Helper()
	dir := disktest.Dir(t)
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}()
	faulty := &disktest.Faulty{}
	s, err := disk.Open(dir, disk.Options{FS: faulty.FS})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(r *rig) {
		r.blobs, r.records, r.spools = s.Blobs(), s.Records(), filepath.Join(dir, "spool")
	})
	img.Push(t, r.hub[0].Registry, name, "1.27")
	files := disktest.OpenFiles(t, dir)
	faulty.Arm(func(_ int, call string) error {
		if writes && !strings.HasPrefix(call, "write ") {
			return nil
		}
		calls++
		return fault(calls-1, call)
	})
	r.pull(full, "1.27", img)
	r.stop() // all that happens behind an answer has happened
	faulty.Disarm()
	if got := disktest.OpenFiles(t, dir); got != files {
		t.Errorf("%d files are open, want %d", got, files)
	}

	r.start()
	r.pull(full, "1.27", img)
	r.stop()
	for _, b := range img.Blobs {
		info, err := s.Blobs().Stat(t.Context(), b.Digest)
		if err != nil || info.Size != int64(len(b.Bytes)) {
			t.Errorf("blob %s is not kept: %v", b.Digest, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "spool")); err != nil || len(left) > 0 {
		t.Errorf("%d spools are left, %v", len(left), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return calls
}
