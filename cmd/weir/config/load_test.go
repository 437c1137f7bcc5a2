package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// nowhere is an environment in which two variables are set.
func nowhere(name string) (string, bool) {
	value, ok := map[string]string{"SET": "from-env", "EMPTY": "", "SNEAKY": "${SET}"}[name]
	return value, ok
}

// TestGolden loads the files of each archive, in their order, and compares what
// comes of it: "errors" is all that Load complains of, "effective" what it prints.
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var sources []source
			golden := -1
			for i, f := range archive.Files {
				if strings.HasSuffix(f.Name, ".yaml") {
					sources = append(sources, source{f.Name, f.Data})
				} else {
					golden = i
				}
			}
			if golden < 0 {
				t.Fatal("nothing to compare with")
			}
			c, err := load(sources, nowhere, nil)
			var got string
			switch want := &archive.Files[golden]; want.Name {
			case "errors":
				if err == nil {
					t.Fatal("no error")
				}
				if _, ok := errors.AsType[Errors](err); !ok {
					t.Errorf("error is a %T", err)
				}
				got = err.Error() + "\n"
			case "effective":
				if err != nil {
					t.Fatal(err)
				}
				text, err := c.Effective()
				if err != nil {
					t.Fatal(err)
				}
				got = string(text)
			default:
				t.Fatalf("no meaning of the file %s", want.Name)
			}
			if want := string(archive.Files[golden].Data); got != want && !*update {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if *update {
				archive.Files[golden].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestDefault(t *testing.T) {
	c, err := Load(nil, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mirror.Default != "docker.io" || c.Server.Listen[0].String() != "127.0.0.1:5000" {
		t.Errorf("without a file: default %q, listen %v", c.Mirror.Default, c.Server.Listen)
	}
	if got, want := print(t, c), print(t, Default()); got != want {
		t.Errorf("Load of no file gives\n%s\nDefault gives\n%s", got, want)
	}
	c, err = load([]source{{"weir.yaml", []byte("{}")}}, nowhere, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mirror.Default != "" {
		t.Errorf("with a file that says nothing of it, the default upstream is %q", c.Mirror.Default)
	}
	// A second configuration in the process owes nothing to the first.
	Default().Mirror.Upstreams[0].Aliases[0] = "spoilt"
	if strings.Contains(print(t, Default()), "spoilt") {
		t.Error("two configurations share memory")
	}
}

func TestOverrides(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("server: {listen: [':1', ':2']}\nstore: {metadata: {filesystem: {root: /m}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load([]string{file}, nowhere,
		Override{"--listen", "server.listen", "unix:/run/${X}.sock"},
		Override{"--data", "store.blobs.filesystem.root", "/d"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Server.Listen; len(got) != 1 || got[0] != (Address{"unix", "/run/${X}.sock"}) {
		t.Errorf("listen = %v", got)
	}
	if c.Store.Blobs.Filesystem.Root != "/d" || c.Store.Metadata.Filesystem.Root != "/m" {
		t.Errorf("store = %+v", c.Store)
	}
	for value, want := range map[string]string{
		"nonsense":       `--listen: server.listen: "nonsense" is no address: write host:port, :port or unix:/path`,
		"127.0.0.1:5001": `--listen: server.listen is 127.0.0.1:5001, and admin.listen is 127.0.0.1:5001: only one of them can be listened on`,
	} {
		if _, err := Load(nil, nowhere, Override{"--listen", "server.listen", value}); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestLoadMissing(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "weir.yaml")
	_, err := Load([]string{missing, dir}, nowhere)
	if want := missing + ": it is not there\n" + dir + ": is a directory"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestWarnings(t *testing.T) {
	c, err := load([]source{{"weir.yaml", []byte(`
server: {timeouts: {stall: 5s}, trusted_proxies: [10.0.0.0/8, "::/0"]}
mirror:
  upstreams:
    - name: ghcr.io
      public: true
      endpoints:
        - {url: http://cache.corp, username: u, password: p}
        - {url: http://127.0.0.1:80, username: u, password: p}
        - {url: https://ghcr.io, username: u, password: p}
`)}}, nowhere, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(c.Warnings(), "\n")
	want := "server.timeouts.stall is below 10s: what kernels buffer can make a slow client look stalled\n" +
		"server.trusted_proxies has ::/0: whoever connects may say who they are, and where from\n" +
		"the password for http://cache.corp travels unencrypted: its URL is http"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if w := Default().Warnings(); len(w) > 0 {
		t.Errorf("the default is warned of: %q", w)
	}
}

func print(t *testing.T, c *Config) string {
	t.Helper()
	text, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOneDirectoryIsOneStore: a root is the same whether it is written in one way or in
// two, or led to by a link; what only looks alike is another.
func TestOneDirectoryIsOneStore(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("data", "link"); err != nil {
		t.Fatal(err)
	}
	for metadata, same := range map[string]bool{
		"data": true, "./data/": true, "data/../data": true, filepath.Join(dir, "data"): true, "link": true,
		"data2": false, "data/meta": false, "Data": false,
	} {
		text := "store: {blobs: {filesystem: {root: ./data}}, metadata: {filesystem: {root: '" + metadata + "'}}}\n"
		c, err := load([]source{{"weir.yaml", []byte(text)}}, nowhere, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Store.Metadata.Filesystem.Root == c.Store.Blobs.Filesystem.Root; got != same {
			t.Errorf("%s beside ./data: one store is %t", metadata, got)
		}
	}
}

// TestEmptyFileName: a variable of a shell that is not set names no file.
func TestEmptyFileName(t *testing.T) {
	_, err := Load([]string{""}, nowhere)
	if err == nil || err.Error() != "the name of a file is empty" {
		t.Errorf("%v", err)
	}
}
