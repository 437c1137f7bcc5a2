package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror/fill"
)

// What a weir that was killed has left among what is temporary goes when another one
// starts. One that lives keeps its own, and what is none of ours stays.
func TestSpoolsThatWereLeft(t *testing.T) {
	tmp, outside := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	there := func() []string {
		t.Helper()
		entries, err := os.ReadDir(tmp)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	open := func() (*kept, string) {
		t.Helper()
		before := there()
		k := &kept{}
		if _, err := k.openSpools(config.Backend{S3: config.S3{Bucket: "b"}}); err != nil {
			t.Fatal(err)
		}
		for _, name := range there() {
			if !slices.Contains(before, name) {
				return k, name
			}
		}
		t.Fatal("it has none")
		return nil, ""
	}
	end := func(k *kept) {
		t.Helper()
		for _, end := range k.closers {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	}
	left := filepath.Join(tmp, "weir-spool-1")
	for _, dir := range []string{left, filepath.Join(tmp, "others")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{filepath.Join(left, "bytes"), filepath.Join(outside, "bytes"), filepath.Join(tmp, "weir-spool-2")} {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(tmp, "weir-spool-3")); err != nil {
		t.Fatal(err)
	}
	one, first := open()
	other, second := open()
	want := []string{"others", first, "weir-spool-2", "weir-spool-3", second}
	slices.Sort(want)
	if got := there(); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	if _, err := os.Stat(filepath.Join(outside, "bytes")); err != nil {
		t.Error(err)
	}
	end(one)
	end(other)
	if got := there(); !slices.Equal(got, []string{"others", "weir-spool-2", "weir-spool-3"}) {
		t.Errorf("in the end there are %v", got)
	}
}

// Of those that start at once none takes another's.
func TestSpoolsAtOnce(t *testing.T) {
	tmp := t.TempDir()
	const starts = 100
	done := make(chan error)
	for range 4 {
		go func() {
			var err error
			for range starts {
				var spool *ownSpool
				if spool, err = newSpool(tmp); err != nil {
					break
				}
				if err = os.WriteFile(filepath.Join(spool.dir, "bytes"), nil, 0o600); err != nil {
					break
				}
				if err = spool.release(); err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What cleans up heeds no locks, and takes a directory away. The one that is made anew is
// locked again: whoever starts leaves it.
func TestSpoolMadeAnew(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var k kept
	spools, err := k.openSpools(config.Backend{S3: config.S3{Bucket: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		there, err := filepath.Glob(filepath.Join(tmp, spoolPrefix+"*"))
		if err != nil || len(there) != 1 {
			t.Fatalf("there are %v, %v", there, err)
		}
		if err := os.RemoveAll(there[0]); err != nil {
			t.Fatal(err)
		}
		spool, _, err := spools.Open(fill.Key{Upstream: "u"}, 100)
		if err != nil {
			t.Fatal(err)
		}
		other, err := newSpool(tmp)
		if err != nil {
			t.Fatal(err)
		}
		f, err := spool.File()
		if err != nil {
			t.Fatalf("a store cannot adopt what a fill has: %v", err)
		}
		if err := errors.Join(f.Close(), spool.Remove(), other.release()); err != nil {
			t.Error(err)
		}
	}
	if err := k.release(); err != nil {
		t.Error(err)
	}
	if there, err := os.ReadDir(tmp); err != nil || len(there) > 0 {
		t.Errorf("in the end there are %v, %v", there, err)
	}
}
