package serve

import (
	"net"
	"syscall"
	"unsafe"
)

// tcpNotsentLowat is TCP_NOTSENT_LOWAT, which package syscall does not have.
const tcpNotsentLowat = 0x19

// setCork sets TCP_CORK.
func setCork(c *net.TCPConn, on bool) {
	value := 0
	if on {
		value = 1
	}
	setOption(c, syscall.TCP_CORK, value)
}

// setUnsent has the kernel keep little that it may not send. What is on its way does
// not count.
func setUnsent(c *net.TCPConn) { setOption(c, tcpNotsentLowat, unsent) }

// setOption sets an option of TCP. A connection that refuses goes on without: nothing
// that is answered depends on it.
func setOption(c *net.TCPConn, option, value int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, option, value)
	})
}

// untaken is how much of what the kernel was given the client has not taken: 0 where
// it does not say.
func untaken(c *net.TCPConn) int64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var n int32
	_ = raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	return int64(n)
}
