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

// What is linked is the file itself: it is not copied, and not changed in anything that
// its owner could see but the number of its names; and each of the two names goes without
// the other.
func TestLink(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, disk.Options{})
	name := filepath.Join(t.TempDir(), "data")
	must(t, os.WriteFile(name, []byte("content"), 0o444))
	before, err := os.Stat(name)
	must(t, err)
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	d := digest.FromString("content")
	for range 2 { // the second time it is there
		info, err := s.Blobs().Link(t.Context(), f, d)
		must(t, err)
		if info.Digest != d || info.Size != 7 || !info.Modified.Equal(before.ModTime()) {
			t.Errorf("Link = %+v", info)
		}
	}
	after, err := os.Stat(name)
	must(t, err)
	if !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() {
		t.Errorf("the file was %v of %v, and is %v of %v", before.Mode(), before.ModTime(), after.Mode(), after.ModTime())
	}
	named, err := os.Stat(filepath.Join(dir, "blobs", "sha256", d.Encoded()))
	must(t, err)
	if !os.SameFile(before, named) {
		t.Error("the blob is a copy")
	}
	must(t, s.Blobs().Delete(t.Context(), d))
	if text, err := os.ReadFile(name); err != nil || string(text) != "content" {
		t.Errorf("behind the blob's deletion: %q, %v", text, err)
	}
	_, err = s.Blobs().Link(t.Context(), f, d)
	must(t, err)
	must(t, os.Remove(name))
	if info, err := s.Blobs().Stat(t.Context(), d); err != nil || info.Size != 7 {
		t.Errorf("behind the file's deletion: %+v, %v", info, err)
	}
}

// during lets something happen in the middle of a call that begins so, once.
type during struct {
	disk.FS
	call string
	do   func()
}

func (d *during) Sync(name string) error {
	if do := d.do; do != nil && strings.HasPrefix("sync "+name, d.call) {
		d.do = nil
		do()
	}
	return d.FS.Sync(name)
}

// Whoever deletes a record, and prunes its directory, does not wait for one who links, and
// so nobody waits for both: it is deleted, and the file linked.
func TestLinkMeetsDeletion(t *testing.T) {
	fsys := &during{call: "sync tmp/"}
	s := open(t, t.TempDir(), disk.Options{FS: func(inner disk.FS) disk.FS {
		fsys.FS = inner
		return fsys
	}})
	must(t, putRecord(s, "a/b", "value", store.Absent()))
	name := filepath.Join(t.TempDir(), "data")
	must(t, os.WriteFile(name, []byte("content"), 0o400))
	f, d := openFile(t, name), digest.FromString("content")
	var deleted error
	fsys.do = func() { deleted = s.Records().Delete(t.Context(), "a/b", store.Always()) }
	_, err := s.Blobs().Link(t.Context(), f, d)
	must(t, errors.Join(err, deleted))
	check(t, "records", wantRecords(s))
	if _, err := s.Blobs().Stat(t.Context(), d); err != nil {
		t.Error(err)
	}
}

// What somebody else may write to, and what is not the file that was read, is nobody's blob.
func TestLinkForeign(t *testing.T) {
	content := []byte("content")
	d := digest.FromBytes(content)
	for what, file := range map[string]func(t *testing.T, name string) *os.File{
		"others may write to it": func(t *testing.T, name string) *os.File {
			must(t, os.WriteFile(name, content, 0o600))
			must(t, os.Chmod(name, 0o602))
			return openFile(t, name)
		},
		"its group may write to it": func(t *testing.T, name string) *os.File {
			must(t, os.WriteFile(name, content, 0o600))
			must(t, os.Chmod(name, 0o660))
			return openFile(t, name)
		},
		"another user's": func(t *testing.T, name string) *os.File {
			must(t, os.WriteFile(name, content, 0o644))
			if err := os.Chown(name, 12345, 12345); err != nil {
				t.Skip("only root may give files away")
			}
			return openFile(t, name)
		},
		"a link": func(t *testing.T, name string) *os.File {
			must(t, os.WriteFile(name+".target", content, 0o600))
			must(t, os.Symlink(name+".target", name))
			return openFile(t, name)
		},
		"a directory": func(t *testing.T, name string) *os.File {
			must(t, os.Mkdir(name, 0o700))
			return openFile(t, name)
		},
		"gone": func(t *testing.T, name string) *os.File {
			must(t, os.WriteFile(name, content, 0o600))
			f := openFile(t, name)
			must(t, os.Remove(name))
			return f
		},
		"another file by now": func(t *testing.T, name string) *os.File {
			must(t, os.WriteFile(name, content, 0o600))
			f := openFile(t, name)
			must(t, os.Remove(name))
			must(t, os.WriteFile(name, []byte("forged!"), 0o600))
			return f
		},
		"on another file system": func(t *testing.T, _ string) *os.File {
			f, err := os.CreateTemp("/dev/shm", "weir-link-*")
			if err != nil {
				t.Skip("no other file system")
			}
			t.Cleanup(func() {
				f.Close()
				os.Remove(f.Name())
			})
			return f
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, disk.Options{})
			f := file(t, filepath.Join(t.TempDir(), "data"))
			if _, err := s.Blobs().Link(t.Context(), f, d); !errors.Is(err, store.ErrForeign) {
				t.Errorf("Link: %v, want ErrForeign", err)
			}
			if _, err := s.Blobs().Stat(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Stat: %v, want ErrNotFound", err)
			}
			if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
				t.Errorf("left in tmp: %v, %v", left, err)
			}
		})
	}
	s := open(t, t.TempDir(), disk.Options{})
	name := filepath.Join(t.TempDir(), "data")
	must(t, os.WriteFile(name, content, 0o600))
	if _, err := s.Blobs().Link(t.Context(), openFile(t, name), "sha256:none"); !errors.Is(err, store.ErrDigest) {
		t.Errorf("Link of no digest: %v", err)
	}
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}
