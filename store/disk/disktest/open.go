package disktest

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// OpenFiles counts the descriptors of this process that lie below a store's directory;
// but the store may keep each directory of blobs open once, and one log of records; and
// that of the logs, from which it removes them behind everybody's back.
func OpenFiles(t testing.TB, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n, kept := 0, map[string]bool{}
	for _, fd := range fds {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err != nil || !strings.HasPrefix(name, dir+"/") && name != dir {
			continue
		}
		if ok, _ := path.Match(dir+"/blobs/*", name); ok && !kept[name] {
			kept[name] = true
			continue
		}
		logs := dir + "/log"
		if path.Dir(name) == logs && !kept[logs] {
			kept[logs] = true
			continue
		}
		if name == logs {
			continue
		}
		n++
	}
	return n
}
