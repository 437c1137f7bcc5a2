package serve_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// gazed is larger than what the kernel takes for who reads nothing.
const gazed = 16 << 20

// gaze asks for a blob of that size on a connection that has little room, takes the first
// byte of the answer, and no more until the server has cut it. It gives how many bytes come
// then. through is put between the server and what is tested.
func gaze(t *testing.T, start func(*httptest.Server), stall time.Duration, through func(http.ResponseWriter) http.ResponseWriter) (after int64) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blob")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, gazed)); err != nil {
		t.Fatal(err)
	}
	h := serve.New(fake{blob: blobs(func(store.Range) (origin.Blob, error) {
		f, err := os.Open(name)
		if err != nil {
			return origin.Blob{}, err
		}
		b := origin.Blob{Length: gazed, Body: store.FileBody(f, gazed)}
		b.Descriptor.Descriptor = v1.Descriptor{Digest: sha256A, Size: gazed}
		return b, nil
	})}, serve.Options{Stall: stall})
	done := make(chan any, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cut := panics(func() { h.ServeHTTP(through(w), r) })
		done <- cut
		panic(cut)
	}))
	srv.Config.ConnContext = serve.ConnContext
	start(srv)
	defer srv.Close()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
		return errors.Join(failed, err)
	}}
	wire, err := d.DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = wire.Close() }()
	conn := wire
	if srv.TLS != nil {
		conn = tls.Client(wire, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := fmt.Fprintf(conn, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", sha256A); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if cut := <-done; cut != http.ErrAbortHandler {
		t.Errorf("the end was %v", cut)
	}
	after, _ = io.Copy(io.Discard, wire)
	return after
}

// taker has the kernel take more of a file at each look, whatever the client does.
type taker struct {
	http.ResponseWriter
	conn  net.Conn
	room  int
	looks int
	took  int // in how many looks it took something
}

func (k *taker) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *taker) ReadFrom(r io.Reader) (int64, error) {
	raw, err := k.conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	k.room += 2 << 10
	failed := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, k.room) })
	if err = errors.Join(failed, err); err != nil {
		return 0, err
	}
	n, err := k.ResponseWriter.(io.ReaderFrom).ReadFrom(r)
	if k.looks++; n > 0 {
		k.took++
	}
	return n, err
}

// TestKernelIsNoClient: who takes nothing is cut in the stall time, whatever the kernel
// takes meanwhile. (C-2)
func TestKernelIsNoClient(t *testing.T) {
	k := &taker{room: 4 << 10}
	gaze(t, func(srv *httptest.Server) {
		srv.Config.ConnState = func(c net.Conn, state http.ConnState) {
			if state == http.StateNew {
				k.conn = c
			}
		}
		srv.Start()
	}, 3*time.Second, func(w http.ResponseWriter) http.ResponseWriter {
		k.ResponseWriter = w
		return k
	})
	// In the first looks the client's own kernel takes what it has room for.
	if k.looks < 60 || k.looks > 70 || k.took < 10 {
		t.Errorf("cut after %d looks; the kernel took something in %d of them", k.looks, k.took)
	}
}

// TestKernelTakesLittle: over TLS the kernel takes little for a client that takes nothing,
// so that one that takes little is seen to.
func TestKernelTakesLittle(t *testing.T) {
	after := gaze(t, (*httptest.Server).StartTLS, 200*time.Millisecond, func(w http.ResponseWriter) http.ResponseWriter { return w })
	if after < 64<<10 || after > 512<<10 {
		t.Errorf("%d bytes were on their way", after)
	}
}
