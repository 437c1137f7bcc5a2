package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// running is a weir in this process, started as the command starts it.
type running struct {
	t      testing.TB
	url    string // of the public side
	admin  string
	data   string
	config string // the file
	log    *logBuffer
	stop   context.CancelFunc // what SIGTERM does
	ended  chan error
}

// logBuffer keeps what is logged, and lets a test wait for it.
type logBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(p)
	close(b.changed)
	b.changed = make(chan struct{})
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// entry waits for a line with that message and gives its fields.
func (b *logBuffer) entry(ctx context.Context, msg string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		b.mu.Lock()
		text, changed := b.text.String(), b.changed
		b.mu.Unlock()
		for line := range strings.Lines(text) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err == nil && fields["msg"] == msg {
				return fields, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no %q in the log: %w\n%s", msg, context.Cause(ctx), text)
		}
	}
}

// start runs weir with that configuration below the upstreams key, and data in a
// directory that outlives it if data is not "".
func start(t testing.TB, data, mirror string) *running {
	t.Helper()
	if data == "" {
		data = t.TempDir()
	}
	return startText(t, data, "log: {format: json}\nserver: {listen: '127.0.0.1:0', drain: 2m}\nadmin: {listen: '127.0.0.1:0'}\n"+
		"store: {blobs: {filesystem: {root: '"+data+"'}}}\nmirror:\n  well_known: false\n"+mirror)
}

// startText runs weir with that configuration, of which data is the root of the store.
func startText(t testing.TB, data, text string) *running {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	from := configuration{files: []string{file}}
	c, err := from.load()
	if err != nil {
		t.Fatal(err)
	}
	return startLoaded(t, data, c, from)
}

// startLoaded runs weir with what was loaded from a file.
func startLoaded(t testing.TB, data string, c *config.Config, from configuration) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, data: data, config: from.files[0], log: &logBuffer{changed: make(chan struct{})}, stop: cancel, ended: make(chan error, 1)}
	running, gone := context.WithCancelCause(t.Context())
	go func() {
		err := runServer(ctx, c, from, r.log)
		r.ended <- err
		gone(fmt.Errorf("weir has ended: %w", err))
	}()
	t.Cleanup(r.end)
	public, err := r.log.entry(running, "listening")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := r.log.entry(running, "admin listening")
	if err != nil {
		t.Fatal(err)
	}
	r.url, r.admin = "http://"+public["address"].(string), "http://"+admin["address"].(string)
	return r
}

// end stops weir and waits for it. It may be called again.
func (r *running) end() {
	r.stop()
	if err, ok := <-r.ended; ok && err != nil {
		r.t.Errorf("weir ended with %v\n%s", err, r.log)
	}
	select {
	case <-r.ended:
	default:
		close(r.ended)
	}
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body
}

func (a answer) code() string {
	var e struct {
		Errors []struct{ Code string }
	}
	if json.Unmarshal(a.body, &e) != nil || len(e.Errors) != 1 {
		return ""
	}
	return e.Errors[0].Code
}

// do asks the public side. The headers are keys and values in turn.
func (r *running) do(method, path string, body io.Reader, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	// A connection of its own: a cut one is not tried again.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	var all bytes.Buffer
	if method != http.MethodHead {
		all.Grow(int(max(0, resp.ContentLength)) + bytes.MinRead) // at once: the race detector makes growing slow
	}
	_, a.err = all.ReadFrom(resp.Body)
	a.body = all.Bytes()
	return a
}

func (r *running) get(path string, headers ...string) answer {
	r.t.Helper()
	return r.do(http.MethodGet, path, nil, headers...)
}

// adminStatus gives the status of an address of the admin side.
func (r *running) adminStatus(path string) int {
	r.t.Helper()
	resp, err := http.Get(r.admin + path)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// count gives the value of a counter or a gauge, which is named as metrics give it; 0:
// there is none.
func (r *running) count(metric string) int {
	r.t.Helper()
	for line := range strings.Lines(r.metrics()) {
		if rest, ok := strings.CutPrefix(line, metric+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				r.t.Fatalf("%s is %q", metric, rest)
			}
			return n
		}
	}
	return 0
}

// hub is the configuration of docker.io with u as its endpoint.
func hub(u *remotetest.Upstream, more string) string {
	return "  upstreams:\n    - name: docker.io\n      endpoints: [{url: '" + u.URL().String() + "'}]\n" + more
}

// limit is how long a test waits for what never happens.
const limit = 10 * time.Minute

// eventually waits for what happens behind an answer: it asks what, again and again,
// until it is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for over := time.After(limit); !so(); {
		select {
		case <-ticker.C:
		case <-over:
			t.Fatalf("never: %s", what)
		}
	}
}
