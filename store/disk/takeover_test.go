package disk_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// What a process that was killed has left may not be durable, and it is made so before
// anybody relies on it; after a good end, and in another boot, that costs nothing.
func TestTakeOver(t *testing.T) {
	for _, c := range []struct {
		name        string
		last, boot  string
		killed, all bool
	}{
		{"new", "", "one", false, false},
		{"closed", "one", "one", false, false},
		{"killed", "one", "one", true, true},
		{"killed, another boot", "one", "two", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			lock := filepath.Join(dir, ".lock")
			if c.last != "" {
				s := open(t, dir, disk.Options{Boot: c.last})
				held, err := os.ReadFile(lock)
				must(t, err)
				must(t, s.Close())
				if c.killed {
					must(t, os.WriteFile(lock, held, 0o600)) // Close was never called
				}
			}
			var f disktest.Faulty
			f.Arm(nil)
			s := open(t, dir, disk.Options{Boot: c.boot, FS: f.FS})
			if all := slices.Contains(f.Disarm(), "syncall ."); all != c.all {
				t.Errorf("everything is synced: %t, want %t", all, c.all)
			}
			must(t, s.Close())
			if left, err := os.ReadFile(lock); err != nil || len(left) > 0 {
				t.Errorf("closed, and the lock says %q (%v)", left, err)
			}
		})
	}
}

// The system's call is the real one, whatever there is to sync.
func TestSyncAll(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir, disk.Options{Boot: "one"}).Close())
	must(t, os.WriteFile(filepath.Join(dir, ".lock"), []byte("one"), 0o600))
	must(t, open(t, dir, disk.Options{Boot: "one"}).Close())
}
