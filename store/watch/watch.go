package watch

import (
	"io/fs"
	"os"
	"sync"
	"time"
)

const (
	// glance is how often, at most, files are looked at.
	glance = time.Second
	// still is how long a file must not have changed before it is read: it may be
	// half-written, and a certificate and its key are two.
	still = 100 * time.Millisecond
)

// Files is a value that is read from files, and read again when one of them changes.
type Files[T any] struct {
	names  []string
	read   func() (T, error)
	failed func(error)

	mu     sync.Mutex
	value  T
	seen   []fs.FileInfo
	looked time.Time
}

// Open reads a value from files; of the names, "" is none. read makes the value of
// what is in them, and names the file that it complains of. failed is told once per
// change why changed files are not used. Errors: those of read, and of files that
// are not there.
func Open[T any](names []string, read func() (T, error), failed func(error)) (*Files[T], error) {
	f := &Files[T]{read: read, failed: failed, looked: time.Now()}
	for _, name := range names {
		if name != "" {
			f.names = append(f.names, name)
		}
	}
	var err error
	// They are looked at first: what changes in between is then read again.
	if f.seen, err = f.stat(); err != nil {
		return nil, err
	}
	if f.value, err = read(); err != nil {
		return nil, err
	}
	return f, nil
}

// Value gives what the files say.
func (f *Files[T]) Value() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= glance {
		f.looked = now
		f.look(now)
	}
	return f.value
}

// Look takes up at once what changed; now is when that is, by the files' clock.
func (f *Files[T]) Look(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = time.Now()
	f.look(now)
}

func (f *Files[T]) look(now time.Time) {
	seen, err := f.stat()
	if err != nil || same(f.seen, seen) {
		return // one that is away is about to be replaced
	}
	for _, info := range seen {
		if age := now.Sub(info.ModTime()); 0 <= age && age < still {
			return
		}
	}
	f.seen = seen
	v, err := f.read()
	if err != nil {
		f.failed(err)
		return
	}
	f.value = v
}

func (f *Files[T]) stat() ([]fs.FileInfo, error) {
	infos := make([]fs.FileInfo, len(f.names))
	for i, name := range f.names {
		var err error
		if infos[i], err = os.Stat(name); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// same reports whether files look as they did. A link that leads elsewhere is another
// file, though its size and time may be the same.
func same(a, b []fs.FileInfo) bool {
	for i := range a {
		if a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) || !os.SameFile(a[i], b[i]) {
			return false
		}
	}
	return true
}
