package disktest_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// script is what a test does to a file system; the first error ends it.
type script struct {
	fs  disk.FS
	err error
}

func (s *script) do(err error) { s.err = errors.Join(s.err, err) }

// write makes a file, or writes on at its end.
func (s *script) write(name, text string, sync bool) {
	f, err := s.fs.Create(name)
	if errors.Is(err, fs.ErrExist) {
		f, err = s.fs.Append(name)
	}
	if err != nil {
		s.do(err)
		return
	}
	_, err = f.Write([]byte(text))
	s.do(err)
	if sync {
		s.do(f.Sync())
	}
	s.do(f.Close())
}

func (s *script) truncate(name string, size int64) {
	f, err := s.fs.Append(name)
	if err != nil {
		s.do(err)
		return
	}
	s.do(errors.Join(f.Truncate(size), f.Close()))
}

// What is left after a power cut is one of the directories that the model allows, and
// each of them happens.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *script)
		want []string // directories: "file=content", sorted; zeros as 0
	}{
		{"nothing is synced", func(s *script) { s.write("a", "x", false) }, []string{"", "a=", "a=0", "a=x"}},
		{"the file is synced, its name is not", func(s *script) { s.write("a", "xyz", true) }, []string{"", "a=xyz"}},
		{"the name is synced, the file is not", func(s *script) {
			s.write("a", "x", false)
			s.do(s.fs.Sync("."))
		}, []string{"a=", "a=0", "a=x"}},
		{"all is synced", func(s *script) {
			s.write("a", "xyz", true)
			s.do(s.fs.Sync("."))
		}, []string{"a=xyz"}},
		{"the whole is synced", func(s *script) {
			s.do(s.fs.Mkdir("d"))
			s.write("d/a", "xyz", false)
			s.do(s.fs.SyncAll())
		}, []string{"d/ d/a=xyz"}},
		{"synced by its name", func(s *script) {
			s.write("a", "xyz", false)
			s.do(s.fs.Sync("a"))
			s.do(s.fs.Sync("."))
		}, []string{"a=xyz"}},
		{"more is written", func(s *script) {
			s.write("a", "x", true)
			s.do(s.fs.Sync("."))
			s.write("a", "y", false)
		}, []string{"a=x", "a=x0", "a=xy"}},
		{"the end is cut off and written anew", func(s *script) {
			s.write("a", "xy", true)
			s.do(s.fs.Sync("."))
			s.truncate("a", 1)
			s.write("a", "z", false)
		}, []string{"a=x", "a=x0", "a=xy", "a=xz"}},
		{"removed", func(s *script) {
			s.write("a", "x", true)
			s.do(s.fs.Sync("."))
			s.do(s.fs.Remove("a"))
		}, []string{"", "a=x"}},
		{"removed, and synced", func(s *script) {
			s.write("a", "x", true)
			s.do(s.fs.Sync("."))
			s.do(s.fs.Remove("a"))
			s.do(s.fs.Sync("."))
		}, []string{""}},
		{"renamed", func(s *script) {
			s.write("a", "x", true)
			s.do(s.fs.Sync("."))
			s.do(s.fs.Rename("a", "b"))
		}, []string{"a=x", "a=x b=x", "b=x"}},
		{"renamed over another", func(s *script) {
			s.write("a", "x", true)
			s.write("b", "y", true)
			s.do(s.fs.Sync("."))
			s.do(s.fs.Rename("a", "b"))
		}, []string{"a=x b=x", "a=x b=y", "b=x"}},
		{"moved, and the new directory synced", func(s *script) {
			s.do(s.fs.Mkdir("d"))
			s.write("a", "x", true)
			s.do(s.fs.Sync("."))
			s.do(s.fs.Rename("a", "d/a"))
			s.do(s.fs.Sync("d"))
		}, []string{"a=x d/ d/a=x", "d/ d/a=x"}},
		{"moved, and the old directory synced", func(s *script) {
			s.do(s.fs.Mkdir("d"))
			s.write("a", "x", true)
			s.do(s.fs.Sync("."))
			s.do(s.fs.Rename("a", "d/a"))
			s.do(s.fs.Sync("."))
		}, []string{"d/ d/a=x"}},
		{"in a directory whose name is not synced", func(s *script) {
			s.do(s.fs.Mkdir("d"))
			s.write("d/a", "x", true)
			s.do(s.fs.Sync("d"))
		}, []string{"", "d/ d/a=x"}},
		{"two names", func(s *script) {
			s.write("a", "x", true)
			s.do(s.fs.Link("a", "b"))
		}, []string{"", "a=x", "a=x b=x", "b=x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			crash, fsys := cuttable(t, disktest.Dir(t))
			clones := disktest.Dir(t)
			s := &script{fs: fsys}
			c.do(s)
			if s.err != nil {
				t.Fatal(s.err)
			}
			const seed = 1
			rnd := rand.New(rand.NewPCG(seed, 0))
			var got []string
			for i := range 400 {
				clone := filepath.Join(clones, strconv.Itoa(i))
				if err := crash.Cut(rnd).Write(clone); err != nil {
					t.Fatal(err)
				}
				got = append(got, describe(t, clone))
			}
			slices.Sort(got)
			if got = slices.Compact(got); !slices.Equal(got, c.want) {
				t.Errorf("left is one of %q, want %q (seed %d)", got, c.want, seed)
			}
		})
	}
}

