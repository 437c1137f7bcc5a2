package disk

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
)

// maxKnown bounds the memory of dirs; forgetting costs a sync per directory.
const maxKnown = 1 << 16

// dirs makes directories and removes empty ones.
//
// A file is durable only if all directories above it are, and a directory that
// exists need not be: another goroutine may be about to sync it, or a process
// that was killed before it did. So a directory counts as durable only once its
// parent was synced by this process after the directory was seen.
type dirs struct {
	*syncs
	root *os.Root

	// pruning is held for reading by whoever relies on a directory, and for writing
	// while empty ones are removed.
	pruning sync.RWMutex

	mu    sync.Mutex
	known map[string]struct{} // durable
}

// enter makes dir and its parents, durably, and keeps it from being pruned until
// leave is called. Who has entered does not enter again before: he would wait for one who
// waits to prune, and that one for him.
func (d *dirs) enter(dir string) (leave func(), err error) {
	leave = d.stay()
	if err := d.make(dir); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// stay keeps all directories from being pruned until leave is called.
func (d *dirs) stay() (leave func()) {
	d.pruning.RLock()
	return d.pruning.RUnlock
}

func (d *dirs) make(dir string) error {
	if dir == "." || d.knows(dir) {
		return nil
	}
	parent := path.Dir(dir)
	if err := d.make(parent); err != nil {
		return err
	}
	err := d.fs.Mkdir(dir)
	if errors.Is(err, fs.ErrExist) {
		err = d.isDir(dir)
	}
	if err == nil {
		err = d.sync(parent)
	}
	if err != nil {
		d.forgetIfGone(err)
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxKnown {
		clear(d.known)
	}
	d.known[dir] = struct{}{}
	return nil
}

// find makes dir and its parents where they are not there. Nothing of it is durable.
func (d *dirs) find(dir string) error {
	err := d.isDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.find(path.Dir(dir)); err != nil {
		return err
	}
	err = d.fs.Mkdir(dir)
	if errors.Is(err, fs.ErrExist) {
		err = d.isDir(dir)
	}
	return err
}

func (d *dirs) knows(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.known[dir]
	return ok
}

// forgetIfGone forgets all that is known when err says that a directory is not
// there: somebody else has removed it, and the next writer makes it again.
func (d *dirs) forgetIfGone(err error) {
	if errors.Is(err, fs.ErrNotExist) {
		d.mu.Lock()
		defer d.mu.Unlock()
		clear(d.known)
	}
}

// prune removes dir and its parents as far as they are empty, but not top. That
// a removed directory comes back after a crash does no harm: nothing is synced.
func (d *dirs) prune(dir, top string) {
	d.pruning.Lock()
	defer d.pruning.Unlock()
	for ; dir != top; dir = path.Dir(dir) {
		// A record may have the name by now, if the directory went meanwhile.
		err := d.isDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // who removed it may have been interrupted
		}
		if err != nil || d.fs.Remove(dir) != nil {
			return
		}
		d.mu.Lock()
		delete(d.known, dir)
		d.mu.Unlock()
	}
}

func (d *dirs) isDir(name string) error {
	fi, err := d.root.Lstat(name)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	return err
}
