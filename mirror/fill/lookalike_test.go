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

// A directory that was taken away is made anew by one of those who miss it, and is locked
// before it is used: one whose lock is not to be had is not, until it is.
func TestSpoolsAreHeld(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := OpenSpools(dir)
	must(t, err)
	taken := errors.New("taken")
	refuse, held := taken, 0
	s.Hold(func() error {
		if refuse == nil {
			held++
		}
		return refuse
	})
	must(t, os.Remove(dir))
	if _, _, err := s.Open(Key{Upstream: "u"}, 100); !errors.Is(err, taken) {
		t.Errorf("where somebody else has its lock: %v", err)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
		t.Errorf("there are %v, %v", there, err)
	}
	refuse = nil
	const fills = 8
	opened := make(chan error)
	for range fills {
		go func() {
			err := s.renew() // they have all missed it before one of them made it
			if err == nil {
				var spool *Spool
				if spool, _, err = s.Open(Key{Upstream: "u"}, 100); err == nil {
					err = spool.close()
				}
			}
			opened <- err
		}()
	}
	for range fills {
		must(t, <-opened)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) != fills || held != 1 {
		t.Errorf("there are %d files, %v; held %d times", len(there), err, held)
	}
	must(t, os.RemoveAll(dir))
	must(t, s.Close())
	if err := s.renew(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("closed, and made: %v", err)
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
		s.add(s.spools, s.name+journalSuffix, 4, chunk{n: 4})
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
