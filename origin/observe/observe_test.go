package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What others count through, each in its own words.
var (
	_ mirror.Meter = (*observe.Metrics)(nil)
	_ fill.Meter   = (*observe.Metrics)(nil)
)

var update = flag.Bool("update", false, "rewrite the golden files")

// exercise lets every metric have a value.
func exercise(m *observe.Metrics) {
	m.Build("v1.2.3", "abc")
	m.MirrorRequest("docker.io", "manifest", "hit")
	m.UpstreamRequest("docker.io", "registry-1.docker.io", 200)
	m.UpstreamRequest("docker.io", "registry-1.docker.io", 0)
	m.UpstreamRequest("docker.io", "registry-1.docker.io", 299)
	m.UpstreamRequest("docker.io", "registry-1.docker.io", 999)
	m.UpstreamBytes("docker.io", 10)
	m.ServedBytes("docker.io", 20)
	m.EndpointUp("docker.io", "registry-1.docker.io", true)
	m.EndpointUp("docker.io", "mirror.corp", false)
	m.RateLimitRemaining("docker.io", "registry-1.docker.io", 76)
	m.RateLimitRemaining("docker.io", "mirror.corp", 5)
	m.RateLimitRemaining("docker.io", "mirror.corp", -1)
	m.FillStarted()
	m.FillStarted()
	m.FillEnded("stored")
	m.Followers(3)
	m.Followers(-1)
	m.AuthAttempt("basic", "accepted")
	m.AuthAttempt("bearer", "rejected")
	m.Receiver("ci")
	m.Event("ci", "dead")
	m.PolicyDecision("allow")
	m.PolicyDecision("deny")
	m.WebhookRequest("opa", "error", 3*time.Millisecond)
	m.StoreOperation("filesystem", "sync", 2*time.Millisecond, nil)
	h := observe.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			origin.RequestOf(r.Context()).Route = "/v2/{name}/manifests/{reference}"
		}
		w.WriteHeader(201)
		_, _ = w.Write([]byte("four"))
	}), m, slog.New(slog.DiscardHandler))
	for _, method := range []string{"GET", "BREW"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/v2/a/manifests/x", nil))
	}
}

// TestMetrics holds the exposition against a golden file: names, types, help and
// labels are what dashboards are made of.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	exercise(observe.NewMetrics(reg))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	// Times are no part of the contract.
	times := regexp.MustCompile(`(?m)^weir_(http_request|webhook|store_operation)_duration_seconds_(bucket|sum).*\n`)
	got := times.ReplaceAllString(w.Body.String(), "")
	got = strings.ReplaceAll(got, runtime.Version(), "goX")
	golden(t, "metrics.txt", []byte(got))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what was agreed; got:\n%s", name, got)
	}
}

// TestTwoServers: a second instance in one process counts for itself.
func TestTwoServers(t *testing.T) {
	a, b := prometheus.NewRegistry(), prometheus.NewRegistry()
	exercise(observe.NewMetrics(a))
	observe.NewMetrics(b)
	n, err := testutil.GatherAndCount(b, "weir_mirror_requests_total")
	if err != nil || n != 0 {
		t.Errorf("%d series counted in the other instance, %v", n, err)
	}
}

// line runs a handler for one request and gives the log line that it left.
func line(t *testing.T, h http.HandlerFunc, r *http.Request) (entry map[string]any, raw string) {
	t.Helper()
	var buf bytes.Buffer
	handler := observe.HTTP(h, observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewJSONHandler(&buf, nil)).With("room", "server"))
	func() {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler && v != errBug {
				panic(v)
			}
		}()
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}()
	if lines := strings.Count(buf.String(), "\n"); lines != 1 {
		t.Fatalf("%d lines for one request: %s", lines, buf.String())
	}
	if err := json.Unmarshal(buf.Bytes(), &entry); err != nil {
		t.Fatal(err)
	}
	return entry, buf.String()
}

var errBug = errors.New("a bug")

// who is a principal.
type who string

func (w who) String() string { return string(w) }

