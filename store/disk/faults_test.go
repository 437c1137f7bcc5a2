package disk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/store/disk"
)

// faults is a file system, some of whose calls fail; it notes all of them.
type faults struct {
	fs disk.FS

	mu    sync.Mutex
	calls []string
	fail  func(n int) error // of the n-th call since arm, from 0 on
}

// faulty opens a store over a file system that fails as it is armed.
func faulty(t *testing.T, dir string) (*disk.Store, *faults) {
	t.Helper()
	f := new(faults)
	s := open(t, dir, disk.Options{FS: func(inner disk.FS) disk.FS {
		f.fs = inner
		return f
	}})
	return s, f
}

// arm counts calls anew, and lets them fail as fail says.
func (f *faults) arm(fail func(n int) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.fail = nil, fail
}

// disarm ends the faults, and gives the calls since arm.
func (f *faults) disarm() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = nil
	return f.calls
}

// next notes a call and gives the error that it fails with.
func (f *faults) next(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, op+" "+name)
	if f.fail == nil {
		return nil
	}
	if err := f.fail(len(f.calls) - 1); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (f *faults) do(op, name string, call func() error) error {
	if err := f.next(op, name); err != nil {
		return err
	}
	return call()
}

func (f *faults) file(op, name string, call func(string) (disk.File, error)) (disk.File, error) {
	if err := f.next(op, name); err != nil {
		return nil, err
	}
	file, err := call(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f, name}, nil
}

func (f *faults) Create(name string) (disk.File, error) { return f.file("create", name, f.fs.Create) }

func (f *faults) Append(name string) (disk.File, error) { return f.file("append", name, f.fs.Append) }

func (f *faults) Mkdir(name string) error {
	return f.do("mkdir", name, func() error { return f.fs.Mkdir(name) })
}

func (f *faults) Rename(from, to string) error {
	return f.do("rename", from+" "+to, func() error { return f.fs.Rename(from, to) })
}

func (f *faults) Link(from, to string) error {
	return f.do("link", from+" "+to, func() error { return f.fs.Link(from, to) })
}

func (f *faults) Remove(name string) error {
	return f.do("remove", name, func() error { return f.fs.Remove(name) })
}

func (f *faults) Touch(name string, at time.Time) error {
	return f.do("touch", name, func() error { return f.fs.Touch(name, at) })
}

func (f *faults) Sync(name string) error {
	return f.do("syncname", name, func() error { return f.fs.Sync(name) })
}

type faultyFile struct {
	disk.File
	f    *faults
	name string
}

// Write fails half-way.
func (w *faultyFile) Write(p []byte) (int, error) {
	if err := w.f.next("write", w.name); err != nil {
		n, _ := w.File.Write(p[:len(p)/2])
		return n, err
	}
	return w.File.Write(p)
}

func (w *faultyFile) Truncate(size int64) error {
	return w.f.do("truncate", w.name, func() error { return w.File.Truncate(size) })
}

func (w *faultyFile) Sync() error { return w.f.do("sync", w.name, w.File.Sync) }

// Close closes the file even where it fails, as the kernel does.
func (w *faultyFile) Close() error {
	err := w.f.next("close", w.name)
	if e := w.File.Close(); err == nil {
		err = e
	}
	return err
}

// openFiles counts the descriptors of this process that lie below dir.
func openFiles(t *testing.T, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err == nil && strings.HasPrefix(name, dir) {
			n++
		}
	}
	return n
}

// leftovers lists what is in tmp.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
