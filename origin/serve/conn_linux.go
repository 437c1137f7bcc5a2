package serve

import (
	"net"

	"golang.org/x/sys/unix"
)

// setCork sets TCP_CORK.
func setCork(c *net.TCPConn, on bool) {
	value := 0
	if on {
		value = 1
	}
	setOption(c, unix.TCP_CORK, value)
}

// setUnsent has the kernel keep little that it may not send. What is on its way does
// not count.
func setUnsent(c *net.TCPConn) { setOption(c, unix.TCP_NOTSENT_LOWAT, unsent) }

// setOption sets an option of TCP. A connection that refuses goes on without: nothing
// that is answered depends on it.
func setOption(c *net.TCPConn, option, value int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
	})
}

// untaken is how much of what the kernel was given the client has not taken: 0 where
// it does not say.
func untaken(c *net.TCPConn) int64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		if n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
			n = 0
		}
	})
	return int64(n)
}
