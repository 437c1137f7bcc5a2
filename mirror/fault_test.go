package mirror_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// Whichever call to the disk fails while an image is pulled that is not there yet, once
// or from then on: the client gets it all the same, and once the disk is well again the
// next pull keeps it.
func TestPullWhileTheDiskFails(t *testing.T) {
	img := origintest.Image([]byte("{}"), origintest.Bytes(1, 100<<10), origintest.Bytes(2, 3000))
	for _, failure := range []error{syscall.EIO, syscall.ENOSPC} {
		for name, fault := range map[string]func(int, error) disktest.Fault{"once": disktest.Nth, "from then on": disktest.From} {
			t.Run(fmt.Sprintf("%v %s", failure, name), func(t *testing.T) {
				for n, calls := 0, 1; n < calls; n++ {
					calls = pullOverFault(t, img, fault(n, failure))
					if t.Failed() {
						t.Fatalf("when call %d fails", n)
					}
				}
			})
		}
	}
}

// pullOverFault gives how many calls to the disk a pull made.
func pullOverFault(t *testing.T, img origintest.Tree, fault disktest.Fault) (calls int) {
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
	faulty.Arm(fault)
	r.pull(full, "1.27", img)
	r.stop() // all that happens behind an answer has happened
	calls = len(faulty.Disarm())

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
