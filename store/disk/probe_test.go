package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// A store that cannot take anything says so, whichever call fails, and leaves nothing.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	var faulty disktest.Faulty
	s, err := disk.Open(dir, disk.Options{FS: faulty.FS})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	left := func() int {
		t.Helper()
		names, err := os.ReadDir(filepath.Join(dir, "tmp"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for n := 0; ; n++ {
		faulty.Arm(disktest.Nth(n, syscall.ENOSPC))
		err := s.Probe(t.Context())
		calls := len(faulty.Disarm())
		if n == calls {
			if err != nil || n == 0 {
				t.Errorf("after %d calls: %v", n, err)
			}
			break
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("call %d fails: %v", n, err)
		}
	}
	if n := left(); n > 1 { // one could not be removed
		t.Errorf("%d files are left", n)
	}

	// Its directory of temporary files is made anew; that of all is not its own to make.
	if err := os.RemoveAll(filepath.Join(dir, "tmp")); err != nil {
		t.Fatal(err)
	}
	if err := s.Probe(t.Context()); err != nil || left() != 0 {
		t.Errorf("without a directory: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Probe(t.Context()); err == nil {
		t.Error("it is gone, and well")
	}
}
