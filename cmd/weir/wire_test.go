package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// metrics gives what the admin side says of itself.
func (r *running) metrics() string {
	r.t.Helper()
	resp, err := http.Get(r.admin + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// Every metric of a mirror and its fills is wired: a cold and a warm pull show in them.
func TestMetricsAreWired(t *testing.T) {
	u := remotetest.New(t)
	img := u.AddImage("library/nginx", "1.27", bytes.Repeat([]byte("x"), 1000))
	r := start(t, "", hub(u, ""))
	pull(t, r, img, "docker.io/library/nginx", "1.27")
	// Blobs are stored behind the answer; until then a pull reads along with the fill.
	eventually(t, "fills end", func() bool {
		text := r.metrics()
		return strings.Contains(text, `weir_fills_total{result="stored"} 2`) && strings.Contains(text, "weir_fills_active 0")
	})
	eventually(t, "they are forgotten", func() bool { return strings.Contains(string(r.get("/v2/_ext/fills").body), `"fills":[]`) })
	pull(t, r, img, "docker.io/library/nginx", "1.27")
	for _, want := range []string{ // some of them when the answer has left
		`weir_mirror_requests_total{kind="blob",result="fill",upstream="docker.io"} 2`,
		`weir_mirror_requests_total{kind="blob",result="hit",upstream="docker.io"} 2`,
		`weir_mirror_upstream_requests_total{endpoint="` + u.Host() + `",status="200",upstream="docker.io"} 5`,
		`weir_fills_active 0`,
		`weir_fill_followers 0`,
		`weir_build_info{`,
		`weir_http_requests_total{method="GET",route="/v2/{name}/blobs/{digest}",status="200"} 4`,
	} {
		eventually(t, want, func() bool { return strings.Contains(r.metrics(), want) })
	}
	text := r.metrics()
	for _, metric := range []string{"weir_mirror_upstream_bytes_total", "weir_mirror_served_bytes_total"} {
		if !strings.Contains(text, metric+`{upstream="docker.io"}`) {
			t.Errorf("no %s", metric)
		}
	}
}

// pushBlob pushes a blob in one request.
func pushBlob(t *testing.T, r *running, repo string, content []byte) v1.Descriptor {
	t.Helper()
	d := v1.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(content), Size: int64(len(content))}
	if a := r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.Digest.String(), bytes.NewReader(content)); a.status != http.StatusCreated {
		t.Fatalf("push of a blob to %s: %d %s", repo, a.status, a.body)
	}
	return d
}

// pushImage pushes an image whose only layer and whose config have that content.
func pushImage(t *testing.T, r *running, repo, tag, content string) {
	t.Helper()
	m := v1.Manifest{
		MediaType: v1.MediaTypeImageManifest,
		Config:    pushBlob(t, r, repo, []byte(`"`+content+`"`)),
		Layers:    []v1.Descriptor{pushBlob(t, r, repo, []byte(content))},
	}
	m.SchemaVersion = 2
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if a := r.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(b), "Content-Type", m.MediaType); a.status != http.StatusCreated {
		t.Fatalf("push of an image to %s: %d %s", repo, a.status, a.body)
	}
}

