package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/origintest"
)

// runGC runs the command with p's configuration.
func (p *process) runGC(args ...string) lifetime.Report {
	p.t.Helper()
	var out, said bytes.Buffer
	if code := run(p.t.Context(), append([]string{"gc", "--json", "--config", p.file}, args...), &out, &said); code != exitDone {
		p.t.Errorf("weir gc: exit %d: %s", code, &said)
	}
	var r lifetime.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		p.t.Errorf("weir gc: %v: %s", err, &out)
	}
	return r
}

// reclaimed is what its metric says that garbage collection has removed, in bytes.
func (p *process) reclaimed() float64 {
	p.t.Helper()
	resp, err := p.client.Get("http://" + p.admin + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "weir_gc_reclaimed_bytes_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.t.Error(err)
			}
			return n
		}
	}
	p.t.Error("no such metric")
	return 0
}

// pushBlob pushes a blob to repository a.
func (p *process) pushBlob(b []byte) {
	p.t.Helper()
	if err := p.tryBlob(b); err != nil {
		p.t.Fatal(err)
	}
}

// tryBlob is pushBlob that may fail.
func (p *process) tryBlob(b []byte) error {
	in, err := p.registry().Upload(p.t.Context(), origintest.Repo(p.t, "a"), "", digest.SHA256)
	if err == nil {
		_, err = in.Write(b)
	}
	if err == nil {
		_, err = in.Commit(p.t.Context(), digest.FromBytes(b))
	}
	return err
}

// older makes all that is stored older. What a server beside it removes meanwhile is gone.
func older(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			at := time.Now().Add(-by)
			err = os.Chtimes(name, at, at)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The command works beside a running server, and on what one left that was stopped, or
// killed; and the server does the same by itself.
func TestGC(t *testing.T) {
	data := filepath.Join(t.TempDir(), strings.Repeat("deep", 20), strings.Repeat("down", 20))
	p := newProcess(t, data, "")
	p.start()
	reg := p.registry()
	tree := origintest.Image([]byte("{}"), []byte("layer"))
	lone := func(n int) {
		t.Helper()
		p.pushBlob(fmt.Appendf(nil, "lone %d", n))
		older(t, data, 48*time.Hour)
	}
	freed := func(r lifetime.Report, want int64) {
		t.Helper()
		if r.Freed != want || r.FreedBytes != want*int64(len("lone 1")) {
			t.Errorf("%+v, want %d blobs freed", r, want)
		}
	}
	there := func() {
		t.Helper()
		for _, b := range tree.Blobs {
			if _, err := reg.Stat(t.Context(), origintest.Repo(t, "a"), b.Digest); err != nil {
				t.Error(err)
			}
		}
	}
	for _, b := range tree.Blobs {
		p.pushBlob(b.Bytes)
	}
	origintest.PushManifest(t, reg, "a", tree.Manifest, "x")
	lone(1)
	if fi, err := os.Stat(filepath.Join(data, ".sock")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", fi, err)
	}
	freed(p.runGC("--dry-run"), 1)
	freed(p.runGC(), 1)
	freed(p.runGC(), 0)
	if _, err := reg.Stat(t.Context(), origintest.Repo(t, "a"), origintest.NewBlob("", []byte("lone 1")).Digest); !origin.Unknown(err) {
		t.Errorf("what was collected: %v", err)
	}
	there()
	if a := p.reclaimed(); a != 6 {
		t.Errorf("%v bytes reclaimed by the metric", a)
	}

	lone(2)
	p.stop()
	if _, err := os.Lstat(filepath.Join(data, ".sock")); err == nil {
		t.Error("the socket is there after the end")
	}
	freed(p.runGC("--dry-run"), 1)
	freed(p.runGC(), 1)

	p.start()
	lone(3)
	p.kill()
	freed(p.runGC(), 0) // what was in the log of a process that was killed is written anew
	older(t, data, 48*time.Hour)
	freed(p.runGC(), 1)

	// By itself.
	text, err := os.ReadFile(p.file)
	if err == nil {
		err = os.WriteFile(p.file, append(text, "origin: {gc: {interval: 100ms}}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	lone(4)
	eventually(t, "garbage is collected", func() bool { return p.reclaimed() == 6 })
	there()

	// What cannot be read is not absent.
	lone(5)
	manifests, err := filepath.Glob(filepath.Join(data, "records/r/a/_m/sha256/*"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("%v, %v", manifests, err)
	}
	p.stop()
	if err := os.WriteFile(manifests[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	if code := run(t.Context(), []string{"gc", "--json", "--config", p.file}, &out, &said); code != exitFailed {
		t.Errorf("over damaged records: exit %d: %s", code, &said)
	}
	p.saidNothingBad()
}
