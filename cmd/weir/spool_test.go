package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weir-registry/weir/cmd/weir/config"
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
				var spool string
				var release func() error
				if spool, release, err = newSpool(tmp); err != nil {
					break
				}
				if err = os.WriteFile(filepath.Join(spool, "bytes"), nil, 0o600); err != nil {
					break
				}
				if err = release(); err != nil {
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
