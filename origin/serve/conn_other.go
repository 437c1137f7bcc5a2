//go:build !linux

package serve

import "net"

// setCork does nothing: other systems have other ways.
func setCork(*net.TCPConn, bool) {}

// setUnsent does nothing.
func setUnsent(*net.TCPConn) {}

// untaken says that the client has taken what the kernel has.
func untaken(*net.TCPConn) int64 { return 0 }
