package disk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// names lists what is in a directory, directories with a slash.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if e.IsDir() {
			rel += "/"
		}
		names = append(names, rel)
		fi, ierr := e.Info()
		if ierr == nil && fi.Mode().Perm()&0o077 != 0 {
			ierr = fmt.Errorf("%s has mode %v", rel, fi.Mode())
		}
		return errors.Join(err, ierr)
	}))
	return names
}

func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "root")
	s := open(t, dir, disk.Options{})
	if got, want := names(t, dir), []string{".id", ".lock", "tmp/"}; !slices.Equal(got, want) {
		t.Errorf("a new store has %q, want %q", got, want)
	}
	must(t, ingestParts(s, digest.SHA256, named, 2))
	must(t, putRecord(s, "tags/library/debian", "value", store.Absent()))
	ing, err := s.Blobs().Ingest(t.Context(), "", digest.SHA512)
	must(t, err)
	_, err = ing.Write([]byte("x"))
	must(t, errors.Join(err, ing.Close()))
	hex := named.Encoded()
	want := []string{
		".id", ".lock", "blobs/", "blobs/sha256/", "blobs/sha256/" + hex,
		"ingest/", "ingest/" + ing.ID() + ".sha512", "ingest/" + ing.ID() + ".state",
		"log/", "log/00000000000000000001", "records/", "records/tags/", "records/tags/library/", "records/tags/library/debian", "tmp/",
	}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the store has %q, want %q", got, want)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, disk.Options{})
	must(t, os.Symlink(dir, dir+"-link"))
	defer os.Remove(dir + "-link")
	for _, name := range []string{dir, dir + "/.", dir + "-link"} {
		_, err := disk.Open(name, disk.Options{})
		if !errors.Is(err, disk.ErrLocked) || !strings.Contains(err.Error(), name) {
			t.Errorf("second Open: %v, want ErrLocked and the name", err)
		}
	}
	if got := disktest.OpenFiles(t, dir); got != 2 {
		t.Errorf("%d files are open, want the root and the lock", got)
	}
	must(t, s.Close())
	must(t, open(t, dir, disk.Options{}).Close())
	if got := disktest.OpenFiles(t, dir); got != 0 {
		t.Errorf("%d files are open after Close", got)
	}
}

func TestOpenSweeps(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir, disk.Options{}).Close())
	for i := range 1200 { // more than one batch of names
		must(t, os.WriteFile(filepath.Join(dir, "tmp", fmt.Sprint(i)), nil, 0o600))
	}
	must(t, os.Mkdir(filepath.Join(dir, "spool"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "spool", "file"), nil, 0o600))
	open(t, dir, disk.Options{})
	if got, want := names(t, dir), []string{".id", ".lock", "spool/", "spool/file", "tmp/"}; !slices.Equal(got, want) {
		t.Errorf("the store has %q, want %q", got, want)
	}
}

func TestOpenOfAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(name, nil, 0o600))
	for _, dir := range []string{name, filepath.Join(name, "below")} {
		if s, err := disk.Open(dir, disk.Options{}); err == nil {
			s.Close()
			t.Errorf("%s is opened", dir)
		}
	}
}

// A directory goes with its last record, and not before.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, disk.Options{})
	for _, key := range []string{"a/b/c/one", "a/b/two", "z"} {
		must(t, putRecord(s, key, "value", store.Absent()))
	}
	for _, step := range []struct {
		delete string
		left   []string
	}{
		{"a/b/c/one", []string{"a/", "a/b/", "a/b/two", "z"}},
		{"a/b/two", []string{"z"}},
		{"z", nil},
	} {
		must(t, s.Records().Delete(t.Context(), step.delete, store.Always()))
		if got := names(t, filepath.Join(dir, "records")); !slices.Equal(got, step.left) {
			t.Errorf("after %s: %q, want %q", step.delete, got, step.left)
		}
	}
	must(t, putRecord(s, "a/b/c/one", "value", store.Absent()))
}