// A push shows in what the store was asked for, and in how often it waited for the disk:
// for a blob's data, for its name, and for its link; for a manifest and its tag once.
func TestStoreMetricsAreWired(t *testing.T) {
	r := start(t, "", "  upstreams: []\n")
	syncs := func() int {
		var n int
		for line := range strings.Lines(r.metrics()) {
			if text, ok := strings.CutPrefix(line, `weir_store_operations_total{backend="filesystem",operation="sync",result="ok"} `); ok {
				if _, err := fmt.Sscan(text, &n); err != nil {
					t.Fatal(err)
				}
			}
		}
		return n
	}
	pushImage(t, r, "team/first", "v1", "what a process does once")
	before := syncs()
	pushImage(t, r, "team/app", "v1", "content")
	if got := syncs() - before; got != 2*3+1 {
		t.Errorf("%d syncs for an image of two blobs", got)
	}
	text := r.metrics()
	for _, want := range []string{
		`weir_store_operations_total{backend="filesystem",operation="commit-ingest",result="ok"} 4`,
		`weir_store_operations_total{backend="filesystem",operation="put-records",result="ok"} `,
		`weir_store_operation_duration_seconds_count{backend="filesystem",operation="sync"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// An upstream whose certificate a private authority signed is believed with its ca,
// and only with it.
func TestUpstreamCA(t *testing.T) {
	u := remotetest.New(t)
	img := u.AddImage("library/nginx", "1.27", []byte("layer"))
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(u.URL()))
	defer front.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}
	if err := os.WriteFile(ca, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	for endpoint, status := range map[string]int{
		"{url: '" + front.URL + "', ca: '" + ca + "'}": 200,
		"{url: '" + front.URL + "'}":                   502,
	} {
		r := start(t, "", "  upstreams: [{name: docker.io, endpoints: ["+endpoint+"]}]\n")
		if a := r.get("/v2/docker.io/library/nginx/manifests/" + img.Digest.String()); a.status != status {
			t.Errorf("%s: %d %s", endpoint, a.status, a.body)
		}
		r.end()
	}
}

// An image's name is read as people write it.
func TestParseImage(t *testing.T) {
	table, err := mirror.NewTable([]*mirror.Upstream{{Name: "docker.io"}, {Name: "registry.corp:5000"}}, "docker.io", "")
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	const empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for image, want := range map[string]string{
		"nginx":                                  "nginx latest",
		"team/app:v1":                            "team/app v1",
		"docker.io/nginx:1.27":                   "docker.io/library/nginx 1.27",
		"docker.io/library/nginx@" + empty:       "docker.io/library/nginx " + empty,
		"docker.io/library/nginx:1@" + empty:     "docker.io/library/nginx " + empty,
		"registry.corp:5000/app":                 "registry.corp_5000/app latest",
		"127.0.0.1:5000/docker.io/library/nginx": "docker.io/library/nginx latest",
		"127.0.0.1:5000/team/app:v1":             "team/app v1",
		"evil.example/app":                       "",
		"":                                       "",
		"Not/Valid":                              "",
		"../../etc/passwd":                       "",
	} {
		repo, ref, err := findImage(image, table, c)
		if got := repo.String() + " " + ref.String(); want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%q: %q, %v", image, got, err)
		}
	}
}

// Rooms have levels of their own.
func TestLogLevels(t *testing.T) {
	var out bytes.Buffer
	l := newLogs(&out, config.Log{
		Level: config.Level(slog.LevelWarn), Format: config.FormatJSON,
		Levels: map[string]config.Level{"mirror": config.Level(slog.LevelDebug)},
	})
	l.room("mirror").Debug("seen")
	l.room("origin").Info("unseen")
	l.release()
	var entry map[string]any
	if err := json.Unmarshal(out.Bytes(), &entry); err != nil || entry["msg"] != "seen" || entry["room"] != "mirror" {
		t.Errorf("%s, %v", &out, err)
	}
}

// What is logged is one line of visible text in either format, whatever it is of, and reads
// back as it was.
func TestLogIsVisible(t *testing.T) {
	const hostile = "a\x1b[2J\n{\"msg\":1}\x7f\u009b31m\u0085 caf\u00e9 \u00a0\u2028"
	for _, format := range []config.Format{config.FormatJSON, config.FormatText} {
		var out bytes.Buffer
		l := newLogs(&out, config.Log{Format: format})
		l.room("authz").Info(hostile, "identity", hostile, hostile, 1)
		l.release()
		line := strings.TrimSuffix(out.String(), "\n")
		if i := strings.IndexFunc(line, unicode.IsControl); i >= 0 {
			t.Errorf("%v: %q has a control character at %d", format, line, i)
		}
		var entry map[string]any
		if format == config.FormatJSON && (json.Unmarshal([]byte(line), &entry) != nil || entry["identity"] != hostile) {
			t.Errorf("%s reads as %q", line, entry["identity"])
		}
	}
}

// A unix socket is listened on; one that a dead process left is taken over, one that
// answers is not, and neither is a file that is no socket.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	a := config.Address{Network: "unix", Addr: path}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listenOn(a)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }), config.Server{}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	if resp, err := client.Get("http://weir/"); err != nil || resp.StatusCode != http.StatusTeapot {
		t.Errorf("%v, %v", resp, err)
	}
	if _, err := listenOn(a); err == nil {
		t.Error("a socket in use was taken")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenOn(a); err == nil {
		t.Error("a file was taken")
	}
}
