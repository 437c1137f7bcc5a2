package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/origintest"
)

// BenchmarkManifest is what a pull of a manifest costs in this process, by nobody where
// there are no rules, and by somebody with a token where fifty are: by weir alone, and with
// net/http, which reads the token. cpu-ns/op says more than ns/op where the machine has
// other work.
func BenchmarkManifest(b *testing.B) {
	rules := make([]string, 50)
	for i := range rules {
		rules[i] = fmt.Sprintf("\"identity.id == 'basic:team%d' && request.repository.startsWith('team%[1]d/') && request.tag != 'x'\"", i)
	}
	rules[49] = `"identity.id == 'basic:ci'"`
	authz := fmt.Sprintf("authz: {basic: {users: [{name: ci, hash: '%s'}]}, policy: {allow: [%s]}}\n", basic.NewHash("secret").Text(), strings.Join(rules, ", "))
	for _, x := range []struct {
		name, authz string
		login       bool
	}{{"nobody", "", false}, {"token", authz, true}} {
		root := b.TempDir()
		file := filepath.Join(b.TempDir(), "weir.yaml")
		if err := os.WriteFile(file, []byte("store: {blobs: {filesystem: {root: '"+root+"'}}}\nmirror: {well_known: false}\n"+x.authz), 0o600); err != nil {
			b.Fatal(err)
		}
		c, err := config.Load([]string{file}, os.LookupEnv)
		if err != nil {
			b.Fatal(err)
		}
		app, err := compose(c, newLogs(io.Discard, c.Log))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = app.close(context.Background()) })
		origintest.Image([]byte(`{}`)).Push(b, app.registry, "app", "v1")
		r := httptest.NewRequest(http.MethodGet, "/v2/app/manifests/v1", nil)
		r.RemoteAddr, r.Host, r.Header = "127.0.0.1:4000", "127.0.0.1", http.Header{}
		if x.login {
			r.Header.Set("Authorization", "Bearer "+tokenOf(b, app.public))
		}
		b.Run(x.name, func(b *testing.B) {
			w := &discarded{header: http.Header{}}
			b.ReportAllocs()
			before := processCPU(b)
			for b.Loop() {
				clear(w.header)
				w.bytes = 0
				app.public.ServeHTTP(w, r)
				if w.status != 0 || w.bytes == 0 {
					b.Fatal(w.status)
				}
			}
			b.ReportMetric(float64(processCPU(b)-before)/float64(b.N), "cpu-ns/op")
		})
		b.Run(x.name+"-served", func(b *testing.B) {
			var request bytes.Buffer
			if err := r.Write(&request); err != nil {
				b.Fatal(err)
			}
			s := newServer(app.public, c.Server, slog.New(slog.DiscardHandler))
			conn := &replayed{request: request.Bytes(), again: b.N + 1} // the end may come before the last answer
			b.ReportAllocs()
			before := processCPU(b)
			b.ResetTimer()
			_ = s.Serve(&once{conn: conn}) // ends with the connection
			b.ReportMetric(float64(processCPU(b)-before)/float64(b.N), "cpu-ns/op")
			if conn.answers < b.N || conn.refused {
				b.Fatal(conn.answers, conn.refused)
			}
		})
	}
}

// replayed is a connection of a client that sends a request again and again, and looks at
// nothing but the status.
type replayed struct {
	net.Conn
	request []byte
	again   int // how often
	left    []byte
	answers int
	refused bool // one of them
	closed  chan struct{}
}

func (c *replayed) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		if c.again == 0 {
			return 0, io.EOF
		}
		c.again--
		c.left = c.request
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *replayed) Write(p []byte) (int, error) {
	c.answers++
	c.refused = c.refused || !bytes.HasPrefix(p, []byte("HTTP/1.1 200 "))
	return len(p), nil
}

func (c *replayed) Close() error {
	close(c.closed)
	return nil
}

func (c *replayed) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000} }

func (c *replayed) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4000} }
func (c *replayed) SetDeadline(time.Time) error      { return nil }
func (c *replayed) SetReadDeadline(time.Time) error  { return nil }
func (c *replayed) SetWriteDeadline(time.Time) error { return nil }

// once is a listener of one connection, closed after it.
type once struct {
	conn  *replayed
	taken bool
}

func (o *once) Accept() (net.Conn, error) {
	if o.taken {
		<-o.conn.closed
		return nil, net.ErrClosed
	}
	o.taken, o.conn.closed = true, make(chan struct{})
	return o.conn, nil
}

func (o *once) Close() error   { return nil }
func (o *once) Addr() net.Addr { return o.conn.LocalAddr() }

// tokenOf gives the token that a login gets.
func tokenOf(b *testing.B, h http.Handler) string {
	r := httptest.NewRequest(http.MethodGet, "/token?scope="+url.QueryEscape("repository:app:pull,push"), nil)
	r.SetBasicAuth("ci", "secret")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var said struct{ Token string }
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || said.Token == "" {
		b.Fatal(w.Code, w.Body)
	}
	return said.Token
}

// discarded is an answer that nobody reads.
type discarded struct {
	header        http.Header
	status, bytes int
}

func (d *discarded) Header() http.Header    { return d.header }
func (d *discarded) WriteHeader(status int) { d.status = status }

func (d *discarded) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}
