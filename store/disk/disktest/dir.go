package disktest

import (
	"os"
	"testing"
)

// memory is where Linux keeps files in memory.
const memory = "/dev/shm"

// Dir makes a directory that goes with the test, in memory where the system has files
// there: making and removing thousands of files is what such tests do.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(memory, "weir-disktest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