func TestAccessLog(t *testing.T) {
	r := httptest.NewRequest("GET", "/v2/team/app/manifests/latest?token=secret", nil)
	r.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	entry, raw := line(t, func(w http.ResponseWriter, r *http.Request) {
		req := origin.RequestOf(r.Context())
		req.Route, req.Principal = "/v2/{name}/manifests/{reference}", who("oidc:x:\u001b[31m\u009b\u007fé")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("twelve bytes"))
	}, r)
	want := map[string]any{
		"level": "INFO", "msg": "request", "room": "server", "method": "GET", "route": "/v2/{name}/manifests/{reference}",
		"path": "/v2/team/app/manifests/latest", "status": 404., "bytes": 12.,
		"identity": `oidc:x:\u001b[31m\u009b\u007fé`, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
	}
	keys := slices.Sorted(maps.Keys(entry))
	if agreed := []string{"bytes", "duration_ms", "identity", "level", "method", "msg", "path", "room", "route", "status", "time", "trace_id"}; !slices.Equal(keys, agreed) {
		t.Errorf("keys %v, want %v", keys, agreed)
	}
	for k, v := range want {
		if entry[k] != v {
			t.Errorf("%s is %#v, want %#v", k, entry[k], v)
		}
	}
	if strings.Contains(raw, "secret") {
		t.Error("the query is in the log")
	}
}

// TestLogInjection: whatever a path contains, the line is one line of visible text.
func TestLogInjection(t *testing.T) {
	for _, path := range []string{"/v2/a%0a{\"msg\":1}", "/v2/%1b[2J", "/v2/%c2%9b31m", "/v2/%7f", "/" + strings.Repeat("%0a", 5000)} {
		_, raw := line(t, func(http.ResponseWriter, *http.Request) {}, httptest.NewRequest("GET", path, nil))
		raw = strings.TrimSuffix(raw, "\n")
		if i := strings.IndexFunc(raw, func(c rune) bool { return c < ' ' || 0x7f <= c && c <= 0x9f }); i >= 0 {
			t.Errorf("%.20s: control character %q in the log", path, raw[i])
		}
		if len(raw) > 3000 {
			t.Errorf("%.20s: a line of %d bytes", path, len(raw))
		}
	}
}

func TestStatus(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, c := range map[string]struct {
		h      http.HandlerFunc
		ctx    context.Context
		status float64
		msg    string
	}{
		"nothing said": {func(http.ResponseWriter, *http.Request) {}, t.Context(), 200, "request"},
		"hints first": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusNoContent)
		}, t.Context(), 204, "request"},
		"client gone":         {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, gone, 499, "request"},
		"client gone, served": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, gone, 202, "request"},
		"client gone within a body": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("x"))
			panic(http.ErrAbortHandler)
		}, gone, 499, "request"},
		"cut without an answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, t.Context(), 499, "request"},
		"cut by us": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("x"))
			panic(http.ErrAbortHandler)
		}, t.Context(), 200, "request cut short"},
		"bug": {func(http.ResponseWriter, *http.Request) { panic(errBug) }, t.Context(), 500, "request panicked"},
	} {
		entry, _ := line(t, c.h, httptest.NewRequest("GET", "/", nil).WithContext(c.ctx))
		if entry["status"] != c.status || entry["msg"] != c.msg {
			t.Errorf("%s: %v %v, want %v %v", name, entry["status"], entry["msg"], c.status, c.msg)
		}
	}
}

// TestPanicIsLogged: a bug is an error in the log, with what it was and where; a
// connection that is cut on purpose is not one.
func TestPanicIsLogged(t *testing.T) {
	entry, raw := line(t, func(http.ResponseWriter, *http.Request) { panic(errBug) }, httptest.NewRequest("GET", "/", nil))
	stack, _ := entry["stack"].(string)
	if entry["level"] != "ERROR" || entry["error"] != errBug.Error() || !strings.Contains(stack, "TestPanicIsLogged") {
		t.Errorf("a bug is logged as %s", raw)
	}
	entry, raw = line(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, httptest.NewRequest("GET", "/", nil))
	if _, has := entry["stack"]; has || entry["level"] != "INFO" {
		t.Errorf("a cut is logged as %s", raw)
	}
}

