package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// quietWriter is a ResponseWriter that keeps nothing.
type quietWriter struct {
	header http.Header
	status int
}

func (w *quietWriter) Header() http.Header         { return w.header }
func (w *quietWriter) WriteHeader(status int)      { w.status = status }
func (w *quietWriter) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkHot is what weir itself does for a request that is answered out of memory:
// everything but net/http's part of it. cpu-ns/op is the process's, and says more than
// ns/op where the machine has other work.
//
// What is seen of it costs: "unseen" writes no line, "traced" has 1 % of requests exported
// to nobody.
func BenchmarkHot(b *testing.B) {
	for _, q := range []struct {
		name string
		set  func(*config.Config)
	}{
		{"", func(*config.Config) {}},
		{"unseen", func(c *config.Config) { c.Log.Level = config.Level(slog.LevelError) }},
		{"traced", func(c *config.Config) {
			c.Tracing.Sampling = 0.01
			if err := c.Tracing.Endpoint.UnmarshalText([]byte("http://127.0.0.1:1")); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(q.name, func(b *testing.B) { benchmarkHot(b, q.set) })
	}
}

func benchmarkHot(b *testing.B, set func(*config.Config)) {
	c := config.Default()
	set(c)
	c.Mirror = config.Mirror{Fills: c.Mirror.Fills}
	c.Store.Blobs.Filesystem.Root = b.TempDir()
	c.Store.Metadata = c.Store.Blobs
	c.Log.Format = "json"
	app, err := compose(c, newLogs(io.Discard, c.Log))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := app.close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	send := func(method, path, contentType string, body []byte, want int) {
		b.Helper()
		r := httptest.NewRequest(method, path, bytes.NewReader(body))
		r.Host, r.RemoteAddr = "127.0.0.1:5000", "127.0.0.1:1"
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		if app.public.ServeHTTP(w, r); w.Code != want {
			b.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	config := []byte("{}")
	d := digest.FromBytes(config)
	send(http.MethodPost, "/v2/lib/app/blobs/uploads/?digest="+d.String(), "application/octet-stream", config, http.StatusCreated)
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	send(http.MethodPut, "/v2/lib/app/manifests/v1", mediaType, []byte(`{"schemaVersion":2,"mediaType":"`+mediaType+
		`","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+d.String()+`","size":2},"layers":[]}`), http.StatusCreated)

	for _, q := range []struct{ name, method, path string }{
		{"manifest", http.MethodGet, "/v2/lib/app/manifests/v1"},
		{"blob-head", http.MethodHead, "/v2/lib/app/blobs/" + d.String()},
	} {
		b.Run(q.name, func(b *testing.B) {
			r := httptest.NewRequest(q.method, q.path, nil)
			w := &quietWriter{}
			b.ReportAllocs()
			before := processCPU(b)
			for b.Loop() {
				w.header, w.status = http.Header{}, http.StatusOK
				app.public.ServeHTTP(w, r)
			}
			b.ReportMetric(float64(processCPU(b)-before)/float64(b.N), "cpu-ns/op")
			if w.status != http.StatusOK {
				b.Fatalf("status %d", w.status)
			}
		})
	}
}

// processCPU is the CPU time that this process has used, in nanoseconds.
func processCPU(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
