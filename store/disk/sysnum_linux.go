//go:build !amd64 && !386

package disk

import "syscall"

const sysSyncfs = syscall.SYS_SYNCFS