// TestPanicPasses: what a handler panics with reaches the server as it was.
func TestPanicPasses(t *testing.T) {
	for _, fault := range []error{http.ErrAbortHandler, errBug} {
		h := observe.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(fault) }),
			observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
		func() {
			defer func() {
				if got := recover(); got != fault {
					t.Errorf("panic %v arrives as %v", fault, got)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
	}
}

func TestTraceID(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, kept := range map[string]bool{
		"00-" + id + "-00f067aa0ba902b7-01":                      true,
		"cc-" + id + "-00f067aa0ba902b7-01-later":                true,
		"00-" + id + "-00f067aa0ba902b7-01-later":                false,
		"cc-" + id + "-00f067aa0ba902b7-01later":                 false,
		"ff-" + id + "-00f067aa0ba902b7-01":                      false,
		"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01":     false,
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01": false,
		"00-" + id + "-0000000000000000-01":                      false,
		"00-" + id + "-00f067aa0ba902b7-zz":                      false,
		"00-" + id[:31] + "\n-00f067aa0ba902b7-01":               false,
		"00-" + id: false,
		"":         false,
		"00_" + id + "-00f067aa0ba902b7-01" + strings.Repeat("x", 10_000_000): false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Traceparent"] = []string{header}
		var got string
		line(t, func(_ http.ResponseWriter, r *http.Request) { got = origin.RequestOf(r.Context()).ID }, r)
		if len(got) != 32 || strings.Trim(got, "0123456789abcdef") != "" || kept != (got == id) {
			t.Errorf("traceparent %.80q gives %q", header, got)
		}
	}
	two := httptest.NewRequest("GET", "/", nil)
	two.Header["Traceparent"] = []string{"00-" + id + "-00f067aa0ba902b7-01", "00-" + id + "-00f067aa0ba902b7-01"}
	if entry, _ := line(t, func(http.ResponseWriter, *http.Request) {}, two); entry["trace_id"] == id {
		t.Error("one of two traceparents is believed")
	}
}

// kernel is a ResponseWriter that knows whether it was handed a file.
type kernel struct {
	http.ResponseWriter
	file    bool
	flushed bool
}

func (k *kernel) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if ok {
		_, k.file = limited.R.(*os.File)
	} else {
		_, k.file = r.(*os.File)
	}
	return io.Copy(struct{ io.Writer }{k.ResponseWriter}, r)
}

func (k *kernel) FlushError() error { k.flushed = true; return nil }

// TestFileReachesKernel: a file that is copied to the wrapped writer arrives as a
// file, so that net/http can let the kernel send it; and deadlines and flushes
// arrive too.
func TestFileReachesKernel(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, bytes.Repeat([]byte("x"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	k := &kernel{ResponseWriter: httptest.NewRecorder()}
	var entry bytes.Buffer
	h := observe.HTTP(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n, err := io.CopyN(w, f, 100_000); n != 100_000 || err != nil {
			t.Errorf("copied %d bytes, %v", n, err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}), observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewJSONHandler(&entry, nil)))
	h.ServeHTTP(k, httptest.NewRequest("GET", "/", nil))
	if !k.file {
		t.Error("the file does not reach ReadFrom as a file")
	}
	if !k.flushed {
		t.Error("the flush does not arrive")
	}
	if !strings.Contains(entry.String(), `"bytes":100000`) {
		t.Errorf("bytes are not counted: %s", entry.String())
	}
}

// TestClientLeaves: a client that goes away within a body is logged as 499, as
// seen over a connection.
func TestClientLeaves(t *testing.T) {
	var buf bytes.Buffer
	done := make(chan struct{})
	inner := observe.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("first"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}), observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewJSONHandler(&buf, nil)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		inner.ServeHTTP(w, r)
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	if !strings.Contains(buf.String(), `"status":499`) {
		t.Errorf("logged: %s", buf.String())
	}
}

func BenchmarkHTTP(b *testing.B) {
	h := observe.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin.RequestOf(r.Context()).Route = "/v2/"
	}), observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewJSONHandler(io.Discard, nil)))
	r := httptest.NewRequest("GET", "/v2/", nil)
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
