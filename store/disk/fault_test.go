package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// fallible is an operation that may be hit by a fault at any of its calls.
type fallible struct {
	name   string
	setup  func(s *disk.Store) error // what is there before
	do     func(s *disk.Store, dir string) error
	before func(s *disk.Store) error // wants the state that do finds
	after  func(s *disk.Store) error // wants the state that do leaves
	frees  bool                      // do deletes a record: it needs no log on a full disk
}

var (
	content = bytes.Repeat([]byte("content "), 1000)
	named   = digest.FromBytes(content)
)

var fallibles = []fallible{
	{
		name:   "ingest and commit",
		do:     func(s *disk.Store, _ string) error { return ingestParts(s, digest.SHA256, named, 2) },
		before: func(s *disk.Store) error { return errors.Join(wantNoBlob(s), finishIngests(s)) },
		after:  func(s *disk.Store) error { return errors.Join(wantBlob(s), wantNoIngests(s)) },
	},
	{
		name: "ingest and commit as another algorithm",
		do: func(s *disk.Store, _ string) error {
			return ingestParts(s, digest.SHA512, named, 1)
		},
		before: func(s *disk.Store) error { return errors.Join(wantNoBlob(s), finishIngests(s)) },
		after:  func(s *disk.Store) error { return errors.Join(wantBlob(s), wantNoIngests(s)) },
	},
	{
		name:   "ingest with resumptions, and commit",
		do:     func(s *disk.Store, _ string) error { return ingestChunks(s, 3) },
		before: func(s *disk.Store) error { return errors.Join(wantNoBlob(s), finishIngests(s)) },
		after:  func(s *disk.Store) error { return errors.Join(wantBlob(s), wantNoIngests(s)) },
	},
	{
		name:   "commit of a blob that is there",
		setup:  func(s *disk.Store) error { return ingestParts(s, digest.SHA256, named, 1) },
		do:     func(s *disk.Store, _ string) error { return ingestParts(s, digest.SHA256, named, 1) },
		before: func(s *disk.Store) error { return errors.Join(wantBlob(s), finishIngests(s)) },
		after:  func(s *disk.Store) error { return errors.Join(wantBlob(s), wantNoIngests(s)) },
	},
	{
		name:   "cancel",
		do:     ingestAndCancel,
		before: func(s *disk.Store) error { return errors.Join(wantNoBlob(s), finishIngests(s)) },
		after:  func(s *disk.Store) error { return errors.Join(wantNoBlob(s), wantNoIngests(s)) },
	},
	{
		name: "adopt",
		do: func(s *disk.Store, dir string) error {
			name := filepath.Join(dir, "spooled")
			if err := os.WriteFile(name, content, 0o600); err != nil {
				return err
			}
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = s.Blobs().Adopt(context.Background(), f, named)
			return err
		},
		before: wantNoBlob,
		after:  wantBlob,
	},
	{
		name: "link",
		do: func(s *disk.Store, dir string) error {
			name := filepath.Join(dir, "spooled")
			if err := os.WriteFile(name, content, 0o600); err != nil {
				return err
			}
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = s.Blobs().Link(context.Background(), f, named)
			return err
		},
		before: wantNoBlob,
		after:  wantBlob,
	},
	{
		name:   "delete a blob",
		setup:  func(s *disk.Store) error { return ingestParts(s, digest.SHA256, named, 1) },
		do:     func(s *disk.Store, _ string) error { return s.Blobs().Delete(context.Background(), named) },
		before: wantBlob,
		after:  wantNoBlob,
	},
	{
		name:   "put a record in new directories",
		do:     func(s *disk.Store, _ string) error { return putRecord(s, "a/b/c", "new", store.Absent()) },
		before: func(s *disk.Store) error { return wantRecords(s) },
		after:  func(s *disk.Store) error { return wantRecords(s, "a/b/c", "new") },
	},
	{
		name:   "put a record beside another",
		setup:  func(s *disk.Store) error { return putRecord(s, "a/b/c", "old", store.Absent()) },
		do:     func(s *disk.Store, _ string) error { return putRecord(s, "a/b/d", "new", store.Always()) },
		before: func(s *disk.Store) error { return wantRecords(s, "a/b/c", "old") },
		after:  func(s *disk.Store) error { return wantRecords(s, "a/b/c", "old", "a/b/d", "new") },
	},
	{
		name:  "put a record over another",
		setup: func(s *disk.Store) error { return putRecord(s, "a/b/c", "old", store.Absent()) },
		do: func(s *disk.Store, _ string) error {
			rec, err := s.Records().Get(context.Background(), "a/b/c")
			if err != nil {
				return err
			}
			return putRecord(s, "a/b/c", "new", store.Version(rec.Version))
		},
		before: func(s *disk.Store) error { return wantRecords(s, "a/b/c", "old") },
		after:  func(s *disk.Store) error { return wantRecords(s, "a/b/c", "new") },
	},
	{
		name:  "put a batch",
		setup: func(s *disk.Store) error { return putRecord(s, "a/b/c", "old", store.Absent()) },
		do: func(s *disk.Store, _ string) error {
			return s.Records().PutAll(context.Background(), []store.Write{
				{Key: "a/b/c", Data: []byte("new")}, {Key: "a/b/d", Data: []byte("new")}, {Key: "0/1", Data: []byte("new")},
			})
		},
		// A beginning of it may be there, and nothing else.
		before: func(s *disk.Store) error {
			err := wantRecords(s, "a/b/c", "old")
			if err != nil && (wantRecords(s, "a/b/c", "new") == nil || wantRecords(s, "a/b/c", "new", "a/b/d", "new") == nil) {
				return nil
			}
			return err
		},
		after: func(s *disk.Store) error {
			return wantRecords(s, "0/1", "new", "a/b/c", "new", "a/b/d", "new")
		},
	},
	{
		name: "delete a record",
		setup: func(s *disk.Store) error {
			return errors.Join(putRecord(s, "a/b/c", "old", store.Absent()), putRecord(s, "a/b/d", "other", store.Absent()))
		},
		do: func(s *disk.Store, _ string) error {
			return s.Records().Delete(context.Background(), "a/b/c", store.Always())
		},
		before: func(s *disk.Store) error { return wantRecords(s, "a/b/c", "old", "a/b/d", "other") },
		after:  func(s *disk.Store) error { return wantRecords(s, "a/b/d", "other") },
		frees:  true,
	},
	{
		name:  "delete the last record of a directory",
		setup: func(s *disk.Store) error { return putRecord(s, "a/b/c", "old", store.Absent()) },
		do: func(s *disk.Store, _ string) error {
			return s.Records().Delete(context.Background(), "a/b/c", store.Always())
		},
		before: func(s *disk.Store) error { return wantRecords(s, "a/b/c", "old") },
		after:  func(s *disk.Store) error { return wantRecords(s) },
		frees:  true,
	},
}

