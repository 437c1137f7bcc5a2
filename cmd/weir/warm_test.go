package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// warmed runs warm for images against a handler, and gives what it said.
func warmed(t *testing.T, h http.HandlerFunc, change func(*warmer), names ...string) (out, errs string, failed int) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	w := &warmer{server: base, client: server.Client(), show: newWarmLines(&stdout, &stderr)}
	if change != nil {
		change(w)
	}
	var images []image
	for _, name := range names {
		x, err := parseImage(name)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, x)
	}
	failed = w.run(t.Context(), images)
	return stdout.String(), stderr.String(), failed
}

// shelf serves manifests and blobs by what their addresses end with.
type shelf map[string][]byte

func (s shelf) serve(w http.ResponseWriter, r *http.Request) {
	b, ok := s[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if strings.Contains(r.URL.Path, "/manifests/") {
		var m struct{ MediaType string }
		if err := json.Unmarshal(b, &m); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", m.MediaType)
	}
	_, _ = w.Write(b)
}

func (s shelf) add(x origintest.Tree, tag string) {
	s[x.Digest().String()] = x.Manifest.Bytes
	if tag != "" {
		s[tag] = x.Manifest.Bytes
	}
	for _, b := range x.Blobs {
		s[b.Digest.String()] = b.Bytes
	}
	for _, c := range x.Children {
		s.add(c, "")
	}
}

// What comes is what was asked for, or the image has failed.
func TestWarmChecks(t *testing.T) {
	img := origintest.Image([]byte(`{}`), origintest.Bytes(1, 1000))
	layer := img.Blobs[1].Digest.String()
	index := origintest.Index(img)
	for _, c := range []struct {
		what   string
		change func(s shelf)
		says   string
	}{
		{"all is well", func(shelf) {}, ""},
		{"other bytes", func(s shelf) { s[layer] = origintest.Bytes(2, 1000) }, "blob " + layer + ": what came is another one, of 1000 bytes"},
		{"too few", func(s shelf) { s[layer] = s[layer][:999] }, "what came is another one, of 999 bytes"},
		{"too many", func(s shelf) { s[layer] = append(s[layer][:1000:1000], 0) }, "more than 1000 bytes"},
		{"none", func(s shelf) { delete(s, layer) }, "blob " + layer + ": 404 Not Found"},
		{"another manifest", func(s shelf) { s[img.Digest().String()] = index.Manifest.Bytes }, "what came is not " + img.Digest().String()},
	} {
		s := shelf{}
		s.add(index, "1")
		c.change(s)
		out, errs, failed := warmed(t, s.serve, nil, "a/b:1")
		if want := 1; c.says != "" && (failed != want || !strings.Contains(errs, c.says)) || c.says == "" && (failed != 0 || errs != "") {
			t.Errorf("%s: %d failed\n%s%s", c.what, failed, out, errs)
		}
	}
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(origintest.Bytes(1, 500))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	s := shelf{}
	s.add(img, "1")
	_, errs, failed := warmed(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, layer) {
			cut(w, r)
		}
		s.serve(w, r)
	}, nil, "a/b:1")
	if failed != 1 || !strings.Contains(errs, "cut after 500 bytes") {
		t.Errorf("cut: %s", errs)
	}
}

// What weir had is told from what it fetched; that something is stale is passed on;
// a fresh tag is asked for by --refresh, and of tags alone.
func TestWarmSays(t *testing.T) {
	img := origintest.Index(origintest.Image([]byte(`{}`), []byte("layer")))
	s := shelf{}
	s.add(img, "1")
	var mu sync.Mutex
	var fresh, spaces []string
	out, errs, failed := warmed(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if r.Header.Get("Cache-Control") == "no-cache" {
			fresh = append(fresh, r.URL.Path)
		}
		spaces = append(spaces, r.URL.Query().Get("ns"))
		mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/1") {
			w.Header().Set("Warning", `299 - "stale: upstream a.io is not available"`)
		}
		if strings.HasSuffix(r.URL.Path, img.Children[0].Blobs[1].Digest.String()) {
			w.Header().Set("Weir-Cache", string(origin.Hit))
		}
		s.serve(w, r)
	}, func(w *warmer) { w.refresh = true }, "a.io:5000/b:1", "a.io:5000/b:1")
	if failed != 0 || strings.Count(out, ", was there\n") != 1 || strings.Count(out, ", fetched\n") != 1 ||
		!strings.Contains(errs, "weir: a.io:5000/b:1: stale: upstream a.io is not available\n") {
		t.Errorf("%d failed\n%s%s", failed, out, errs)
	}
	if len(fresh) != 2 || fresh[0] != "/v2/b/manifests/1" || len(spaces) != 6 || spaces[5] != "a.io:5000" {
		t.Errorf("fresh %v, ns %v", fresh, spaces)
	}
}

