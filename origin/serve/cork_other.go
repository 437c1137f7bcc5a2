//go:build !linux

package serve

import "net"

// setCork does nothing: other systems have other ways.
func setCork(*net.TCPConn, bool) {}
