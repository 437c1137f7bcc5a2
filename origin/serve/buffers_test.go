package serve_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// drains takes uploads, and keeps nothing of them but how much came.
type drains struct {
	origin.None
	came chan int
}

func (d drains) Upload(context.Context, origin.Repo, string, digest.Algorithm) (store.Ingest, error) {
	return &drained{came: d.came}, nil
}

type drained struct {
	store.Ingest
	came chan int
}

func (*drained) ID() string   { return uploadID }
func (*drained) Size() int64  { return 0 }
func (*drained) Close() error { return nil }

func (d *drained) Write(p []byte) (int, error) {
	d.came <- len(p)
	return len(p), nil
}

// TestStalledUploadsHoldLittle: of 200 clients that came fast and stand still now,
// few hold a large buffer, and the others 32 KiB.
func TestStalledUploadsHoldLittle(t *testing.T) {
	const clients, size = 200, 2 << 20
	came := make(chan int)
	srv := newServer(t, drains{came: came}, serve.Options{})
	data := make([]byte, size)
	before := heap()
	var conns []net.Conn
	for range clients {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		sent := make(chan error, 1)
		go func() {
			_, err := fmt.Fprintf(conn, "PATCH /v2/app/blobs/uploads/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", uploadID, size+1)
			if err == nil {
				_, err = conn.Write(data)
			}
			sent <- err
		}()
		for n := 0; n < size; {
			n += <-came
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	// 16 of 512 KiB; and of each its small one, the server's own two of 4 KiB, and
	// what a request needs.
	const most = 16<<19 + clients*56<<10
	if held := heap() - before; held > most {
		t.Errorf("%d KiB are held, want at most %d", held>>10, most>>10)
	}
	for _, conn := range conns {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// heap is what is reachable, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