// Each call of each operation fails once. Then the error says why, the state is as
// before, the next try succeeds, and no descriptor is left open. Calls that only
// tidy up may fail without an error; what was asked for is done then.
func TestOneFault(t *testing.T) {
	for _, op := range fallibles {
		for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, io.ErrShortWrite} {
			t.Run(fmt.Sprint(op.name, ", ", fault), func(t *testing.T) {
				failed, writes := 0, 0
				for n := 0; ; n++ {
					dir := t.TempDir()
					s, f := faulty(t, dir)
					setup(t, op, s)
					f.Arm(func(i int, call string) error {
						write := strings.HasPrefix(call, "write ")
						if i != n || fault == io.ErrShortWrite && !write {
							return nil
						}
						return fault
					})
					err := op.do(s, dir)
					calls := f.Disarm()
					if n >= len(calls) {
						check(t, "without a fault", err)
						break
					}
					hit := calls[n]
					if strings.HasPrefix(hit, "write ") {
						writes++
					} else if fault == io.ErrShortWrite {
						check(t, "without a fault", errors.Join(err, s.Close()))
						continue
					}
					if err != nil {
						failed++
						if !errors.Is(err, fault) {
							t.Errorf("%s fails: error %v, want %v", hit, err, fault)
						}
						check(t, hit+" fails: before", op.before(s))
					} else {
						logged := op.frees && fault == syscall.ENOSPC && strings.Contains(hit, " log/")
						if !logged && !tidies(hit, fault) {
							t.Errorf("%s fails, and there is no error", hit)
						}
						check(t, hit+" fails: after", op.after(s))
					}
					if left := leftovers(t, dir); len(left) > 0 && !strings.HasPrefix(hit, "remove tmp/") {
						t.Errorf("%s fails: %v is left in tmp", hit, left)
					}
					if err != nil {
						check(t, hit+" fails: again", op.do(s, dir))
						check(t, hit+" fails: after again", op.after(s))
					}
					check(t, "close", s.Close())
					if got := disktest.OpenFiles(t, dir); got != 0 {
						t.Errorf("%s fails: %d files are left open", hit, got)
					}
				}
				if failed == 0 && (writes > 0 || fault != io.ErrShortWrite) {
					t.Error("no fault led to an error")
				}
			})
		}
	}
}

// tidies reports whether the operation need not notice that a call failed: what it
// does is done by then, or can be done in another way.
func tidies(call string, fault error) bool {
	switch op, names, _ := strings.Cut(call, " "); op {
	case "remove":
		return strings.HasPrefix(names, "tmp/") || strings.HasPrefix(names, "records/")
	case "close":
		return strings.HasPrefix(names, "ingest/") // synced before
	case "rename": // a delete on a full disk
		_, to, _ := strings.Cut(names, " ")
		return fault == syscall.ENOSPC && strings.HasPrefix(to, "tmp/")
	default:
		return false
	}
}

// From one call on, all calls fail: the disk is dead, or the process is. Whoever
// opens the directory then finds the state before or after, and nothing between.
func TestAllFaultsFromOneOn(t *testing.T) {
	for _, op := range fallibles {
		t.Run(op.name, func(t *testing.T) {
			for n := 0; ; n++ {
				dir := t.TempDir()
				s, f := faulty(t, dir)
				setup(t, op, s)
				f.Arm(disktest.From(n, syscall.EIO))
				err := op.do(s, dir)
				calls := f.Disarm()
				if n >= len(calls) {
					check(t, "without a fault", err)
					break
				}
				check(t, "close", s.Close())
				if got := disktest.OpenFiles(t, dir); got != 0 {
					t.Errorf("from %s on: %d files are left open", calls[n], got)
				}

				s = open(t, dir, disk.Options{})
				after := op.after(s)
				if before := op.before(s); err == nil && after != nil || before != nil && after != nil {
					t.Errorf("from %s on, with error %v: not as before: %v; not as after: %v", calls[n], err, before, after)
				}
				if left := leftovers(t, dir); len(left) > 0 {
					t.Errorf("from %s on: %v is left in tmp", calls[n], left)
				}
				check(t, "close", s.Close())
			}
		})
	}
}

func setup(t *testing.T, op fallible, s *disk.Store) {
	t.Helper()
	if op.setup != nil {
		check(t, "setup", op.setup(s))
	}
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}