// A key above or below another is refused, and changes nothing.
func TestNestedKeys(t *testing.T) {
	s := open(t, t.TempDir(), disk.Options{})
	must(t, putRecord(s, "a/b", "value", store.Absent()))
	for _, key := range []string{"a", "a/b/c", "a/b/c/d"} {
		if err := putRecord(s, key, "value", store.Always()); !errors.Is(err, store.ErrKey) {
			t.Errorf("Put %s: %v, want ErrKey", key, err)
		}
	}
	check(t, "records", wantRecords(s, "a/b", "value"))
}

// A store whose directory has gone knows nothing, and so nothing of what is absent.
func TestDirectoryGone(t *testing.T) {
	for name, take := range map[string]func(dir string) error{
		"removed": os.RemoveAll,
		"emptied": func(dir string) error {
			entries, err := os.ReadDir(dir)
			for _, e := range entries {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "root")
			s := open(t, dir, disk.Options{})
			must(t, ingestParts(s, digest.SHA256, named, 1))
			must(t, putRecord(s, "a/b", "value", store.Absent()))
			must(t, take(dir))
			ctx := t.Context()
			_, stat := s.Blobs().Stat(ctx, named)
			_, open := s.Blobs().Open(ctx, named, store.Range{})
			_, resume := s.Blobs().Ingest(ctx, linkedID, "")
			_, begin := s.Blobs().Ingest(ctx, "", digest.SHA256)
			_, get := s.Records().Get(ctx, "a/b")
			_, put := s.Records().Put(ctx, "a/b", nil, store.Absent())
			for call, err := range map[string]error{
				"Stat": stat, "Open": open, "Ingest": resume, "new Ingest": begin, "Get": get, "Put": put,
				"Delete of a blob": s.Blobs().Delete(ctx, named), "Delete of a record": s.Records().Delete(ctx, "a/b", store.Always()),
				"All": lastErr(s.Blobs().All(ctx)), "Ingests": lastErr(s.Blobs().Ingests(ctx)), "List": lastErr(s.Records().List(ctx, "", "")),
			} {
				if err == nil || errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: error %v, want one that says why", call, err)
				}
			}
		})
	}
}

// A store that goes while it is listed does not end its listing as if that was all.
func TestDirectoryGoesWhileListed(t *testing.T) {
	for name, list := range map[string]func(ctx context.Context, s *disk.Store, yield func(error) bool){
		"records": func(ctx context.Context, s *disk.Store, yield func(error) bool) {
			s.Records().List(ctx, "", "")(func(_ store.Entry, err error) bool { return yield(err) })
		},
		"directories of records": func(ctx context.Context, s *disk.Store, yield func(error) bool) {
			s.Records().List(ctx, "dirs", "")(func(_ store.Entry, err error) bool { return yield(err) })
		},
		"blobs": func(ctx context.Context, s *disk.Store, yield func(error) bool) {
			s.Blobs().All(ctx)(func(_ store.Info, err error) bool { return yield(err) })
		},
		"ingests": func(ctx context.Context, s *disk.Store, yield func(error) bool) {
			s.Blobs().Ingests(ctx)(func(_ store.IngestInfo, err error) bool { return yield(err) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "root")
			s := open(t, dir, disk.Options{})
			for i := range 10 {
				must(t, putRecord(s, fmt.Sprintf("a/%d", i), "value", store.Absent()))
				must(t, putRecord(s, fmt.Sprintf("dirs/%d/x", i), "value", store.Absent()))
				ing, err := s.Blobs().Ingest(t.Context(), "", digest.SHA256)
				must(t, err)
				_, err = fmt.Fprint(ing, i)
				must(t, err)
				_, err = ing.Commit(t.Context(), digest.FromString(fmt.Sprint(i)))
				must(t, err)
				ing, err = s.Blobs().Ingest(t.Context(), "", digest.SHA256)
				must(t, err)
				must(t, ing.Close())
			}
			seen, last := 0, error(nil)
			list(t.Context(), s, func(err error) bool {
				if seen++; seen == 1 {
					must(t, errors.Join(err, os.RemoveAll(dir)))
				}
				last = err
				return true
			})
			if last == nil || errors.Is(last, store.ErrNotFound) {
				t.Errorf("%d steps, the last one: %v; want an error that says why", seen, last)
			}
		})
	}
}

