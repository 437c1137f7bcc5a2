package fill

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spools is a directory of spools. One process uses it at a time.
type Spools struct {
	dir  string
	in   os.FileInfo                 // the directory that dir lies in
	seam func(readWriter) readWriter // tests stand between a fill and its files,
	call func(op, name string) error // and before one is opened or removed

	mu   sync.Mutex
	root *os.Root
	hold func() error      // takes the lock of a directory that was made anew; nil: it has none
	left map[string]string // by a key's id: the spool of a fill that did not end
}

type readWriter interface {
	io.ReaderAt
	io.WriterAt
	io.Writer
}

// OpenSpools opens, and makes if need be, the directory dir for spools. What an
// earlier process left there of fills that did not end is kept for those who ask
// for the same again; see Sweep. For a spool to be adopted without a copy, dir must
// lie below the root of the store that adopts it.
func OpenSpools(dir string) (*Spools, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open spools: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spools: %w", err)
	}
	in, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return nil, fmt.Errorf("open spools: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open spools: %w", err)
	}
	s := &Spools{
		root: root, dir: dir, in: in, left: map[string]string{},
		seam: func(f readWriter) readWriter { return f },
		call: func(string, string) error { return nil },
	}
	if err := s.scan(); err != nil {
		return nil, errors.Join(fmt.Errorf("open spools: %w", err), root.Close())
	}
	return s, nil
}

