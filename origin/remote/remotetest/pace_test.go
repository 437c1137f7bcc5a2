package remotetest

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// client speaks to a server in the same bubble, which answers n bytes to all.
func client(t *testing.T, n int, faults ...Fault) *http.Client {
	t.Helper()
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, n)) // a client that leaves is not the point here
	})
	for _, f := range faults {
		h = f(h)
	}
	pipes := make(chan net.Conn)
	l := &pipeListener{conns: pipes, closed: make(chan struct{})}
	s := &http.Server{Handler: h, ConnContext: withConnection}
	go func() { _ = s.Serve(l) }() // until the end
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		pipes <- far
		return near, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = s.Close()
	})
	return &http.Client{Transport: transport}
}

func withConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestPace(t *testing.T) {
	const n = 1 << 20
	tests := map[string]struct {
		n        int
		faults   []Fault
		inAll    time.Duration // n bytes once, and then twice at the same time
		together time.Duration
	}{
		"none":                 {n, nil, 0, 0},
		"latency":              {n, []Fault{Latency(time.Second)}, time.Second, time.Second},
		"rate":                 {n, []Fault{Rate(n / 4)}, 4 * time.Second, 4 * time.Second},
		"link":                 {n, []Fault{Link(n / 4)}, 4 * time.Second, 8 * time.Second},
		"rate and link":        {n, []Fault{Rate(n / 4), Link(n / 2)}, 4 * time.Second, 4 * time.Second},
		"all three":            {n, []Fault{Rate(n / 4), Link(n / 4), Latency(3 * time.Second)}, 7 * time.Second, 11 * time.Second},
		"less than one a turn": {10, []Fault{Rate(5)}, 2 * time.Second, 2 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := client(t, test.n, test.faults...)
				took := func(times int) time.Duration {
					began := time.Now()
					var all sync.WaitGroup
					for range times {
						all.Go(func() {
							resp, err := c.Get("http://upstream.test/")
							if err != nil {
								t.Error(err)
								return
							}
							defer resp.Body.Close()
							if _, err := io.Copy(io.Discard, resp.Body); err != nil {
								t.Error(err)
							}
						})
					}
					all.Wait()
					return time.Since(began)
				}
				for times, want := range map[int]time.Duration{1: test.inAll, 2: test.together} {
					if got := took(times); got < want-slack || got > want+slack {
						t.Errorf("%d at a time: %s, want %s", times, got, want)
					}
				}
			})
		})
	}
}

// Streams of one connection share its rate.
func TestRateOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Rate(100)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 200))
		}))
		one, other := withConnection(t.Context(), nil), withConnection(t.Context(), nil)
		began := time.Now()
		var all sync.WaitGroup
		for ctx, want := range map[context.Context]time.Duration{one: 4 * time.Second, other: 2 * time.Second} {
			times := int(want / (2 * time.Second))
			var same sync.WaitGroup
			for range times {
				same.Go(func() { h.ServeHTTP(discarding{}, (&http.Request{}).WithContext(ctx)) })
			}
			all.Go(func() {
				same.Wait()
				if took := time.Since(began); took < want-slack || took > want {
					t.Errorf("%d on one connection: %s, want %s", times, took, want)
				}
			})
		}
		all.Wait()
	})
}

type discarding struct{ http.ResponseWriter }

func (discarding) Write(b []byte) (int, error) { return len(b), nil }
func (discarding) Flush()                      {}
