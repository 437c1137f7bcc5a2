package disk

import (
	"os"
	"syscall"
)

// syncAll makes durable all that the file system has on which the directory lies.
func syncAll(dir *os.File) error {
	if _, _, errno := syscall.Syscall(sysSyncfs, dir.Fd(), 0, 0); errno != 0 {
		return os.NewSyscallError("syncfs", errno)
	}
	return nil
}