// Layers that are somewhere else are not fetched, and indexes in indexes are followed,
// but not for ever.
func TestWarmWalks(t *testing.T) {
	img := origintest.Image([]byte(`{}`), []byte("layer"))
	var m v1.Manifest
	if err := json.Unmarshal(img.Manifest.Bytes, &m); err != nil {
		t.Fatal(err)
	}
	m.Layers = append(m.Layers, v1.Descriptor{MediaType: "a/b", Digest: digest.FromString("elsewhere"), Size: 9, URLs: []string{"https://evil.example/"}})
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	img.Manifest = origintest.NewManifest(v1.MediaTypeImageManifest, b)
	x := img
	for depth := 1; depth <= warmDepth+1; depth++ {
		x = origintest.Index(x)
		s := shelf{}
		s.add(x, "1")
		out, errs, failed := warmed(t, s.serve, nil, "a/b:1")
		if deep := depth > warmDepth; deep != (failed == 1) || deep && !strings.Contains(errs, "nested too deep") || !deep && !strings.Contains(out, "2 blobs") {
			t.Errorf("depth %d: %s%s", depth, out, errs)
		}
	}
}

// A weir that is told to refresh asks its upstream about the tag, and gives what that
// stands for now; within a second of the last answer it does not.
func TestWarmRefresh(t *testing.T) {
	u := remotetest.New(t)
	u.AddImage("library/app", "1", []byte("before"))
	r := start(t, "", hub(u, "  default: docker.io\n"))
	base, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	x, err := parseImage("library/app:1")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := &warmer{server: base, client: http.DefaultClient, show: newWarmLines(&out, &out)}
	if w.run(t.Context(), []image{x}) != 0 {
		t.Fatal(out.String())
	}
	after := u.AddImage("library/app", "1", []byte("after"))
	w.refresh = true
	eventually(t, "the upstream is asked", func() bool {
		if w.run(t.Context(), []image{x}) != 0 {
			t.Error(out.String())
			return true
		}
		return u.Count("HEAD /v2/library/app/manifests/1") > 0
	})
	if n := u.Count("/v2/library/app/manifests/1"); n != 2 || !strings.Contains(out.String(), after.Digest.String()) {
		t.Errorf("the tag was asked for %d times\n%s", n, &out)
	}
}

// When the context ends, all of it fails.
func TestWarmEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	x, err := parseImage("a:1")
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-arrived; cancel() }()
	var stderr bytes.Buffer
	w := &warmer{server: base, client: server.Client(), show: newWarmLines(&stderr, &stderr)}
	if failed := w.run(ctx, []image{x}); failed != 1 || !strings.Contains(stderr.String(), "canceled") {
		t.Errorf("%d failed: %s", failed, &stderr)
	}
}

func TestWarmList(t *testing.T) {
	lines, err := parseWarmList(strings.NewReader("# a\n\na:1 # b\r\n\tb:2\n#c\nd"))
	if got := fmt.Sprint(lines); err != nil || got != "[{a:1 3} {b:2 4} {d 6}]" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := parseWarmList(strings.NewReader(strings.Repeat("a\n", 9<<20))); err == nil {
		t.Error("a list of any length")
	}
}

func FuzzWarmList(f *testing.F) {
	for _, s := range []string{"", "a:1\n", "#\n a # b\r\n", "a b\n", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lines, err := parseWarmList(strings.NewReader(s))
		if err != nil {
			return
		}
		last := 0
		for _, l := range lines {
			if l.name == "" || strings.ContainsAny(l.name, "\n#") || l.name != strings.TrimSpace(l.name) || l.number <= last {
				t.Errorf("%q has %q in line %d", s, l.name, l.number)
			}
			last = l.number
		}
	})
}

func TestRemark(t *testing.T) {
	for warning, want := range map[string]string{
		`299 - "stale: upstream docker.io is not available"`: "stale: upstream docker.io is not available",
		`299 - "it said \"no\" \\ and left"`:                 `it said "no" \ and left`,
		`299 - "one" 299 - "two"`:                            "one",
		"299 - \"\u009b31mred\"":                             "31mred",
		`299 - "cut\`:                                        "cut",
		"299 - x":                                            "",
		"":                                                   "",
	} {
		if got := remark(warning); got != want {
			t.Errorf("%q: %q, want %q", warning, got, want)
		}
	}
}
