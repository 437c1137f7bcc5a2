package disk

import (
	"os"
	"path"
	"sync"
)

// shelves keeps the directories that blobs were read from open, one for each
// algorithm. A walk down to one costs four system calls, as many as all the rest
// of a hit.
//
// A directory may be taken away and made anew beside the store (a restored
// backup). So what a shelf does not have, or could not give, is looked for by its
// full name, and a shelf that was wrong is dropped.
type shelves struct {
	root *os.Root

	mu   sync.RWMutex
	open map[string]*os.Root // by directory; nil once closed
}

func newShelves(root *os.Root) *shelves {
	return &shelves{root: root, open: make(map[string]*os.Root)}
}

// close lets go of all directories; what is asked afterwards goes to the root.
func (s *shelves) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shelf := range s.open {
		shelf.Close()
	}
	s.open = nil
}

// lstat describes the file of that name, not what a link names.
func (s *shelves) lstat(name string) (os.FileInfo, error) {
	return look(s, name, (*os.Root).Lstat)
}

// file opens the file of that name for reading.
func (s *shelves) file(name string) (*os.File, error) {
	return look(s, name, openFile)
}

// look does something with the file of that name.
func look[T any](s *shelves, name string, do func(in *os.Root, name string) (T, error)) (T, error) {
	dir, base := path.Split(name)
	shelf := s.of(dir)
	if shelf == nil {
		return do(s.root, name)
	}
	v, err := do(shelf, base)
	if err == nil {
		return v, nil
	}
	v, err = do(s.root, name)
	if err == nil {
		s.drop(dir, shelf)
	}
	return v, err
}

// of gives an open directory; nil if it could not be opened.
func (s *shelves) of(dir string) *os.Root {
	s.mu.RLock()
	shelf := s.open[dir]
	s.mu.RUnlock()
	if shelf != nil {
		return shelf
	}
	shelf, err := s.root.OpenRoot(dir)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.open[dir]; first != nil || s.open == nil {
		shelf.Close()
		return first
	}
	s.open[dir] = shelf
	return shelf
}

// drop closes a directory; who uses it just then is not disturbed.
func (s *shelves) drop(dir string, shelf *os.Root) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[dir] == shelf {
		delete(s.open, dir)
		shelf.Close()
	}
}
