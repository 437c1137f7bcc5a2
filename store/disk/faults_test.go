package disk_test

import (
	"os"
	"path"
	"path/filepath"
	"strings"
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

// openFiles counts the descriptors of this process that lie below dir.
func openFiles(t *testing.T, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n, shelves := 0, map[string]bool{}
	for _, fd := range fds {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err != nil || !strings.HasPrefix(name, dir) {
			continue
		}
		// The directories of blobs stay open, each once.
		if ok, _ := path.Match(dir+"/blobs/*/??", name); ok && !shelves[name] {
			shelves[name] = true
			continue
		}
		n++
	}
	return n
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
