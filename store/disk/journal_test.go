package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// syncs counts the syncs among calls.
func syncs(calls []string) int {
	n := 0
	for _, call := range calls {
		if strings.HasPrefix(call, "sync") {
			n++
		}
	}
	return n
}

// wantLogs wants so many logs in a store's directory.
func wantLogs(t *testing.T, dir string, want int) {
	t.Helper()
	logs, err := os.ReadDir(filepath.Join(dir, "log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(logs) != want {
		t.Errorf("%d logs are there, want %d", len(logs), want)
	}
}

// One who writes alone syncs once, whether the record is new, in a new directory, there
// already, or deleted.
func TestOneSyncForARecord(t *testing.T) {
	s, f := faulty(t, t.TempDir())
	must(t, putRecord(s, "first", "begins the log", store.Always()))
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"new", func() error { return putRecord(s, "new/directory/key", "value", store.Absent()) }},
		{"over", func() error { return putRecord(s, "new/directory/key", "another", store.Always()) }},
		{"batch", func() error {
			return s.Records().PutAll(t.Context(), []store.Write{{Key: "of/three"}, {Key: "new/directory/key"}, {Key: "in/other/directories"}})
		}},
		{"delete", func() error { return s.Records().Delete(t.Context(), "new/directory/key", store.Always()) }},
	} {
		f.Arm(nil)
		must(t, c.do())
		if calls := f.Disarm(); syncs(calls) != 1 {
			t.Errorf("%s: %d syncs, want 1:\n%s", c.name, syncs(calls), strings.Join(calls, "\n"))
		}
	}
}

// A batch is one piece of the log, and its records get their names in its order.
func TestOrderOfABatch(t *testing.T) {
	s, f := faulty(t, t.TempDir())
	f.Arm(nil)
	must(t, s.Records().PutAll(t.Context(), []store.Write{{Key: "z"}, {Key: "a/b"}, {Key: "m"}}))
	var got []string
	for _, call := range f.Disarm() {
		op, names, _ := strings.Cut(call, " ")
		switch {
		case op == "write" && strings.HasPrefix(names, "log/"), op == "sync":
			got = append(got, op)
		case op == "rename":
			_, to, _ := strings.Cut(names, " ")
			got = append(got, to)
		}
	}
	if want := []string{"write", "sync", "records/z", "records/a/b", "records/m"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A log that is full goes when its records are durable in their files; after a good end
// there is none.
func TestLogsGo(t *testing.T) {
	dir := t.TempDir()
	var f disktest.Faulty
	s := open(t, dir, disk.Options{FS: f.FS, LogSize: 100})
	f.Arm(nil)
	for i := range 20 {
		must(t, putRecord(s, fmt.Sprint("a/", i), strings.Repeat("x", 50), store.Absent()))
	}
	must(t, putRecord(s, "a/0", "last", store.Always()))
	must(t, s.Close())
	wantLogs(t, dir, 0)
	calls := f.Disarm()
	inOrder(t, calls, "create log/00000000000000000001", "syncname log", "sync log/00000000000000000001",
		"syncall .", "remove log/00000000000000000001", "syncname log")
	last := calls[len(calls)-2:]
	if !strings.HasPrefix(last[0], "remove log/") || last[1] != "syncname log" {
		t.Errorf("the last calls are %q: the end of the last log is not durable", last)
	}
	// A directory that never had a log opens as well.
	must(t, os.Remove(filepath.Join(dir, "log")))
	s = open(t, dir, disk.Options{})
	if rec, err := s.Records().Get(t.Context(), "a/0"); err != nil || string(rec.Data) != "last" {
		t.Errorf("Get: %q, %v", rec.Data, err)
	}
}

// What a log holds is there after a power cut, whatever has become of the files.
func TestReplay(t *testing.T) {
	dir, after := t.TempDir(), filepath.Join(t.TempDir(), "after")
	s := open(t, dir, disk.Options{LogSize: 1 << 20})
	must(t, putRecord(s, "a/kept", "one", store.Absent()))
	must(t, putRecord(s, "a/kept", "two", store.Always()))
	must(t, putRecord(s, "was/a/path", "old", store.Absent()))
	must(t, s.Records().Delete(t.Context(), "was/a/path", store.Always()))
	must(t, putRecord(s, "was", "a record now", store.Absent()))
	must(t, putRecord(s, "gone", "old", store.Absent()))
	must(t, s.Records().Delete(t.Context(), "gone", store.Always()))
	version, err := s.Records().Put(t.Context(), "b/new", []byte("three"), store.Absent())
	must(t, err)
	want := []string{"a/kept", "two", "b/new", "three", "was", "a record now"}
	must(t, wantRecords(s, want...))

	for name, spoil := range map[string]func(records string) error{
		"nothing is lost": func(string) error { return nil },
		"no file is left": os.RemoveAll,
		"files are empty, and old ones are back": func(records string) error {
			return errors.Join(
				os.Truncate(filepath.Join(records, "a/kept"), 0),
				os.WriteFile(filepath.Join(records, "gone"), []byte("old"), 0o600),
				os.Remove(filepath.Join(records, "was")),
				os.Remove(filepath.Join(records, "b/new")),
				os.MkdirAll(filepath.Join(records, "was/a"), 0o700),
				os.MkdirAll(filepath.Join(records, "was/never/written"), 0o700),
				os.MkdirAll(filepath.Join(records, "b/new"), 0o700),
				os.WriteFile(filepath.Join(records, "was/a/path"), []byte("old"), 0o600),
			)
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.RemoveAll(after))
			must(t, os.CopyFS(after, os.DirFS(dir)))
			must(t, spoil(filepath.Join(after, "records")))
			// The process is interrupted at each of its calls, and begins anew.
			for n := 0; ; n++ {
				f := new(disktest.Faulty)
				f.Arm(disktest.From(n, syscall.EIO))
				s, err := disk.Open(after, disk.Options{FS: f.FS, Boot: "another"})
				if err != nil && !errors.Is(err, syscall.EIO) {
					t.Fatal(err)
				}
				if err == nil {
					check(t, "records", wantRecords(s, want...))
					rec, err := s.Records().Get(t.Context(), "b/new")
					if err != nil || rec.Version != version {
						t.Errorf("b/new is of version %s, want %s (%v)", rec.Version, version, err)
					}
					wantLogs(t, after, 0)
					must(t, s.Close())
					break
				}
			}
		})
	}
}

