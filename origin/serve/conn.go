package serve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
)

// connKey is the key of a request's connection in its context.
type connKey struct{}

// unsent is how much the kernel keeps of what it may not send yet, over TLS, where it
// is seen only whether it takes more. Left to itself it keeps 4 MB, and takes more
// when a third of that is gone: who takes less in the stall time looks as if they
// stood still.
const unsent = 128 << 10

// ConnContext is for [http.Server]. With it, who stands still is told from who is slow
// by what the client takes, and not by what the kernel takes for it; and the header of
// an answer whose body the kernel sends leaves in one packet with the body's first
// bytes. Over TLS it leaves in a packet of its own.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *net.TCPConn:
		return context.WithValue(ctx, connKey{}, c)
	case *tls.Conn:
		if tcp, ok := c.NetConn().(*net.TCPConn); ok {
			setUnsent(tcp)
		}
	}
	return ctx
}

// connection gives the connection that the kernel sends files to, or nil.
func connection(r *http.Request) *net.TCPConn {
	tcp, ok := r.Context().Value(connKey{}).(*net.TCPConn)
	if !ok || r.ProtoMajor > 1 {
		return nil
	}
	return tcp
}

// cork holds back packets of a connection that are not full, until uncork is called.
func cork(c *net.TCPConn) (uncork func()) {
	if c == nil {
		return func() {}
	}
	setCork(c, true)
	return func() { setCork(c, false) }
}
