package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrOther says that a directory is not the store that it should be.
var ErrOther = errors.New("store/disk: the directory is another store, or none")

// ID names the store for good: it is written down in its directory, and with a copy of
// that it is the same.
func (s *Store) ID() string { return s.id }

// Replaced reports whether the directory that the store was opened by leads to another
// one by now: one that was mounted or restored there. Where there is none, or none can
// be seen, there is nothing yet that it was replaced by.
func (s *Store) Replaced() bool {
	there, err := os.Stat(s.dir)
	return err == nil && there.IsDir() && !os.SameFile(there, s.self)
}

// here gives errGone where the directory that the store was opened by is not there any
// more, or is another one.
func (s *Store) here() error {
	if _, err := s.root.Lstat(lockName); err != nil {
		return fmt.Errorf("%w (%w)", errGone, err)
	}
	there, err := os.Stat(s.dir)
	if err == nil && !os.SameFile(there, s.self) {
		err = fmt.Errorf("%s is another directory now", s.dir)
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", errGone, err)
	}
	return nil
}

// check gives ErrOther unless dir is the store of that name. It changes nothing there.
func check(dir, id string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch found, err := readID(root); {
	case errors.Is(err, fs.ErrNotExist), err == nil && found != id:
		return ErrOther
	default:
		return err
	}
}

// identify reads the name of the store, or gives it one. One that is damaged is as good
// as none: nothing but what runs now knows it.
func (s *Store) identify() (err error) {
	if s.self, err = s.root.Stat("."); err != nil {
		return err
	}
	if s.id, err = readID(s.root); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrOther) {
		return err
	}
	s.id = newID()
	name := s.tempName()
	f, err := s.fs.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(s.id))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = s.fs.Rename(name, idName)
	}
	if err != nil {
		s.discard(name)
		return err
	}
	return s.fs.Sync(".")
}

// readID reads the name of the store whose directory root is. Errors: fs.ErrNotExist, and
// ErrOther where it is no name.
func readID(root *os.Root) (string, error) {
	f, err := root.Open(idName)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, idLen+1))
	if err == nil && !validID(string(b)) {
		err = fmt.Errorf("%s: %w", idName, ErrOther)
	}
	return string(b), err
}
