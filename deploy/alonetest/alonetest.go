// Package alonetest runs the tests of a package as on a machine of their own: what they start
// and mount ends with them, however they end.
package alonetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// Inside is set in the environment of the test binary's second life, in its own namespaces.
// Whoever wants another such life of it below that one empties it.
const Inside = "WEIR_TEST_INSIDE"

// Options say what kind of a machine it is.
type Options struct {
	// Why is for what the tests need root, as who is not is told.
	Why string
	// Network has them have a network of their own, with nothing but loopback.
	Network bool
	// Before is called in the first life, and gives what the second one has in its environment
	// besides. nil: nothing.
	Before func() (env []string, err error)
	// Settle is called in the second life, before the tests, where the directories of Mounts are
	// mounted. undo, if not nil, is called after them. nil: nothing is left to do.
	Settle func() (undo func(), err error)
	// Mounts are what is mounted first besides /proc: kinds of file system, by directory.
	Mounts map[string]string
}

// Main runs the tests in process and mount namespaces of their own, and ends with what they say.
// When the first process of the namespace ends, the kernel ends and unmounts all that is left:
// daemons that have left their parents, and what container engines forget.
func Main(m *testing.M, o Options) {
	code, err := main(m, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func main(m *testing.M, o Options) (code int, err error) {
	if os.Getenv(Inside) != "" {
		return within(m, o)
	}
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("these tests need root: %s", o.Why)
	}
	var env []string
	if o.Before != nil {
		if env, err = o.Before(); err != nil {
			return 0, err
		}
	}
	flags := uintptr(syscall.CLONE_NEWPID)
	if o.Network {
		flags |= syscall.CLONE_NEWNET
	}
	// The child dies with the thread that made it (Pdeathsig): keep that thread.
	runtime.LockOSThread()
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(append(os.Environ(), Inside+"=1"), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 0, fmt.Errorf("new namespaces: %w", err)
	}
	return 0, nil
}

// within is the second life.
func within(m *testing.M, o Options) (code int, err error) {
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 0, fmt.Errorf("mount /proc: %w", err)
	}
	for dir, kind := range o.Mounts {
		if err := syscall.Mount(kind, dir, kind, 0, ""); err != nil {
			return 0, fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if o.Network {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("ip link set lo up: %w\n%s", err, out)
		}
	}
	if o.Settle != nil {
		undo, err := o.Settle()
		if err != nil {
			return 0, err
		}
		if undo != nil {
			defer undo()
		}
	}
	return m.Run(), nil
}
