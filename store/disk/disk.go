package disk

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/weir-registry/weir/store"
)

// ErrLocked says that a directory is held by another process, or by another
// Store of this one.
var ErrLocked = errors.New("store/disk: directory is in use by another process")

// errGone says that the directory was taken away under the store.
var errGone = errors.New("store/disk: the store's directory is gone")

// The names below a root.
const (
	lockName  = ".lock"
	idName    = ".id"
	blobsDir  = "blobs"
	ingestDir = "ingest"
	logDir    = "log"

	quarantineDir = "quarantine"

	recordsDir = "records"
	tmpDir     = "tmp"
)

// maxBoot is the longest name of a boot, in bytes; Linux's have 36.
const maxBoot = 64

// Options change what Open does; but for ID and FS they are what a test sets.
type Options struct {
	// ID is the name of the store that the directory has to be; "": any, or none yet.
	ID string
	// FS wraps the file system that is written to, to count its calls or let them fail.
	FS func(FS) FS
	// Boot stands for the id of the kernel's boot.
	Boot string
	// LogSize is how large a log of records grows before the next one is begun, in bytes.
	LogSize int64
}

// Store is a directory that is held by this process.
type Store struct {
	dir     string // absolute, without links
	id      string
	self    os.FileInfo // of the directory
	root    *os.Root
	fs      FS
	lock    *os.File
	dirs    *dirs
	blobs   *Blobs
	records *Records
}

// Open makes dir a store, or opens the one that it is, and holds it until Close.
// It removes what an interrupted process left in tmp, and reads nothing but the logs of
// records that it left; after one that was killed in this boot, or left a log, it waits
// until all that is there is durable.
// Blobs and records of one directory come from one Store. Errors: ErrLocked; ErrOther,
// where it is not the store that Options name: then nothing is made or changed.
func Open(dir string, o Options) (*Store, error) {
	s, err := open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if o.ID != "" {
		if err := check(dir, o.ID); err != nil {
			return nil, err
		}
	}
	if err := makeRoot(dir); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lock, err := hold(root)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	s := &Store{dir: dir, root: root, fs: rootFS{root, lock}, lock: lock}
	if o.FS != nil {
		s.fs = o.FS(s.fs)
	}
	boot := o.Boot
	if boot == "" {
		boot = bootID()
	}
	s.dirs = &dirs{syncs: newSyncs(s.fs), root: root, known: make(map[string]struct{})}
	s.blobs = &Blobs{s: s, boot: boot, shelves: newShelves(root), held: make(map[string]struct{})}
	size := o.LogSize
	if size == 0 {
		size = logSize
	}
	s.records = &Records{s: s, log: &journal{fs: s.fs, dirs: s.dirs, size: size}}
	if err := s.takeOver(boot); err != nil {
		return nil, errors.Join(err, s.root.Close(), s.lock.Close()) // still not taken over
	}
	return s, nil
}

// takeOver makes durable what a process that was killed has left. It may have given a
// file its name and not have synced the directory; whoever finds the file now takes it
// for durable, and promises what a power cut would break. In another boot whatever is
// found is durable, but for records that are in a log.
//
// The lock's file names the boot until the store is closed.
func (s *Store) takeOver(boot string) error {
	named, err := s.root.Lstat(lockName)
	if err != nil {
		return err
	}
	held, err := s.lock.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, held) || held.Sys().(*syscall.Stat_t).Nlink != 1 {
		// Whatever else it is, it is not written to.
		return &fs.PathError{Op: "lock", Path: lockName, Err: errors.New("is a link")}
	}
	last, err := io.ReadAll(io.NewSectionReader(s.lock, 0, maxBoot))
	if err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return err
	}
	if err := s.recover(len(last) > 0 && (boot == "" || string(last) == boot)); err != nil {
		return err
	}
	if err := s.identify(); err != nil {
		return err
	}
	if boot == "" {
		boot = "?"
	}
	if err := s.lock.Truncate(0); err != nil {
		return err
	}
	_, err = s.lock.WriteAt([]byte(boot), 0)
	return err
}

// Blobs is the store's half of large immutable content.
func (s *Store) Blobs() *Blobs { return s.blobs }

// Records is the store's half of small mutable values.
func (s *Store) Records() *Records { return s.records }

// Close lets go of the directory. What is open stays readable. Nothing is written any
// more by then.
func (s *Store) Close() error {
	s.records.log.close()
	s.blobs.shelves.close()
	return errors.Join(s.lock.Truncate(0), s.root.Close(), s.lock.Close())
}

// makeRoot makes dir and its parents, each durable.
func makeRoot(dir string) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeRoot(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// hold takes the lock of a root. The kernel lets go of it when the process ends,
// however it ends.
func hold(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	} else {
		err = os.NewSyscallError("flock", err)
	}
	return nil, errors.Join(err, f.Close())
}

// sweep makes tmp, or empties it.
func (s *Store) sweep() error {
	leave, err := s.dirs.enter(tmpDir)
	if err != nil {
		return err
	}
	defer leave()
	for name, err := range s.names(tmpDir) {
		if err != nil {
			return err
		}
		if err := s.fs.Remove(path.Join(tmpDir, name)); err != nil {
			return err
		}
	}
	return nil
}

// missing gives ErrNotFound for an error which says that nothing has a name, if
// the store itself is there; and the error itself in all other cases.
func (s *Store) missing(err error) error {
	if !isAbsent(err) {
		return err
	}
	if _, err := s.root.Lstat(lockName); err != nil {
		return fmt.Errorf("%w (%v)", errGone, err)
	}
	return store.ErrNotFound
}

// openFile opens a file for reading. The flag spares four calls by which a new
// descriptor would be made non-blocking and, being a file's, blocking again; and
// what is no file does not keep us waiting.
func openFile(in *os.Root, name string) (*os.File, error) {
	return in.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// isAbsent reports whether err says that nothing has a name: no file, or no
// directory on the way to it.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// temp writes a new file in tmp, and gives its name. It is not durable.
func (s *Store) temp(data []byte) (string, error) {
	name := s.tempName()
	f, err := s.fs.Create(name)
	if err != nil {
		return "", err
	}
	if len(data) > 0 {
		_, err = f.Write(data)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		s.discard(name)
		return "", err
	}
	return name, nil
}

func (s *Store) tempName() string { return path.Join(tmpDir, newID()) }

// discard removes a file of tmp. If that fails Open will do it.
func (s *Store) discard(name string) { _ = s.fs.Remove(name) }

// take removes a file durably; after an error it is where it was.
func (s *Store) take(name string) error {
	gone := s.tempName()
	err := s.fs.Rename(name, gone)
	if store.NoRoom(err) {
		// A full disk may lack the room for a name, and deleting is what helps it:
		// do so without a way back.
		if err := s.fs.Remove(name); err != nil {
			return err
		}
		return s.dirs.sync(path.Dir(name))
	}
	if err != nil {
		return err
	}
	if err := s.dirs.sync(path.Dir(name)); err != nil {
		return errors.Join(err, s.fs.Rename(gone, name))
	}
	s.discard(gone)
	return nil
}

// noLinks reports whether err says that a file cannot have a further name here.
func noLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) ||
		errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EMLINK)
}

// newID gives 128 random bits in hex.
func newID() string {
	var random [16]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// idLen is the length of an id.
const idLen = 32

func validID(s string) bool { return len(s) == idLen && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
