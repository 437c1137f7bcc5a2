package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		bad  bool
	}{
		{text: "7 (nginx) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 100", want: 1750 * time.Millisecond},
		{text: "7 (a (b) c) R 1 7 7 0 -1 0 1 2 3 4 0 1 0 0 20", want: 10 * time.Millisecond},
		{text: "7 (nginx) S 1 7", bad: true},
		{text: "7 (nginx) S 1 7 7 0 -1 4194560 1 2 3 4 x 25 0 0", bad: true},
		{text: "", bad: true},
	} {
		got, err := parseStat(c.text)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	const text = "Name:\tweir\nVmHWM:\t   25600 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n"
	for _, c := range []struct {
		key  string
		want int64
		bad  bool
	}{
		{key: "VmHWM", want: 25600 << 10},
		{key: "VmRSS", want: 1 << 20},
		{key: "VmSwap", bad: true},
		{key: "Threads", bad: true},
	} {
		got, err := parseStatus(text, c.key)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %d, %v", c.key, got, err)
		}
	}
}

// TestReadUsage: what is read of a process is what it is known to have.
func TestReadUsage(t *testing.T) {
	if err := resetPeak(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	before, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	memory := bytes.Repeat([]byte{1}, 64<<20)
	after, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.peak - before.peak; grown < int64(len(memory))*3/4 {
		t.Errorf("the peak grew by %d bytes, when %d came", grown, len(memory))
	}
	if after.rss > after.peak || after.cpu < before.cpu || before.rss == 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestParseWrk(t *testing.T) {
	for _, c := range []struct {
		out  string
		want load
		bad  bool
	}{
		{out: "Running\n\nsummary 100 2000 4000000 0\n", want: load{100, 2000, 4 * time.Second}},
		{out: "Running\n\nsummary 100 2000 4000000 3\n", want: load{100, 2000, 4 * time.Second}, bad: true},
		{out: "Running\n\nsummary 100 many\n", bad: true},
		{out: "unable to connect\n", bad: true},
	} {
		got, err := parseWrk(c.out)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %+v, %v", c.out, got, err)
		}
	}
}

func TestFilter(t *testing.T) {
	f, err := parseFilter("push, ^hot$")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"push-small": true, "hot": true, "hot-small": false, "cold": false} {
		if f.match(name) != want {
			t.Errorf("%s: not %t", name, want)
		}
	}
	if all, err := parseFilter(""); err != nil || !all.match("anything") {
		t.Errorf("nothing asked for is not everything: %v", err)
	}
	if _, err := parseFilter("("); err == nil {
		t.Error("an expression that is none is accepted")
	}
}

func TestOnDisk(t *testing.T) {
	if err := onDisk("/dev/shm"); err == nil {
		t.Error("a file system in memory is accepted")
	}
	if err := onDisk(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there is accepted")
	}
}

func TestMedian(t *testing.T) {
	if got := median([]time.Duration{9, 1, 5}); got != 5 {
		t.Errorf("%d", got)
	}
	if got := median([]time.Duration(nil)); got != 0 {
		t.Errorf("%d", got)
	}
}

// TestPace: what is reserved adds up, time that nobody used is lost but for the
// slack, and it never tells anyone to wait a negative time.
func TestPace(t *testing.T) {
	p := newPace(1000) // a byte each millisecond
	now := time.Unix(1, 0)
	for _, step := range []struct {
		after time.Duration
		n     int
		want  time.Duration
	}{
		{0, 100, 100 * time.Millisecond},
		{0, 50, 150 * time.Millisecond},
		{150 * time.Millisecond, 10, 10 * time.Millisecond},
		{15 * time.Millisecond, 10, 5 * time.Millisecond},   // 5 ms late: made up for
		{time.Second, 10, 0},                                // far too late: 20 ms of it count
		{0, 30, 20 * time.Millisecond},                      // the other half of the slack is used up
		{20 * time.Millisecond, 1, time.Millisecond},        // on time
		{time.Millisecond, 1000, 1000 * time.Millisecond},   // much at once
		{500 * time.Millisecond, 0, 500 * time.Millisecond}, // nothing costs nothing
	} {
		now = now.Add(step.after)
		if got := p.reserve(now, step.n); got != step.want {
			t.Errorf("%v later, %d bytes: wait %v, want %v", step.after, step.n, got, step.want)
		}
	}
}

