package remotetest

import (
	"context"
	"net/http"
	"sync"
)

// Gate holds answers until it is opened.
type Gate struct {
	held chan struct{} // one for each that is held
	open chan struct{}
	once sync.Once
}

// Gate holds the answers to all requests whose line contains match, before their
// first byte, until it is opened.
func (u *Upstream) Gate(match string) *Gate {
	g := newGate()
	u.arm(&armed{match: match, fault: Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		g.hold(r.Context())
		return false
	})})
	return g
}

// GateAt is Gate, and holds an answer after n bytes of its body, which the client
// has then.
func (u *Upstream) GateAt(match string, n int64) *Gate {
	g := newGate()
	u.arm(&armed{match: match, fault: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			done := false
			hold := func(w *altering, b []byte) []byte {
				before := n - w.sent
				if done || before > int64(len(b)) {
					return b
				}
				done = true
				_, _ = w.ResponseWriter.Write(b[:before])
				_ = http.NewResponseController(w.ResponseWriter).Flush()
				g.hold(r.Context())
				return b[before:]
			}
			altered(nil, hold)(next).ServeHTTP(w, r)
		})
	}})
	return g
}

func newGate() *Gate {
	return &Gate{held: make(chan struct{}, 1<<10), open: make(chan struct{})}
}

// Wait returns once one more answer is held, or with the context's error.
func (g *Gate) Wait(ctx context.Context) error {
	select {
	case <-g.held:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Open lets all answers go, those to come too. It may be called again.
func (g *Gate) Open() { g.once.Do(func() { close(g.open) }) }

func (g *Gate) hold(ctx context.Context) {
	select {
	case g.held <- struct{}{}:
	case <-g.open:
	}
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}
