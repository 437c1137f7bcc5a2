package disk

import (
	"os"
	"syscall"
)

// syncAll makes durable all that the file system has on which that file lies.
func syncAll(f *os.File) error {
	if _, _, errno := syscall.Syscall(sysSyncfs, f.Fd(), 0, 0); errno != 0 {
		return os.NewSyscallError("syncfs", errno)
	}
	return nil
}
