package serve

import (
	"net"
	"syscall"
)

// setCork sets TCP_CORK. A connection that refuses has its packets sent as they are:
// nothing but speed depends on it.
func setCork(c *net.TCPConn, on bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	value := 0
	if on {
		value = 1
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, value)
	})
}
