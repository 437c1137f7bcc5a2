package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// newFront gives a front on TCP and a unix socket, whose answers are h's, and two
// configurations that no server can change between.
func newFront(t *testing.T, h http.Handler) (f *front, one, other config.Server) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	f = &front{
		listeners: []net.Listener{tcp, unix}, handler: h, secure: func(*http.Server, config.Server) {},
		log: slog.New(slog.DiscardHandler), failed: make(chan error, 1),
	}
	one = config.Default().Server
	other = one
	other.Timeouts.Idle = config.Duration(time.Hour)
	t.Cleanup(func() {
		if err := f.shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f, one, other
}

// serving gives how many servers there are that have connections, or take them.
func (f *front) serving() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}

// wire is a connection on which one request is made after the other.
type wire struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func connect(t *testing.T, to net.Addr) *wire {
	t.Helper()
	conn, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &wire{t, conn, bufio.NewReader(conn)}
}

func (w *wire) ask(path string) {
	w.t.Helper()
	if _, err := io.WriteString(w, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
}

// answered wants an answer, which is the connection's last one, or is not.
func (w *wire) answered(what string, last bool) {
	w.t.Helper()
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK || err != nil || resp.Close != last {
		w.t.Errorf("%s: %s, %v, the last %v", what, resp.Status, err, resp.Close)
	}
	if !last {
		return
	}
	if _, err := w.in.ReadByte(); err != io.EOF {
		w.t.Errorf("%s: after the last answer %v", what, err)
	}
}

// While another configuration takes the place of one, whoever is connected stays with the
// server that took them: what runs there ends, what comes there is answered, and told that
// it is the last. All who connect from then on are the next one's, and of the first nothing
// is left when its last connection has ended.
func TestFrontFollows(t *testing.T) {
	entered, held := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	defer release()
	f, one, other := newFront(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-held
		}
	}))
	f.follow(one)
	first := f.now.Load()
	same := one
	same.Drain = config.Duration(time.Hour) // is no server's
	if f.follow(same); f.now.Load() != first {
		t.Error("another server of the same limits")
	}
	var idle, busy []*wire
	for _, l := range f.listeners {
		idle, busy = append(idle, connect(t, l.Addr())), append(busy, connect(t, l.Addr()))
	}
	for i := range f.listeners {
		idle[i].ask("/")
		idle[i].answered("before", false)
		busy[i].ask("/slow")
		<-entered
	}

	f.follow(other)
	second := f.now.Load()
	if second == first || second.IdleTimeout != time.Hour || f.serving() != 2 {
		t.Errorf("%d servers, another one: %v, idle %v", f.serving(), second != first, second.IdleTimeout)
	}
	var fresh []*wire
	for i, l := range f.listeners {
		fresh = append(fresh, connect(t, l.Addr()))
		fresh[i].ask("/")
		fresh[i].answered("who has come since", false)
	}
	if n := second.conns.Load(); n != int64(len(fresh)) {
		t.Errorf("the second has %d connections", n)
	}
	for _, w := range idle {
		w.ask("/")
		w.answered("who was there", true)
	}
	release()
	for _, w := range busy {
		w.answered("what ran", false) // it was begun before
		w.ask("/")
		w.answered("what came after it", true)
	}
	eventually(t, "the first is gone", func() bool { return f.serving() == 1 })
	select {
	case err := <-f.failed:
		t.Errorf("the serving has ended: %v", err)
	default:
	}

	for _, w := range fresh {
		w.ask("/")
		w.answered("who has come since", false)
	}
	if err := f.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if f.follow(one); f.now.Load() != second {
		t.Error("somebody serves after the end")
	}
	for _, l := range f.listeners {
		if conn, err := net.Dial(l.Addr().Network(), l.Addr().String()); err == nil {
			_ = conn.Close()
			t.Errorf("after the end %s is connected", l.Addr())
		}
	}
}

// Whoever connects in the moment in which nobody takes connections waits for the next
// server, and no request of those who keep a connection is lost between two.
func TestFrontLosesNobody(t *testing.T) {
	f, one, other := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	f.follow(one)
	var clients, asking sync.WaitGroup
	over := make(chan struct{})
	for i := range 8 {
		asking.Add(1)
		asked := sync.OnceFunc(asking.Done)
		clients.Go(func() {
			defer asked()
			to := f.listeners[i%2].Addr()
			transport := &http.Transport{
				DisableKeepAlives: i < 4,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, to.Network(), to.String())
				},
			}
			defer transport.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				// A POST is not tried again behind our back.
				resp, err := (&http.Client{Transport: transport}).Post("http://x/", "text/plain", nil)
				if err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if string(body) != "here" || err != nil {
					t.Errorf("request %d: %q, %v", n, body, err)
					return
				}
				asked()
			}
		})
	}
	asking.Wait() // each once, and on
	for i := range 100 {
		f.follow([]config.Server{other, one}[i%2])
	}
	close(over)
	clients.Wait()
	eventually(t, "those before are gone", func() bool { return f.serving() == 1 })
}

// The end of a server that was replaced is nobody's failure; that of a listener is.
func TestFrontFails(t *testing.T) {
	f, one, other := newFront(t, http.NotFoundHandler())
	f.follow(one)
	f.follow(other)
	select {
	case err := <-f.failed:
		t.Errorf("replaced: %v", err)
	default:
	}
	_ = f.listeners[1].Close()
	if err := <-f.failed; err == nil || !strings.Contains(err.Error(), "serve "+f.listeners[1].Addr().String()) {
		t.Errorf("one of two listeners is gone: %v", err)
	}
	_ = f.listeners[0].Close() // which nobody has to hear of any more
}

// A weir that is deaf on one of its addresses says so and ends, as an operator's supervisor
// wants it: what runs on the others is drained.
func TestListenerFails(t *testing.T) {
	for name, addresses := range map[string]string{
		"public": "server: {listen: ['127.0.0.1:0', '%s']}\nadmin: {listen: '127.0.0.1:0'}\n",
		"admin":  "server: {listen: ['127.0.0.1:0', '127.0.0.1:0']}\nadmin: {listen: '%s'}\n",
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			lost := freeAddr(t)
			r := startText(t, data, fmt.Sprintf("log: {format: json}\n"+addresses+"store: {blobs: {filesystem: {root: %q}}}\nmirror: {well_known: false}\n", lost, data))
			deafen(t, lost)
			err := <-r.ended
			close(r.ended)
			if err == nil || !strings.Contains(err.Error(), "serve "+lost) {
				t.Errorf("ended with %v", err)
			}
			if line, err := r.log.entry(t.Context(), "a listener has failed"); err != nil || line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["error"]), lost) {
				t.Errorf("%v, %v", line, err)
			}
		})
	}
}

// deafen ends what this process listens on there, behind its back.
func deafen(t *testing.T, address string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range fds {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		listens, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		at, _ := syscall.Getsockname(fd)
		if in, ok := at.(*syscall.SockaddrInet4); ok && listens == 1 && strings.HasSuffix(address, fmt.Sprintf(":%d", in.Port)) {
			if err := syscall.Shutdown(fd, syscall.SHUT_RDWR); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("nobody listens on %s", address)
}
