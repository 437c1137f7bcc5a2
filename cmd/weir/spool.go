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

// newSpool makes a directory in dir that is this process's until release, which removes it.
// Those of processes that have ended without that go: the kernel has let go of their locks.
func newSpool(dir string) (spool string, release func() error, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, err
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
		if spool, err = os.MkdirTemp(dir, spoolPrefix+"*"); err != nil {
			return "", nil, err
		}
		lock, err := holdSpool(spool)
		switch {
		case err == nil:
			return spool, func() error { return errors.Join(os.RemoveAll(spool), lock.Close()) }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist):
			return "", nil, errors.Join(err, os.Remove(spool))
		}
		// Another weir that starts has taken it for one that was left.
	}
}

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
