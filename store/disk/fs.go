package disk

import (
	"io"
	"os"
	"path/filepath"
	"time"
)

// FS is all that the store does to a file system but read. Names are relative to
// the store's root and separated by slashes. Errors wrap the system's.
type FS interface {
	// Create makes a file of mode 0600, which must not exist, for writing at its end.
	Create(name string) (File, error)
	// Append opens a file that exists for writing at its end.
	Append(name string) (File, error)
	// Mkdir makes a directory of mode 0700.
	Mkdir(name string) error
	// Rename gives a file another name, in place of what has it.
	Rename(from, to string) error
	// Link gives a file a further name, which must not exist.
	Link(from, to string) error
	// LinkFile gives a file from elsewhere, by the name that it was opened by, a further
	// name in the root, which must not exist.
	LinkFile(f *os.File, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Touch sets when a file was modified.
	Touch(name string, at time.Time) error
	// Sync makes durable what a file holds, or which names a directory has.
	Sync(name string) error
	// SyncAll makes durable all that is below the root.
	SyncAll() error
}

// File is a file that is being written.
type File interface {
	io.Writer
	// Truncate cuts the file to size bytes.
	Truncate(size int64) error
	// Flush lets the system begin to write n bytes from off on to the disk, and does
	// not wait. It makes nothing durable; it leaves less to do to a later Sync.
	Flush(off, n int64)
	// Sync makes durable what was written.
	Sync() error
	Close() error
}

// rootFS is the FS of a directory. lock is a file in it that is open all the time: the
// system tells by it what could not be written since SyncAll was called last, and not
// only since a file was opened.
type rootFS struct {
	root *os.Root
	lock *os.File
}

func (r rootFS) Create(name string) (File, error) {
	return r.open(name, os.O_CREATE|os.O_EXCL|os.O_APPEND)
}

func (r rootFS) Append(name string) (File, error) {
	return r.open(name, os.O_APPEND)
}

func (r rootFS) open(name string, flag int) (File, error) {
	f, err := r.root.OpenFile(name, os.O_WRONLY|flag, 0o600)
	if err != nil {
		return nil, err
	}
	return rootFile{f}, nil
}

func (r rootFS) Mkdir(name string) error      { return r.root.Mkdir(name, 0o700) }
func (r rootFS) Rename(from, to string) error { return r.root.Rename(from, to) }
func (r rootFS) Link(from, to string) error   { return r.root.Link(from, to) }
func (r rootFS) LinkFile(f *os.File, to string) error {
	return os.Link(f.Name(), filepath.Join(r.root.Name(), filepath.FromSlash(to)))
}

func (r rootFS) Remove(name string) error { return r.root.Remove(name) }

func (r rootFS) Touch(name string, at time.Time) error { return r.root.Chtimes(name, at, at) }

func (r rootFS) Sync(name string) error {
	f, err := r.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (r rootFS) SyncAll() error { return syncAll(r.lock) }

// rootFile is a File of rootFS.
type rootFile struct{ *os.File }
