package remotetest

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Latency lets an answer begin that much later.
func Latency(d time.Duration) Fault {
	return Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		pause(r.Context(), d)
		return false
	})
}

// Hang never answers. The connection stays open until the client leaves it.
func Hang() Fault {
	return Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// HangAt is Hang after n bytes of a body, which the client has then.
func HangAt(n int64) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			altered(nil, func(w *altering, b []byte) []byte {
				left := n - w.sent
				if int64(len(b)) < left {
					return b
				}
				_, _ = w.ResponseWriter.Write(b[:max(0, left)]) // whoever left does not wait
				_ = http.NewResponseController(w.ResponseWriter).Flush()
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			})(next).ServeHTTP(w, r)
		})
	}
}

// Rate sends bodies at that many bytes a second on each connection, however many
// answers share it.
func Rate(perSecond int64) Fault {
	var mu sync.Mutex
	meters := map[*connection]*meter{}
	return paced(func(ctx context.Context) *meter {
		c, _ := ctx.Value(connectionKey{}).(*connection)
		mu.Lock()
		defer mu.Unlock()
		m, ok := meters[c]
		if !ok {
			m = &meter{perSecond: perSecond}
			meters[c] = m
		}
		return m
	})
}

// Link sends bodies at that many bytes a second in all, over whatever connections:
// it is one link for all that it is armed for.
func Link(perSecond int64) Fault {
	m := &meter{perSecond: perSecond}
	return paced(func(context.Context) *meter { return m })
}

// meter says when bytes may go.
type meter struct {
	perSecond int64
	mu        sync.Mutex
	next      time.Time // when what was let through so far is through
}

// slack is how far behind its rate a meter catches up with: timers are late.
const slack = 50 * time.Millisecond

// pass waits until n bytes are through.
func (m *meter) pass(ctx context.Context, n int) {
	m.mu.Lock()
	if earliest := time.Now().Add(-slack); m.next.Before(earliest) {
		m.next = time.Now()
	}
	m.next = m.next.Add(time.Duration(int64(n) * int64(time.Second) / m.perSecond))
	wait := time.Until(m.next)
	m.mu.Unlock()
	pause(ctx, wait)
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// paced lets bodies through at the rate of the meter that of gives for a request.
func paced(of func(context.Context) *meter) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&pacing{ResponseWriter: w, ctx: r.Context, meter: of(r.Context())}, r)
		})
	}
}

type pacing struct {
	http.ResponseWriter
	ctx   func() context.Context // the request's
	meter *meter
}

// Write sends about a hundredth of a second's bytes at a time.
func (w *pacing) Write(b []byte) (int, error) {
	piece := int(min(64<<10, max(1, w.meter.perSecond/100)))
	sent := 0
	for sent < len(b) {
		p := b[sent:min(len(b), sent+piece)]
		w.meter.pass(w.ctx(), len(p))
		n, err := w.ResponseWriter.Write(p)
		if sent += n; err != nil {
			return sent, err
		}
		_ = http.NewResponseController(w.ResponseWriter).Flush() // the next write tells
	}
	return sent, nil
}

func (w *pacing) Unwrap() http.ResponseWriter { return w.ResponseWriter }