// scan takes note of spools that have a journal, and removes all else: also those that a
// store has adopted, whose bytes would be there twice as long as the blob, and longer.
func (s *Spools) scan() error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = e.Type().IsRegular() && !s.adopted(e.Name())
	}
	for name := range there {
		spool := strings.TrimSuffix(name, journalSuffix)
		id, _, ok := strings.Cut(spool, ".")
		other, known := s.left[id]
		switch {
		case ok && there[spool] && there[spool+journalSuffix] && (!known || other == spool):
			s.left[id] = spool
		default:
			if err := s.root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopted reports whether the file has another name.
func (s *Spools) adopted(name string) bool {
	info, err := s.root.Stat(name)
	if err != nil {
		return false // it is looked at again when it is opened
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	return ok && is.Nlink > 1
}

// Hold has hold called for the directory whenever it was made anew, before anything is put
// there: a lock went with the one before. One that hold refuses is not used.
func (s *Spools) Hold(hold func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
}

// Close closes the directory. Spools in use keep working, but cannot be opened
// again.
func (s *Spools) Close() error { return s.at().Close() }

// at is the directory.
func (s *Spools) at() *os.Root {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root
}

// renew makes the directory anew, which was taken away under us; but not where the one
// that it lay in was, or is another one, such as where nothing is mounted.
func (s *Spools) renew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, err := s.root.Stat(".")
	if err != nil {
		return err
	}
	if now, err := os.Stat(s.dir); err == nil && os.SameFile(was, now) {
		return nil // another fill was first
	}
	parent := filepath.Dir(s.dir)
	in, err := os.Stat(parent)
	if err != nil {
		return err
	}
	if !os.SameFile(in, s.in) {
		return fmt.Errorf("%s: %w: it is another directory now", parent, fs.ErrNotExist)
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	if s.hold != nil {
		if err := s.hold(); err != nil {
			return errors.Join(err, root.Close())
		}
	}
	old := s.root
	s.root = root
	return old.Close()
}

// Sweep removes what fills left that did not end, and that nobody has asked for
// again since before.
func (s *Spools) Sweep(before time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for id, name := range s.left {
		info, err := s.root.Stat(name)
		if err == nil && info.ModTime().After(before) {
			continue
		}
		delete(s.left, id)
		errs = append(errs, s.drop(s.root, name))
	}
	return errors.Join(errs...)
}

// drop removes a spool and its journal, whichever of them are there.
func (s *Spools) drop(root *os.Root, name string) error {
	var errs []error
	for _, name := range []string{name + journalSuffix, name} {
		err := s.call("remove", name)
		if err == nil {
			err = root.Remove(name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Spool is the local file of one running fill: ranges land in it in any order,
// and every reader has a file of its own.
type Spool struct {
	spools *Spools
	id     string // of the fill's key
	name   string
	file   *os.File
	io     readWriter // the file
	size   int64      // that its journal gives for the blob; -1: none
	journal
}

// id names a key in the names of files.
func (k Key) id() string {
	sum := sha256.Sum256([]byte(k.Upstream + "\n" + k.Repo.String() + "\n" + k.Digest.String()))
	return hex.EncodeToString(sum[:16])
}

// Open gives the spool of a blob of size bytes (-1: not known). If a fill of the
// same key did not end, it is that one's, and chunks is what its journal says of
// it. Errors: those that the file system has.
func (s *Spools) Open(key Key, size int64) (spool *Spool, chunks []chunk, err error) {
	id := key.id()
	s.mu.Lock()
	name, ok := s.left[id]
	delete(s.left, id)
	s.mu.Unlock()
	if ok {
		spool, chunks, err = s.reopen(id, name, size)
		if err == nil {
			return spool, chunks, nil
		}
		if err := s.drop(s.at(), name); err != nil {
			return nil, nil, fmt.Errorf("open spool: %w", err)
		}
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	name = id + "." + hex.EncodeToString(random[:])
	f, err := s.create(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.renew(); err == nil {
			f, err = s.create(name)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("new spool: %w", err)
	}
	return &Spool{spools: s, id: id, name: name, file: f, io: s.seam(f), size: -1}, nil, nil
}

// create makes a file. O_EXCL: a name is made once, and a link planted at it is not
// followed.
func (s *Spools) create(name string) (*os.File, error) {
	return s.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (s *Spools) open(name string, flag int) (*os.File, error) {
	if err := s.call("open", name); err != nil {
		return nil, err
	}
	return s.at().OpenFile(name, flag, 0o600)
}

// errStale says that what a fill left is of no use.
var errStale = errors.New("fill: stale spool")

func (s *Spools) reopen(id, name string, size int64) (_ *Spool, _ []chunk, err error) {
	f, err := s.open(name, os.O_RDWR)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	// A file with two names is a stored blob: nobody writes to that any more.
	if shared(f) {
		return nil, nil, errStale
	}
	spool := &Spool{spools: s, id: id, name: name, file: f, io: s.seam(f)}
	var chunks []chunk
	if spool.size, chunks, err = spool.journal.load(s, name+journalSuffix); err != nil {
		return nil, nil, err
	}
	if size >= 0 && size != spool.size {
		return nil, nil, errors.Join(errStale, spool.journal.close())
	}
	return spool, chunks, nil
}

// Room reports whether n more bytes find room in the file system. Errors: syscall.ENOSPC.
func (s *Spool) Room(n int64) error {
	if n > 0 && !room(s.spools.at(), n) {
		return fmt.Errorf("spool %d bytes: %w", n, syscall.ENOSPC)
	}
	return nil
}

// WriteAt writes p at off.
func (s *Spool) WriteAt(p []byte, off int64) (int, error) { return s.io.WriteAt(p, off) }

// ReadAt reads from off what was written there.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) { return s.io.ReadAt(p, off) }

// Open opens the spool for a reader of its own, positioned at off, even if its name
// was taken away.
func (s *Spool) Open(off int64) (*os.File, error) {
	f, err := s.spools.open(s.name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()))
	}
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool: %w", err), f.Close())
	}
	return f, nil
}

// File opens the spool under its absolute name, for a store to adopt it.
func (s *Spool) File() (*os.File, error) {
	if err := s.spools.call("open", s.name); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(s.spools.dir, s.name), os.O_RDWR, 0)
}

// Remove removes the spool. Readers that have it open are not disturbed.
func (s *Spool) Remove() error {
	return errors.Join(s.spools.drop(s.spools.at(), s.name), s.close())
}

// Leave keeps the spool for the next fill of the same key, if there is anything in
// it worth keeping.
func (s *Spool) Leave() error {
	if !s.journal.begun() {
		return s.Remove()
	}
	s.spools.mu.Lock()
	s.spools.left[s.id] = s.name
	s.spools.mu.Unlock()
	return s.close()
}

func (s *Spool) close() error { return errors.Join(s.journal.close(), s.file.Close()) }