// cuttable gives a file system of that directory, and its power switch.
func cuttable(t *testing.T, dir string) (*disktest.Crash, disk.FS) {
	t.Helper()
	crash, err := disktest.NewCrash(dir)
	if err != nil {
		t.Fatal(err)
	}
	var fsys disk.FS
	s, err := disk.Open(dir, disk.Options{FS: func(inner disk.FS) disk.FS {
		fsys = crash.FS(inner)
		return fsys
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return crash, fsys
}

// describe lists what is in a directory, but for the store's own.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, name)
		switch {
		case err != nil || rel == "." || rel == "tmp":
			return err
		case rel == ".id" || filepath.Dir(rel) == "tmp":
			return nil // the name of the store, which Open has made
		case d.IsDir():
			list = append(list, rel+"/")
			return nil
		}
		b, err := os.ReadFile(name)
		list = append(list, rel+"="+strings.ReplaceAll(string(b), "\x00", "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// A file that is left with two names is one file there too.
func TestCutKeepsLinks(t *testing.T) {
	dir := disktest.Dir(t)
	crash, fsys := cuttable(t, dir)
	s := &script{fs: fsys}
	s.write("a", "x", true)
	s.do(fsys.Link("a", "b"))
	s.do(fsys.Sync("."))
	if s.err != nil {
		t.Fatal(s.err)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	if err := crash.Cut(rand.New(rand.NewPCG(1, 1))).Write(clone); err != nil {
		t.Fatal(err)
	}
	a, errA := os.Stat(filepath.Join(clone, "a"))
	b, errB := os.Stat(filepath.Join(clone, "b"))
	if err := errors.Join(errA, errB); err != nil || !os.SameFile(a, b) {
		t.Errorf("a and b are two files (%v)", err)
	}
}

// The hook runs before each call, and what the call does is not there yet.
func TestHook(t *testing.T) {
	dir := disktest.Dir(t)
	crash, fsys := cuttable(t, dir)
	rnd := rand.New(rand.NewPCG(1, 1))
	var images []*disktest.Image
	crash.Hook(func() { images = append(images, crash.Cut(rnd)) })
	s := &script{fs: fsys}
	s.write("a", "x", true) // create, write, sync, close
	s.do(fsys.Sync("."))
	s.do(fsys.Remove("a"))
	crash.Hook(nil)
	s.do(fsys.Sync("."))
	if s.err != nil || len(images) != 6 {
		t.Fatalf("%d images, want 6 (%v)", len(images), s.err)
	}
	for i, want := range map[int]string{0: "", 5: "a=x"} {
		clone := filepath.Join(t.TempDir(), "clone")
		if err := images[i].Write(clone); err != nil {
			t.Fatal(err)
		}
		if got := describe(t, clone); got != want {
			t.Errorf("before call %d: %q, want %q", i, got, want)
		}
	}
}
