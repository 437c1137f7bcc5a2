package origin

import (
	"context"
	"fmt"
)

// Request is what the layers that one HTTP request passes through tell each
// other about it. It is the only value that weir keeps in a context.
type Request struct {
	ID    string // the trace id: 32 hex digits; echoed in errors and the log
	Route string // the route's template, set by whoever routes
	// Operation is what is done, as the route is named, e.g. "patch-upload"; set by
	// whoever routes.
	Operation string
	Cache     Cache // how a mirror answered; "" = not mirrored
	Refresh   bool  // the client wants upstreams asked about tags now (Cache-Control: no-cache)
	// Reads says that a client which asks whether a manifest is there (HEAD) takes
	// whatever it finds (Accept), and so is about to pull, not to push.
	Reads bool
	// Principal is who asks, for the log by its String; what else it is, those know
	// who decide on rights. nil = nobody was asked.
	Principal fmt.Stringer
	// Base gives how the client reached this server: scheme and host, e.g.
	// "https://registry.corp". It is a function since few answers say it; nil = nobody
	// knows.
	Base func() string
	// Challenge is what a 401 says of how to ask (RFC 9110, 11.6.1): one
	// WWW-Authenticate header each.
	Challenge []string
}

type requestKey struct{}

// WithRequest gives a context that carries r.
func WithRequest(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestOf gives the request that ctx carries, or an empty one.
func RequestOf(ctx context.Context) *Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r
	}
	return &Request{}
}
