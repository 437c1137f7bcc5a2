package disktest

import (
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/weir-registry/weir/store/disk"
)

// Faulty makes file systems whose calls fail as it is told, and notes the calls. The
// zero value fails none. It may serve several stores at once.
type Faulty struct {
	mu    sync.Mutex
	calls []string
	fail  Fault
}

// Fault says whether a call fails, and why: n is its number since Arm, from 0 on, call
// its name and those of its files ("rename tmp/1 records/a").
//
// A write that fails has written the first half. A file is closed all the same. Other
// calls that fail do nothing.
type Fault func(n int, call string) error

// Nth fails one call, the n-th from 0 on.
func Nth(n int, err error) Fault {
	return func(i int, _ string) error {
		if i == n {
			return err
		}
		return nil
	}
}

// From fails all calls from the n-th on.
func From(n int, err error) Fault {
	return func(i int, _ string) error {
		if i >= n {
			return err
		}
		return nil
	}
}

// FS wraps a store's file system: it is for [disk.Options].
func (f *Faulty) FS(inner disk.FS) disk.FS { return &faultyFS{inner, f} }

// Arm counts calls anew, and lets them fail as the fault says (nil: none does).
func (f *Faulty) Arm(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.fail = nil, fault
}

// Disarm ends the faults, and gives the calls since Arm.
func (f *Faulty) Disarm() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = nil
	return f.calls
}

// next notes a call and gives the error that it fails with.
func (f *Faulty) next(op, names string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	call := op + " " + names
	f.calls = append(f.calls, call)
	if f.fail == nil {
		return nil
	}
	if err := f.fail(len(f.calls)-1, call); err != nil {
		return &fs.PathError{Op: op, Path: names, Err: err}
	}
	return nil
}

func (f *Faulty) do(op, names string, call func() error) error {
	if err := f.next(op, names); err != nil {
		return err
	}
	return call()
}

type faultyFS struct {
	fs disk.FS
	f  *Faulty
}

func (x *faultyFS) open(op, name string, call func(string) (disk.File, error)) (disk.File, error) {
	if err := x.f.next(op, name); err != nil {
		return nil, err
	}
	file, err := call(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, x.f, name}, nil
}

func (x *faultyFS) Create(name string) (disk.File, error) {
	return x.open("create", name, x.fs.Create)
}

func (x *faultyFS) Append(name string) (disk.File, error) {
	return x.open("append", name, x.fs.Append)
}

func (x *faultyFS) Mkdir(name string) error {
	return x.f.do("mkdir", name, func() error { return x.fs.Mkdir(name) })
}

func (x *faultyFS) Rename(from, to string) error {
	return x.f.do("rename", from+" "+to, func() error { return x.fs.Rename(from, to) })
}

func (x *faultyFS) Link(from, to string) error {
	return x.f.do("link", from+" "+to, func() error { return x.fs.Link(from, to) })
}

func (x *faultyFS) LinkFile(f *os.File, to string) error {
	return x.f.do("linkfile", f.Name()+" "+to, func() error { return x.fs.LinkFile(f, to) })
}

func (x *faultyFS) Remove(name string) error {
	return x.f.do("remove", name, func() error { return x.fs.Remove(name) })
}

func (x *faultyFS) Touch(name string, at time.Time) error {
	return x.f.do("touch", name, func() error { return x.fs.Touch(name, at) })
}

func (x *faultyFS) Sync(name string) error {
	return x.f.do("syncname", name, func() error { return x.fs.Sync(name) })
}

func (x *faultyFS) SyncAll() error { return x.f.do("syncall", ".", x.fs.SyncAll) }

type faultyFile struct {
	file disk.File
	f    *Faulty
	name string
}

func (w *faultyFile) Write(p []byte) (int, error) {
	if err := w.f.next("write", w.name); err != nil {
		n, _ := w.file.Write(p[:len(p)/2])
		return n, err
	}
	return w.file.Write(p)
}

func (w *faultyFile) Truncate(size int64) error {
	return w.f.do("truncate", w.name, func() error { return w.file.Truncate(size) })
}

// Flush cannot fail.
func (w *faultyFile) Flush(off, n int64) { w.file.Flush(off, n) }

func (w *faultyFile) Sync() error { return w.f.do("sync", w.name, w.file.Sync) }

func (w *faultyFile) Close() error {
	err := w.f.next("close", w.name)
	if e := w.file.Close(); err == nil {
		err = e
	}
	return err
}
