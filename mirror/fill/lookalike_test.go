package fill

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Where the directory that the spools lay in was taken away, none is made: neither where
// there is nothing, nor in another one that is there instead.
func TestSpoolsStayWhereTheyWere(t *testing.T) {
	top := t.TempDir()
	root, aside := filepath.Join(top, "data"), filepath.Join(top, "aside")
	s, err := OpenSpools(filepath.Join(root, "spool"))
	must(t, err)
	defer func() { must(t, s.Close()) }()
	must(t, os.Rename(root, aside))
	must(t, os.RemoveAll(filepath.Join(aside, "spool")))
	open := func() error {
		t.Helper()
		spool, _, err := s.Open(Key{Upstream: "u"}, 100)
		if err == nil {
			must(t, spool.Remove())
		}
		return err
	}
	if err := open(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	must(t, os.Mkdir(root, 0o700))
	if err := open(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in another directory: %v", err)
	}
	if made, err := os.ReadDir(root); err != nil || len(made) > 0 {
		t.Errorf("there are %v, %v", made, err)
	}
	must(t, os.Remove(root))
	must(t, os.Rename(aside, root))
	if err := open(); err != nil {
		t.Errorf("where they were: %v", err)
	}
}

// A spool that a store adopted just before a process was killed is nothing to go on with:
// it would keep the bytes of a blob that is evicted.
func TestAdoptedSpool(t *testing.T) {
	dir := t.TempDir()
	spools, err := OpenSpools(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"adopted", "left"} {
		s, _, err := spools.Open(Key{Upstream: name}, 4)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteAt([]byte("blob"), 0); err != nil {
			t.Fatal(err)
		}
		s.add(s.spools.at(), s.name+journalSuffix, 4, chunk{n: 4})
		if err := s.Leave(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.Link(filepath.Join(dir, "spool", s.name), filepath.Join(dir, "blob")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := spools.Close(); err != nil {
		t.Fatal(err)
	}
	if spools, err = OpenSpools(filepath.Join(dir, "spool")); err != nil {
		t.Fatal(err)
	}
	defer spools.Close()
	if _, ok := spools.left[Key{Upstream: "left"}.id()]; !ok || len(spools.left) != 1 {
		t.Errorf("left are %v", spools.left)
	}
	if files, err := os.ReadDir(filepath.Join(dir, "spool")); err != nil || len(files) != 2 {
		t.Errorf("%v, %v; want a spool and its journal", files, err)
	}
}
