package fill

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Spools is a directory of spools. One process uses it at a time.
type Spools struct {
	root *os.Root
	dir  string
}

// OpenSpools opens, and makes if need be, the directory dir for spools, and
// removes what an earlier process left there. For a spool to be adopted without a
// copy, dir must lie below the root of the store that adopts it.
func OpenSpools(dir string) (*Spools, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open spools: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spools: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open spools: %w", err)
	}
	s := &Spools{root: root, dir: dir}
	if err := s.sweep(); err != nil {
		return nil, errors.Join(fmt.Errorf("sweep spools: %w", err), root.Close())
	}
	return s, nil
}

func (s *Spools) sweep() error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.root.Remove(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the directory. Spools in use keep working, but cannot be opened
// again.
func (s *Spools) Close() error { return s.root.Close() }

// Spool is the local file of one running fill: ranges land in it in any order,
// and every reader has a file of its own.
type Spool struct {
	spools *Spools
	name   string
	file   *os.File
}

// New makes an empty spool.
func (s *Spools) New() (*Spool, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	name := hex.EncodeToString(id[:])
	// O_EXCL: a name is made once, and a link planted at it is not followed.
	f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("new spool: %w", err)
	}
	return &Spool{spools: s, name: name, file: f}, nil
}

// WriteAt writes p at off.
func (s *Spool) WriteAt(p []byte, off int64) (int, error) { return s.file.WriteAt(p, off) }

// ReadAt reads from off what was written there.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) { return s.file.ReadAt(p, off) }

// Open opens the spool for a reader of its own, positioned at off.
func (s *Spool) Open(off int64) (*os.File, error) {
	f, err := s.spools.root.Open(s.name)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	if _, err := f.Seek(off, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool: %w", err), f.Close())
	}
	return f, nil
}

// File opens the spool under its absolute name, for a store to adopt it.
func (s *Spool) File() (*os.File, error) {
	return os.OpenFile(filepath.Join(s.spools.dir, s.name), os.O_RDWR, 0)
}

// Remove removes the spool. Readers that have it open are not disturbed.
func (s *Spool) Remove() error {
	return errors.Join(s.spools.root.Remove(s.name), s.file.Close())
}
