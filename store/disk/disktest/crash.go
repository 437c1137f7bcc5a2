package disktest

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/weir-registry/weir/store/disk"
)

// Crash is the file system of one directory, which remembers what of it is durable.
// Methods and the calls of the file system are safe for concurrent use; but a hook
// calls no method other than Cut and Calls.
type Crash struct {
	dir string
	fs  disk.FS

	mu    sync.Mutex
	root  *node
	calls int
	hook  func()
}

// NewCrash remembers the directory as it is now, and takes all of it for durable.
// Nobody else changes it from now on, but for files that the store links later: those
// count as written, and not as synced.
func NewCrash(dir string) (*Crash, error) {
	root, err := remember(dir)
	if err != nil {
		return nil, fmt.Errorf("remember %s: %w", dir, err)
	}
	return &Crash{dir: dir, root: root}, nil
}

func remember(dir string) (*node, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	n := newDir()
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		var child *node
		if e.IsDir() {
			child, err = remember(name)
		} else {
			child, err = rememberFile(name)
			child.sync()
		}
		if err != nil {
			return nil, err
		}
		n.change(entry{e.Name(), child})
	}
	n.sync()
	return n, nil
}

// rememberFile gives a file that was written and not synced.
func rememberFile(name string) (*node, error) {
	b, err := os.ReadFile(name)
	return &node{data: b}, err
}

// FS wraps the store's file system: it is for [disk.Options], for one store. Syncs are
// noted and not passed on: nobody cuts the power of the real one.
func (c *Crash) FS(inner disk.FS) disk.FS {
	c.fs = inner
	return crashFS{c}
}

// Hook is called before each call of the file system, and no other call happens
// meanwhile. nil ends that.
func (c *Crash) Hook(hook func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = hook
}

// Calls is how many calls the file system has had, the one before which a hook runs not
// counted. It is for hooks.
func (c *Crash) Calls() int { return c.calls }

// do makes one call: real makes it in the real directory, and then noted notes it.
func (c *Crash) do(real func() error, noted func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hook != nil {
		c.hook()
	}
	c.calls++
	if err := real(); err != nil {
		return err
	}
	return noted()
}

// find gives the node of a name. What the store did not make itself it finds in the
// real directory.
func (c *Crash) find(name string) (*node, error) {
	if name == "." {
		return c.root, nil
	}
	dir, err := c.find(path.Dir(name))
	if err != nil {
		return nil, err
	}
	if n := dir.names[path.Base(name)]; n != nil {
		return n, nil
	}
	full := filepath.Join(c.dir, filepath.FromSlash(name))
	fi, err := os.Lstat(full)
	if err != nil {
		return nil, err
	}
	n := newDir()
	if !fi.IsDir() {
		if n, err = rememberFile(full); err != nil {
			return nil, err
		}
	}
	dir.change(entry{path.Base(name), n})
	return n, nil
}

// put notes that a name in a directory is that node's now, or nobody's (nil).
func (c *Crash) put(name string, n *node) error {
	dir, err := c.find(path.Dir(name))
	if err != nil {
		return err
	}
	dir.change(entry{path.Base(name), n})
	return nil
}

type crashFS struct{ c *Crash }

func (x crashFS) Create(name string) (disk.File, error) {
	n := new(node)
	f := &crashFile{c: x.c, node: n}
	err := x.c.do(func() (err error) {
		f.file, err = x.c.fs.Create(name)
		return err
	}, func() error { return x.c.put(name, n) })
	return f, err
}

func (x crashFS) Append(name string) (disk.File, error) {
	f := &crashFile{c: x.c}
	err := x.c.do(func() (err error) {
		f.file, err = x.c.fs.Append(name)
		return err
	}, func() (err error) {
		f.node, err = x.c.find(name)
		return err
	})
	return f, err
}

func (x crashFS) Mkdir(name string) error {
	return x.c.do(func() error { return x.c.fs.Mkdir(name) },
		func() error { return x.c.put(name, newDir()) })
}

func (x crashFS) Rename(from, to string) error {
	var n *node
	return x.c.do(func() (err error) {
		if n, err = x.c.find(from); err != nil {
			return err
		}
		return x.c.fs.Rename(from, to)
	}, func() error {
		source, err := x.c.find(path.Dir(from))
		if err != nil {
			return err
		}
		target, err := x.c.find(path.Dir(to))
		if err != nil {
			return err
		}
		rename(source, path.Base(from), target, path.Base(to), n)
		return nil
	})
}

func (x crashFS) Link(from, to string) error {
	var n *node
	return x.c.do(func() (err error) {
		if n, err = x.c.find(from); err != nil {
			return err
		}
		return x.c.fs.Link(from, to)
	}, func() error { return x.c.put(to, n) })
}

func (x crashFS) LinkFile(f *os.File, to string) error {
	return x.c.do(func() error { return x.c.fs.LinkFile(f, to) }, func() error {
		n, err := rememberFile(filepath.Join(x.c.dir, filepath.FromSlash(to)))
		if err != nil {
			return err
		}
		return x.c.put(to, n)
	})
}

func (x crashFS) Remove(name string) error {
	return x.c.do(func() error { return x.c.fs.Remove(name) },
		func() error { return x.c.put(name, nil) })
}

func (x crashFS) Touch(name string, at time.Time) error {
	return x.c.do(func() error { return x.c.fs.Touch(name, at) }, func() error { return nil })
}

func (x crashFS) Sync(name string) error {
	var n *node
	return x.c.do(func() (err error) {
		n, err = x.c.find(name)
		return err
	}, func() error {
		n.sync()
		return nil
	})
}

func (x crashFS) SyncAll() error {
	return x.c.do(func() error { return nil }, func() error {
		x.c.root.syncAll()
		return nil
	})
}

type crashFile struct {
	c    *Crash
	file disk.File
	node *node
}

func (f *crashFile) Write(p []byte) (written int, err error) {
	err = f.c.do(func() error {
		var err error
		written, err = f.file.Write(p)
		f.node.data = append(f.node.data, p[:written]...)
		return err
	}, func() error { return nil })
	return written, err
}

func (f *crashFile) Truncate(size int64) error {
	return f.c.do(func() error { return f.file.Truncate(size) },
		func() error { return f.node.truncate(size) })
}

// Flush makes nothing durable, and is no call: what it starts may be lost.
func (f *crashFile) Flush(int64, int64) {}

func (f *crashFile) Sync() error {
	return f.c.do(func() error { return nil }, func() error {
		f.node.sync()
		return nil
	})
}

func (f *crashFile) Close() error {
	return f.c.do(f.file.Close, func() error { return nil })
}

// errGrown says that a file was made longer by a truncation.
var errGrown = errors.New("disktest: a truncation makes the file longer")