// Directories that somebody removes are made again.
func TestDirectoryOfRecordsGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, disk.Options{})
	must(t, putRecord(s, "a/b", "value", store.Absent()))
	must(t, os.RemoveAll(filepath.Join(dir, "records")))
	must(t, putRecord(s, "a/b", "value", store.Absent()))
}

func lastErr[T any](seq func(func(T, error) bool)) (last error) {
	for _, err := range seq {
		last = err
	}
	return last
}

// A record's file that is none is an error, and not absent; writing and deleting
// without a condition mend it.
func TestDamagedRecord(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "short": "0123", "no newline": strings.Repeat("a", 40), "not hex": strings.Repeat("x", 32) + "\nvalue",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, disk.Options{})
			damage := func() {
				must(t, putRecord(s, "a/b", "value", store.Always()))
				must(t, os.WriteFile(filepath.Join(dir, "records", "a", "b"), []byte(data), 0o600))
			}
			damage()
			if _, err := s.Records().Get(t.Context(), "a/b"); err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("Get: %v, want an error that is not ErrNotFound", err)
			}
			for _, c := range []store.Condition{store.Absent(), store.Version("v")} {
				if err := putRecord(s, "a/b", "new", c); !errors.Is(err, store.ErrConflict) {
					t.Errorf("Put under a condition: %v, want ErrConflict", err)
				}
			}
			must(t, s.Records().Delete(t.Context(), "a/b", store.Always()))
			damage()
			must(t, putRecord(s, "a/b", "new", store.Always()))
			check(t, "records", wantRecords(s, "a/b", "new"))
		})
	}
}

// Files that are no blobs, no ingests and no records are not listed as such.
func TestStrayFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, disk.Options{})
	must(t, ingestParts(s, digest.SHA256, named, 1))
	ing, err := s.Blobs().Ingest(t.Context(), "", digest.SHA256)
	must(t, errors.Join(err, ing.Cancel()))
	must(t, putRecord(s, "a", "value", store.Absent()))
	for _, name := range []string{
		"blobs/sha256/README", "blobs/sha256/ab", "blobs/README",
		"ingest/README", "ingest/" + linkedID, "ingest/" + linkedID + ".md5", "ingest/" + linkedID + ".state",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	n := 0
	for info, err := range s.Blobs().All(t.Context()) {
		must(t, err)
		if n++; info.Digest != named {
			t.Errorf("All has %s", info.Digest)
		}
	}
	if n != 1 {
		t.Errorf("%d blobs, want 1", n)
	}
	check(t, "ingests", wantNoIngests(s))
}

// A body hands its file to whom it is copied to.
func TestBodyIsAFile(t *testing.T) {
	s := open(t, t.TempDir(), disk.Options{})
	must(t, ingestParts(s, digest.SHA256, named, 1))
	blob, err := s.Blobs().Open(t.Context(), named, store.Range{Off: 3, Len: 100})
	must(t, err)
	defer blob.Body.Close()
	var w taker
	n, err := io.Copy(&w, blob.Body)
	if err != nil || n != 100 || !w.file || w.String() != string(content[3:103]) {
		t.Errorf("copied %d bytes, %v; from a file: %v", n, err, w.file)
	}
}

type taker struct {
	strings.Builder
	file bool
}

func (w *taker) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		_, w.file = l.R.(*os.File)
	}
	return io.Copy(&w.Builder, r)
}
