package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/origintest"
)

// pipes is a listener whose connections are in memory, where time is a test's own.
type pipes struct {
	dialled chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newPipes() *pipes { return &pipes{dialled: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.dialled <- theirs
	return ours
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// inMemory serves what text composes, over TLS if it says so, on connections in memory.
func inMemory(t *testing.T, text string) (*app, *pipes) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	text = fmt.Sprintf("store: {blobs: {filesystem: {root: %q}}}\nmirror: {well_known: false}\n%s", t.TempDir(), text)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	logs := newLogs(io.Discard, c.Log)
	a, err := compose(c, logs)
	if err != nil {
		t.Fatal(err)
	}
	l := newPipes()
	server := newServer(a.public, c.Server, logs.room("server"))
	encrypt(server, a.secured, c.Server)
	served := make(chan error, 1)
	go func() {
		if a.secured != nil {
			served <- server.ServeTLS(l, "", "")
		} else {
			served <- server.Serve(l)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if err := a.close(context.Background()); err != nil {
			t.Error(err)
		}
		logs.release()
	})
	return a, l
}

// Who gives, or takes, no byte for the stall time is cut, whatever becomes of the request;
// and who does not end the header of a request in its time. (C-2)
func TestWhoStandsStillIsCut(t *testing.T) {
	for name, x := range map[string]struct {
		sends string        // then nothing more
		reads bool          // what is answered
		after time.Duration // it is cut
	}{
		"in a header":                {"GET /v2/ HTTP/1.1\r\nHost: x\r\nX", true, 10 * time.Second},
		"before a request":           {"", true, 10 * time.Second},
		"after a request":            {"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", true, 2 * time.Minute},
		"in an upload":               {"POST /v2/app/blobs/uploads/?digest=sha256:" + strings.Repeat("0", 64) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", true, time.Minute},
		"in a manifest":              {"PUT /v2/app/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", true, time.Minute},
		"in what is refused":         {"POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nContent-Length: 9\r\n\r\nx", true, time.Minute},
		"in what nobody may":         {"POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDp5\r\nContent-Length: 9\r\n\r\nx", true, time.Minute},
		"in what there is not":       {"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", true, time.Minute},
		"in a form for a token":      {"POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nx", true, time.Minute},
		"in the middle of an answer": {"GET /v2/app/blobs/DIGEST HTTP/1.1\r\nHost: x\r\n\r\n", false, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, l := inMemory(t, "authz: {token: {key: 0123456789abcdef0123456789abcdef}, policy: {default: allow}}\n")
				blob := origintest.PushBlob(t, a.registry, "app", origintest.Bytes(1, 1<<20))
				conn := l.dial()
				begun := time.Now()
				if _, err := io.WriteString(conn, strings.Replace(x.sends, "DIGEST", blob.String(), 1)); err != nil {
					t.Fatal(err)
				}
				if x.reads {
					_, _ = io.Copy(io.Discard, conn) // until it is cut
				} else {
					if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
					_, _ = conn.Write(make([]byte, 100)) // which nobody takes, until it is cut
				}
				if took := time.Since(begun); took < x.after || took > x.after+time.Second {
					t.Errorf("cut after %v, want %v", took, x.after)
				}
				if n, _ := io.Copy(io.Discard, conn); n > 100<<10 {
					t.Errorf("%d bytes came after it had stood still for long", n)
				}
			})
		})
	}
}

// Who is slow is not who stands still: a byte each 50 seconds, for an hour, is an upload,
// and 50 KiB a second, for minutes, a download. (C-2)
func TestWhoIsSlowIsNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := inMemory(t, "authz: {policy: {default: allow}}\n")
		const n, pace = 72, 50 * time.Second
		content := origintest.NewBlob("application/octet-stream", origintest.Bytes(1, n))
		conn := l.dial()
		go func() {
			_, _ = fmt.Fprintf(conn, "POST /v2/app/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", content.Digest, n)
			for i := range n {
				time.Sleep(pace)
				if _, err := conn.Write(content.Bytes[i : i+1]); err != nil {
					t.Errorf("byte %d: %v", i, err)
					return
				}
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusCreated {
			t.Fatalf("%v, %v", resp, err)
		}
		_ = conn.Close()

		large := origintest.PushBlob(t, a.registry, "app", origintest.Bytes(2, 8<<20))
		conn = l.dial()
		if _, err := fmt.Fprintf(conn, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", large); err != nil {
			t.Fatal(err)
		}
		if resp, err = http.ReadResponse(bufio.NewReaderSize(conn, 16), nil); err != nil {
			t.Fatal(err)
		}
		read := 0
		for b := make([]byte, 50<<10); ; time.Sleep(time.Second) {
			m, err := resp.Body.Read(b)
			read += m
			if err != nil {
				if err != io.EOF || read != 8<<20 {
					t.Errorf("%d bytes, %v", read, err)
				}
				break
			}
		}
		_ = conn.Close()
	})
}
