package client

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	f := Containerd(mirror(t, "http://127.0.0.1:5000"), Version{}, "ghcr.io")
	path := filepath.Join(dir, "ghcr.io", "hosts.toml")
	if changed, err := f.Remove(dir); changed || err != nil {
		t.Errorf("remove where there is nothing: %v, %v", changed, err)
	}
	if changed, err := f.Write(dir); !changed || err != nil {
		t.Fatalf("write: %v, %v", changed, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != mode {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if changed, err := f.Write(dir); changed || err != nil {
		t.Errorf("write again: %v, %v", changed, err)
	}
	if again, err := os.Stat(path); err != nil || !os.SameFile(info, again) {
		t.Error("a file that says what it should is written anew")
	}
	names, err := fs.Glob(os.DirFS(dir), "*/*")
	if err != nil || !reflect.DeepEqual(names, []string{"ghcr.io/hosts.toml"}) {
		t.Errorf("there are %v", names)
	}
	// Another's file in the directory keeps the directory.
	other := filepath.Join(dir, "ghcr.io", "ca.crt")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := f.Remove(dir); !changed || err != nil {
		t.Errorf("remove: %v, %v", changed, err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := f.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := ContainerdIn(dir); err != nil || len(files) != 1 || files[0].Name != "ghcr.io/hosts.toml" {
		t.Errorf("weir has a part in %v, %v", files, err)
	}
	if _, err := f.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if files, err := ContainerdIn(filepath.Join(dir, "none")); err != nil || len(files) > 0 {
		t.Errorf("weir has a part in %v, %v", files, err)
	}
}

func TestFileBehindLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "real.json")
	link := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(target, []byte(`{"debug": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.json", link); err != nil {
		t.Fatal(err)
	}
	if _, err := Docker(mirror(t, "http://127.0.0.1:5000")).Write(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is a %v, %v", info.Mode(), err)
	}
	if text, err := os.ReadFile(target); err != nil || !bytes.Contains(text, []byte("registry-mirrors")) {
		t.Errorf("the file is %s, %v", text, err)
	}
}