// What follows a torn entry was never acknowledged. What follows it in the next log was.
func TestReplayOfTornLogs(t *testing.T) {
	dir := t.TempDir()
	var f disktest.Faulty
	s := open(t, dir, disk.Options{FS: f.FS})
	must(t, putRecord(s, "a", "one", store.Always()))
	f.Arm(func(_ int, call string) error {
		if call == "sync log/00000000000000000001" || strings.HasPrefix(call, "syncall") {
			return syscall.EIO
		}
		return nil
	})
	if err := putRecord(s, "a", "two", store.Always()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Put: %v, want EIO", err)
	}
	must(t, wantRecords(s, "a", "one"))
	must(t, putRecord(s, "b", "three", store.Always()))
	wantLogs(t, dir, 2) // the first stays, since not all could be synced

	after := filepath.Join(t.TempDir(), "after")
	must(t, os.CopyFS(after, os.DirFS(dir)))
	first := filepath.Join(after, "log", "00000000000000000001")
	log, err := os.OpenFile(first, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = log.Write([]byte("torn"))
	must(t, errors.Join(err, log.Close()))
	must(t, os.RemoveAll(filepath.Join(after, "records")))
	check(t, "records", wantRecords(open(t, after, disk.Options{}), "a", "one", "b", "three"))
}

// What a killed process has written to a log and not synced is durable before it
// touches a record's file: a power cut could take it away, and leave the file torn.
func TestReplaySyncsFirst(t *testing.T) {
	dir, after := t.TempDir(), filepath.Join(t.TempDir(), "after")
	must(t, putRecord(open(t, dir, disk.Options{}), "a", "one", store.Always()))
	must(t, os.CopyFS(after, os.DirFS(dir)))
	var f disktest.Faulty
	f.Arm(nil)
	must(t, open(t, after, disk.Options{FS: f.FS}).Close())
	inOrder(t, f.Disarm(), "syncname log/00000000000000000001", "rename tmp/", "syncall .",
		"remove log/00000000000000000001", "syncname log")
}

// A failed write leaves no trace in the log, and the next one is behind what was there.
func TestFailedWriteOfALog(t *testing.T) {
	dir := t.TempDir()
	var f disktest.Faulty
	s := open(t, dir, disk.Options{FS: f.FS})
	must(t, putRecord(s, "a", "one", store.Always()))
	f.Arm(func(_ int, call string) error {
		if strings.HasPrefix(call, "write log/") {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := putRecord(s, "a", "two", store.Always()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Put: %v, want ENOSPC", err)
	}
	f.Disarm()
	must(t, putRecord(s, "b", "three", store.Always()))
	wantLogs(t, dir, 1)
	after := filepath.Join(t.TempDir(), "after")
	must(t, os.CopyFS(after, os.DirFS(dir)))
	must(t, os.RemoveAll(filepath.Join(after, "records")))
	check(t, "records", wantRecords(open(t, after, disk.Options{}), "a", "one", "b", "three"))
}

// On a full disk records can be deleted, and do not come back.
func TestDeleteWithoutRoomForALog(t *testing.T) {
	dir := t.TempDir()
	var f disktest.Faulty
	s := open(t, dir, disk.Options{FS: f.FS})
	must(t, putRecord(s, "a", "one", store.Always()))
	must(t, putRecord(s, "b", "two", store.Always()))
	f.Arm(func(_ int, call string) error {
		if strings.HasPrefix(call, "write ") || strings.HasPrefix(call, "create ") {
			return syscall.ENOSPC
		}
		return nil
	})
	must(t, s.Records().Delete(t.Context(), "a", store.Always()))
	f.Disarm()
	wantLogs(t, dir, 0)
	check(t, "records", wantRecords(s, "b", "two"))
}

// A record whose file cannot get its name is what it was, after a power cut too.
func TestRenameFailsBehindTheLog(t *testing.T) {
	dir := t.TempDir()
	var f disktest.Faulty
	s := open(t, dir, disk.Options{FS: f.FS})
	must(t, putRecord(s, "a/old", "one", store.Always()))
	for _, key := range []string{"a/old", "b/new"} {
		f.Arm(func(_ int, call string) error {
			if strings.HasPrefix(call, "rename ") {
				return syscall.EIO
			}
			return nil
		})
		if err := putRecord(s, key, "two", store.Always()); !errors.Is(err, syscall.EIO) {
			t.Errorf("Put: %v, want EIO", err)
		}
		f.Disarm()
	}
	after := filepath.Join(t.TempDir(), "after")
	must(t, os.CopyFS(after, os.DirFS(dir)))
	check(t, "records", wantRecords(open(t, after, disk.Options{}), "a/old", "one"))
}
