package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store/disk"
)

// A store that is taken away is not well, whatever lies where it was; it is again when it
// is back there. A copy of it is the same store, and a directory that is not is neither
// opened as that nor changed.
func TestIdentity(t *testing.T) {
	top := t.TempDir()
	dir, aside := filepath.Join(top, "data"), filepath.Join(top, "aside")
	s := open(t, dir, disk.Options{})
	must(t, ingestParts(s, digest.SHA256, named, 2))
	well := func(want bool, replaced bool) {
		t.Helper()
		if err := s.Probe(t.Context()); (err == nil) != want {
			t.Errorf("well: %v, want %v", err, want)
		}
		if got := s.Replaced(); got != replaced {
			t.Errorf("replaced: %v, want %v", got, replaced)
		}
	}
	well(true, false)
	must(t, os.Rename(dir, aside))
	well(false, false)
	must(t, os.Mkdir(dir, 0o700)) // where nothing is mounted, say
	well(false, true)
	if _, err := disk.Open(dir, disk.Options{ID: s.ID()}); !errors.Is(err, disk.ErrOther) {
		t.Errorf("an empty directory as the store: %v", err)
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("in an empty directory there is %q", got)
	}
	other := open(t, filepath.Join(top, "other"), disk.Options{})
	if other.ID() == s.ID() || len(s.ID()) != 32 {
		t.Errorf("stores are named %q and %q", s.ID(), other.ID())
	}
	must(t, other.Close())
	if _, err := disk.Open(filepath.Join(top, "other"), disk.Options{ID: s.ID()}); !errors.Is(err, disk.ErrOther) {
		t.Errorf("another store as this one: %v", err)
	}

	must(t, os.Remove(dir))
	must(t, os.CopyFS(dir, os.DirFS(aside)))
	well(false, true)
	again, err := disk.Open(dir, disk.Options{ID: s.ID()})
	must(t, err)
	if _, err := again.Blobs().Stat(t.Context(), named); err != nil || again.ID() != s.ID() {
		t.Errorf("of a copy: %v, %q", err, again.ID())
	}
	must(t, again.Close())

	must(t, os.RemoveAll(dir))
	must(t, os.Rename(aside, dir))
	well(true, false)
	must(t, os.WriteFile(filepath.Join(dir, ".id"), []byte("damaged"), 0o600))
	id := s.ID()
	must(t, s.Close())
	s = open(t, dir, disk.Options{})
	if s.ID() == id || len(s.ID()) != 32 {
		t.Errorf("a damaged name is %q", s.ID())
	}
}
