//go:build clients

package conformance

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/deploy/alonetest"
)

// run and try execute a command to its end.
var run, try = alonetest.Run, alonetest.Try

// workDir gives a directory for the test with a path so short that sockets fit in
// it (108 bytes). Whatever stays mounted below it is unmounted at the end.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Error(err)
		}
		for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
			if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
				_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// url is where clients ask.
func (w *weir) url() string { return "http://" + w.addr }
