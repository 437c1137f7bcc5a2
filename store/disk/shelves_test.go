package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

// A directory of blobs that is replaced beside the store is read as it is now,
// and one that is gone has no blobs.
func TestDirectoryOfBlobsIsReplaced(t *testing.T) {
	dir := t.TempDir()
	s, err := disk.Open(dir, disk.Options{})
	must(t, err)
	defer s.Close()
	data := []byte("what is read through a directory that stays open")
	d := digest.FromBytes(data)
	commit(t, s, data, d)
	has := func(want bool) {
		t.Helper()
		_, err := s.Blobs().Stat(t.Context(), d)
		if want && err != nil || !want && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Stat: %v", err)
		}
		b, err := s.Blobs().Open(t.Context(), d, store.Range{})
		if want && err != nil || !want && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Open: %v", err)
		}
		if err == nil {
			must(t, b.Body.Close())
		}
	}
	has(true)
	shelf := filepath.Join(dir, "blobs", "sha256")
	away := filepath.Join(dir, "away")
	must(t, os.Rename(shelf, away))
	must(t, os.Remove(filepath.Join(away, d.Encoded())))
	has(false)
	must(t, os.Mkdir(shelf, 0o700))
	has(false)
	must(t, os.WriteFile(filepath.Join(shelf, d.Encoded()), data, 0o600))
	has(true)
	must(t, os.RemoveAll(away))
	has(true)
	if got := openDirectories(t, dir); got != 1 {
		t.Errorf("%d directories of blobs are open, want 1", got)
	}
	must(t, s.Close())
	if got := openDirectories(t, dir); got != 0 {
		t.Errorf("%d directories of blobs are open once the store is closed", got)
	}
}

func commit(t *testing.T, s *disk.Store, data []byte, d digest.Digest) {
	t.Helper()
	in, err := s.Blobs().Ingest(t.Context(), "", d.Algorithm())
	must(t, err)
	defer in.Cancel()
	_, err = in.Write(data)
	must(t, err)
	_, err = in.Commit(t.Context(), d)
	must(t, err)
}

// openDirectories counts the descriptors of directories of blobs, replaced ones
// included.
func openDirectories(t *testing.T, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	n := 0
	for _, fd := range fds {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err == nil && (strings.HasPrefix(name, filepath.Join(dir, "blobs")) || strings.HasPrefix(name, filepath.Join(dir, "away"))) {
			n++
		}
	}
	return n
}
