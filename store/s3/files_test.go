package s3_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// Somebody else's objects are read as files in directories, however many there are.
func TestFiles(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	put := func(key, content string) {
		t.Helper()
		name := filepath.Join(server.Dir, bucket, filepath.FromSlash(key))
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			err = os.WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const many = 1100 // more than a page
	for i := range many {
		put(fmt.Sprintf("theirs/many/%04d/link", i), "x")
	}
	put("theirs/data", "content")
	put("theirs2/data", "another's")
	dir, done, err := s3.Files(t.Context(), s3.Options{
		Bucket: bucket, Endpoint: server.URL, PathStyle: true, Prefix: "/theirs/",
		AccessKeyID: s3test.AccessKey, SecretAccessKey: func() (string, error) { return s3test.SecretKey, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if b, err := fs.ReadFile(dir, "data"); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	for name, want := range map[string]fs.FileMode{"data": 0o444, "many": fs.ModeDir | 0o555, ".": fs.ModeDir | 0o555, "many/0007/link": 0o444} {
		fi, err := fs.Stat(dir, name)
		if err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	for _, name := range []string{"none", "man", "many/none", "../theirs2/data", "data/x"} {
		if _, err := fs.Stat(dir, name); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("stat %s: %v", name, err)
		}
		if _, err := dir.Open(name); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("open %s: %v", name, err)
		}
		if _, err := fs.ReadDir(dir, name); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("list %s: %v", name, err)
		}
	}
	entries, err := fs.ReadDir(dir, "many")
	if err != nil || len(entries) != many || !entries[7].IsDir() || entries[7].Name() != "0007" {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if !slices.IsSortedFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) {
		t.Error("not in order")
	}
	if entries, err := fs.ReadDir(dir, "."); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
