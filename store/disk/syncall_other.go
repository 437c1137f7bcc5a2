//go:build !linux

package disk

import (
	"os"
	"syscall"
)

// syncAll makes durable all that any file system has.
func syncAll(*os.File) error { return os.NewSyscallError("sync", syscall.Sync()) }
