package disk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// sockName is the socket on which the process that holds a store is spoken to.
const (
	sockName = ".sock"
	sockDir  = ".sock.new" // where it is made before anybody can reach it
)

// ErrNoListener says that nobody is spoken to at a directory.
var ErrNoListener = errors.New("store/disk: no process listens in the directory")

// Listen opens a socket, .sock in the store's directory, on which other processes of its
// owner can reach this one. What an earlier process has left there goes. Closing the
// listener removes it.
func (s *Store) Listen() (net.Listener, error) {
	l, err := s.listen()
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", s.dir, err)
	}
	return l, nil
}

func (s *Store) listen() (net.Listener, error) {
	// It is made where nobody else can reach it, and gets its name with its mode.
	if err := s.root.RemoveAll(sockDir); err != nil {
		return nil, err
	}
	if err := s.root.Mkdir(sockDir, 0o700); err != nil {
		return nil, err
	}
	made := sockDir + "/" + sockName
	path, done, err := short(filepath.Join(s.dir, sockDir))
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(path, sockName)})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by the name that it has only now
	// Not s.root.Chmod, which needs a system call that Linux has since 6.6 only.
	err = os.Chmod(filepath.Join(path, sockName), 0o600)
	if err == nil {
		err = s.root.Rename(made, sockName)
	}
	if err == nil {
		err = s.root.Remove(sockDir)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &listener{l, s}, nil
}

// listener removes its socket's name when it is closed.
type listener struct {
	*net.UnixListener
	s *Store
}

func (l *listener) Close() error {
	err := l.s.root.Remove(sockName)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(l.UnixListener.Close(), err)
}

// Dial connects to the process that listens in a directory. Errors: ErrNoListener.
func Dial(ctx context.Context, dir string) (net.Conn, error) {
	path, done, err := short(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoListener)
	}
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(path, sockName))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoListener)
	}
	return conn, err
}

// maxSock is how long the path of a socket's directory may be, in bytes: the kernel's
// limit is 108 for the socket, on some systems 104.
const maxSock = 90

// short gives a name of a directory that is short enough for a socket in it, until done
// is called.
func short(dir string) (path string, done func(), err error) {
	if len(dir) <= maxSock {
		return dir, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() { _ = f.Close() }, nil
}