// TestDataset: a blob is the same in every run, is what its digest says, and shares
// nothing with the next.
func TestDataset(t *testing.T) {
	var first []chunk
	for run := range 2 {
		d, err := newDataset(filepath.Join(t.TempDir(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		all, err := d.chunks(5, 1000, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			text, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(text)) != c.n || digest.FromBytes(text) != c.digest {
				t.Errorf("%d bytes that are not %s", len(text), c.digest)
			}
		}
		if all[0].digest == all[1].digest {
			t.Error("two blobs are one")
		}
		if run == 0 {
			first = all
		} else if all[0].digest != first[0].digest {
			t.Error("another run, another blob")
		}
	}
}

func TestImage(t *testing.T) {
	d, err := newDataset(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	i, err := d.image(1, 10, 4)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := parseManifest(i.manifest)
	if err != nil {
		t.Fatal(err)
	}
	if len(blobs) != 5 || blobs[0].Size != kB || blobs[4].Digest != i.blobs[4].digest || i.size() != kB+40 {
		t.Errorf("%+v", blobs)
	}
	other, err := newImage(i.blobs, "2", &i)
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(other.manifest, &m); err != nil {
		t.Fatal(err)
	}
	if other.digest == i.digest || m.Subject == nil || m.Subject.Digest != i.digest {
		t.Errorf("%s", other.manifest)
	}
}

func TestSplitPath(t *testing.T) {
	for path, want := range map[string][3]string{
		"/v2/":                       {"", "ping", ""},
		"/v2/lib/app/manifests/v1":   {"lib/app", "manifests", "v1"},
		"/v2/blobs/blobs/sha256:00":  {"blobs", "blobs", "sha256:00"},
		"/v2/a/manifests/blobs/x":    {"a/manifests", "blobs", "x"},
		"/v2/manifests/v1":           {},
		"/manifests/v1":              {},
		"/v2/lib/app/tags/list":      {},
		"/lib/v2/app/manifests/v1":   {},
		"/v2/lib/app/blobs/uploads/": {"lib/app", "blobs", "uploads/"},
	} {
		repo, kind, ref := splitPath(path)
		if got := [3]string{repo, kind, ref}; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestRows: every goal can be read, names are unique, and only servers that are
// columns take part.
func TestRows(t *testing.T) {
	names := map[string]bool{}
	for _, w := range allRows() {
		if names[w.name] {
			t.Errorf("two rows are called %s", w.name)
		}
		names[w.name] = true
		if w.work == "" || w.run == nil || len(w.measures) == 0 {
			t.Errorf("%s is not whole", w.name)
		}
		measures := map[string]bool{}
		for _, m := range w.measures {
			if measures[m.name] {
				t.Errorf("%s has two measures called %s", w.name, m.name)
			}
			measures[m.name] = true
		}
		for _, s := range w.servers {
			if !slices.Contains(columns(), s) {
				t.Errorf("%s: %s has no column", w.name, s)
			}
		}
		if !slices.Contains(w.servers, weir) {
			t.Errorf("%s leaves weir out", w.name)
		}
	}
	if len(names) < 15 {
		t.Errorf("only %d rows", len(names))
	}
}

func TestConfigs(t *testing.T) {
	p := place{dir: "/x", addr: "127.0.0.1:1", admin: "127.0.0.1:2", upstream: "http://127.0.0.1:3", ttl: time.Second}
	for _, s := range allServers("/bin/weir") {
		if s.name == direct || s.name == directAnew {
			continue // nothing runs
		}
		var text string
		if s.config != nil {
			text = s.config(p)
		}
		text += strings.Join(s.argv(p, "/x/config"), " ")
		if !strings.Contains(text, "127.0.0.1:1") && !strings.Contains(text, "127.0.0.1 --port 1") || !strings.Contains(text, "/x") {
			t.Errorf("%s does not learn where it lives: %s", s.name, text)
		}
	}
}

func TestPick(t *testing.T) {
	for text, want := range map[string]int{"": len(allRows()), "^cold$": 1, "hot, push": 9, "nosuch": 0, "^cold$, nosuch": 1} {
		names, err := parseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pick(allRows(), names); len(got) != want || (err != nil) != strings.Contains(text, "nosuch") {
			t.Errorf("%q: %d rows, %v", text, len(got), err)
		}
	}
}

// TestServers: every column of the table can be asked for by its name, and only what was
// asked for takes part.
func TestServers(t *testing.T) {
	var names []string
	for _, s := range allServers("/bin/weir") {
		names = append(names, s.name)
	}
	if !slices.Equal(names, columns()) {
		t.Errorf("servers %q, columns %q", names, columns())
	}
	only, err := parseFilter("^direct$")
	if err != nil {
		t.Fatal(err)
	}
	if err := only.know("server", names); err != nil {
		t.Error(err)
	}
	b := &bench{servers: []server{{name: weir}}}
	if _, ok := b.server(direct); ok {
		t.Error("what was not asked for takes part")
	}
}

func TestReadSyncs(t *testing.T) {
	const ok = `weir_store_operations_total{backend="filesystem",operation="sync",result="ok"} `
	for _, c := range []struct {
		text string
		want float64
		bad  bool
	}{
		{text: ok + "12\n" + strings.Replace(ok, "ok", "error", 1) + "1\n", want: 13},
		{text: ok + "1.5e+06\n", want: 1.5e6},
		{text: "weir_store_operations_total{operation=\"get-record\"} 3\n" + ok + "2\n", want: 2},
		{text: ok + "x\n", bad: true},
		{text: "weir_build_info 1\n", bad: true},
		{text: "", bad: true},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, c.text) }))
		got, err := readSyncs(t.Context(), s.Listener.Addr().String())
		s.Close()
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

// TestNoSuchServer: a name that no server has is an error before anything is begun.
func TestNoSuchServer(t *testing.T) {
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{"-servers", "weir,zot", "-rows", "^warm$", "-dir", t.TempDir(), "-reports", t.TempDir()}, &out, &progress)
	if err == nil || !strings.Contains(err.Error(), "zot") || !strings.Contains(err.Error(), nginx) || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}
