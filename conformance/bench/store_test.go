package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
)

func TestParseETag(t *testing.T) {
	for text, want := range map[string]int{
		`"d41d8cd98f00b204e9800998ecf8427e"`:     0,
		"d41d8cd98f00b204e9800998ecf8427e-320":   320,
		`"d41d8cd98f00b204e9800998ecf8427e-320"`: 320,
		"d41d8cd98f00b204e9800998ecf8427e-":      -1,
		"d41d8cd98f00b204e9800998ecf8427e-x":     -1,
		"":                                       0,
	} {
		if got, err := parseETag(text); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d parts, %v", text, got, err)
		}
	}
}

// TestStream: however it is read, it is the same bytes, as many as were asked for, and no
// two blocks of it are alike.
func TestStream(t *testing.T) {
	const n = 3*miB + 5
	whole, err := io.ReadAll(newStream(n))
	if err != nil || len(whole) != n {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	if bytes.Equal(whole[:miB], whole[miB:2*miB]) {
		t.Error("two blocks are alike")
	}
	if err := iotest.TestReader(newStream(n), whole); err != nil {
		t.Error(err)
	}
	late := newStream(n)
	late.at = 2 * miB
	if rest, err := io.ReadAll(late); err != nil || !bytes.Equal(rest, whole[2*miB:]) {
		t.Errorf("from the middle on it is another stream: %v", err)
	}
}

// TestBucketConfigs: both registries are told of the same S3 server, and of redirects.
func TestBucketConfigs(t *testing.T) {
	p := place{dir: "/x", addr: "127.0.0.1:1", admin: "127.0.0.1:2"}
	for name, config := range map[string]func(place, string, bool) string{weir: weirBucket, dockerRegistry: distributionBucket} {
		with, without := config(p, "http://127.0.0.1:3", true), config(p, "http://127.0.0.1:3", false)
		if with == without {
			t.Errorf("%s is not told of redirects", name)
		}
		for _, want := range []string{"127.0.0.1:1", "http://127.0.0.1:3", bucketName, secretKey} {
			if !strings.Contains(with, want) || !strings.Contains(without, want) {
				t.Errorf("%s does not learn %s: %s", name, want, with)
			}
		}
	}
}

// TestHoard: the files of an image are those that were the pattern, with its own names and
// bytes, and one image in so many has no manifest.
func TestHoard(t *testing.T) {
	p := pattern{root: t.TempDir(), link: []byte("a link\n"), version: "v", head: []byte("a head\n"), repo: []byte("a repository\n")}
	if err := os.MkdirAll(filepath.Join(p.root, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.begin("app"); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if err := p.image("app", n); err != nil {
			t.Fatal(err)
		}
	}
	files := func(dir string) []string {
		found, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	blobs, links := files(filepath.Join(p.root, "blobs", "sha256")), files(p.below("app", "_b"))
	manifests := files(p.below("app", "_m"))
	if len(blobs) != 2*gcImage || len(links) != 2*gcImage || len(manifests) != 1 {
		t.Fatalf("%d blobs, %d links, %d manifests", len(blobs), len(links), len(manifests))
	}
	for _, b := range blobs {
		text, err := os.ReadFile(b)
		if err != nil || digest.FromBytes(text).Encoded() != filepath.Base(b) {
			t.Errorf("%s holds %q, %v", b, text, err)
		}
	}
	text, err := os.ReadFile(manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	_, own, ok := bytes.Cut(text, append([]byte("\n"), p.head...))
	named, err := parseManifest(own)
	if !ok || err != nil || digest.FromBytes(own).Encoded() != filepath.Base(manifests[0]) || len(named) != gcImage {
		t.Errorf("the manifest is %q, %v", text, err)
	}
}

// TestCollected: weir takes what the hoard makes for its own, and a collection frees what
// no manifest names.
func TestCollected(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "weir")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/weir").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := newDataset(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	servers := allServers(binary)
	b := &bench{dir: dir, data: data, blobs: 2000, progress: io.Discard}
	v, _, err := b.try(t.Context(), gcRows()[0], servers[len(servers)-1], 0, "")
	if freed := v["freed"].Number; err != nil || freed > 2000/gcGarbage || freed < 2000/gcGarbage-1 {
		t.Errorf("%v, %v", v, err)
	}
}
