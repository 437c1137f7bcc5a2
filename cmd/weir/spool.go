package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// spoolPrefix begins the names of directories of running fills among what is temporary.
const spoolPrefix = "weir-spool-"

// ownSpool is a directory that is this process's while it has its lock.
type ownSpool struct {
	dir  string
	lock *os.File
}

// newSpool makes a directory in dir that is this process's until release. Those of processes
// that have ended without that go: the kernel has let go of their locks.
func newSpool(dir string) (*ownSpool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), spoolPrefix) {
			continue
		}
		left := filepath.Join(dir, e.Name())
		if lock, err := holdSpool(left); err == nil {
			_ = os.RemoveAll(left) // what stays is tried again by the next one
			_ = lock.Close()       // it was only read
		}
	}
	for {
		spool, err := os.MkdirTemp(dir, spoolPrefix+"*")
		if err != nil {
			return nil, err
		}
		lock, err := holdSpool(spool)
		switch {
		case err == nil:
			return &ownSpool{spool, lock}, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist):
			return nil, errors.Join(err, os.Remove(spool))
		}
		// Another weir that starts has taken it for one that was left.
	}
}

// hold takes the lock of the directory where it was made anew. Errors: those of holdSpool.
func (s *ownSpool) hold() error {
	lock, err := holdSpool(s.dir)
	if err != nil {
		return err
	}
	_ = s.lock.Close() // of a directory that is gone
	s.lock = lock
	return nil
}

// release removes the directory.
func (s *ownSpool) release() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Close()) }

// holdSpool takes the lock of a directory, which must be this user's, for as long as the file is
// open. Errors: syscall.EWOULDBLOCK: somebody has it; fs.ErrNotExist; those of the system.
func holdSpool(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0) // everybody may put links there
	if err != nil {
		return nil, err
	}
	held, err := f.Stat()
	if err == nil {
		err = fs.ErrPermission
		if is, ok := held.Sys().(*syscall.Stat_t); ok && int(is.Uid) == os.Geteuid() {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		}
	}
	if err == nil {
		// Who had it before may have removed it.
		var now fs.FileInfo
		if now, err = os.Lstat(dir); err == nil && !os.SameFile(held, now) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
