package serve

import (
	"context"
	"net"
	"net/http"
)

// connKey is the key of a request's connection in its context.
type connKey struct{}

// ConnContext is for [http.Server]: with it, the header of an answer whose body the
// kernel sends leaves in one packet with the body's first bytes. Without it, or over
// TLS, it leaves in a packet of its own.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if tcp, ok := c.(*net.TCPConn); ok {
		return context.WithValue(ctx, connKey{}, tcp)
	}
	return ctx
}

// cork holds back packets of r's connection that are not full, until uncork is
// called.
func cork(r *http.Request) (uncork func()) {
	tcp, ok := r.Context().Value(connKey{}).(*net.TCPConn)
	if !ok || r.ProtoMajor > 1 {
		return func() {}
	}
	setCork(tcp, true)
	return func() { setCork(tcp, false) }
}
