package disk_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// faulty opens a store over a file system that fails as it is armed.
func faulty(t *testing.T, dir string) (*disk.Store, *disktest.Faulty) {
	t.Helper()
	f := new(disktest.Faulty)
	return open(t, dir, disk.Options{FS: f.FS}), f
}

// leftovers lists what is in tmp.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
