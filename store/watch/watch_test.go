package watch_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/store/watch"
)

// put replaces a file by rename; it changed at that time.
func put(t *testing.T, file string, changed time.Time, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file+".new", changed, changed); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) { synctest.Test(t, testFiles) }

func testFiles(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	put(t, a, now.Add(-time.Hour), "1")
	put(t, b, now.Add(-time.Hour), "1")
	bad := errors.New("they differ")
	var failed []error
	reads := 0
	read := func() (string, error) {
		reads++
		x, err := os.ReadFile(a)
		if err != nil {
			return "", err
		}
		y, err := os.ReadFile(b)
		if err != nil {
			return "", err
		}
		if string(x) != string(y) {
			return "", bad
		}
		return string(x), nil
	}
	f, err := watch.Open([]string{a, "", b}, read, func(err error) { failed = append(failed, err) })
	if err != nil {
		t.Fatal(err)
	}
	want := func(value string, failures int) {
		t.Helper()
		f.Look(now)
		if got := f.Value(); got != value || len(failed) != failures {
			t.Errorf("%q, failed %v; want %q, %d failures", got, failed, value, failures)
		}
	}
	want("1", 0)
	if reads != 1 {
		t.Errorf("read %d times, though nothing changed", reads)
	}
	put(t, a, now.Add(-time.Minute), "2") // and b is not there yet
	want("1", 1)
	want("1", 1)
	if !errors.Is(failed[0], bad) {
		t.Error(failed)
	}
	put(t, b, now.Add(-time.Minute), "2")
	want("2", 1)
	put(t, a, now.Add(-50*time.Millisecond), "3")
	put(t, b, now.Add(-time.Second), "3")
	want("2", 1) // too new
	put(t, a, now.Add(-100*time.Millisecond), "3")
	want("3", 1)
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	want("3", 1)
	// Whoever asks has it looked, once a second.
	put(t, a, now, "5")
	put(t, b, now, "5")
	time.Sleep(999 * time.Millisecond)
	if got := f.Value(); got != "3" {
		t.Errorf("%q before a second is over", got)
	}
	time.Sleep(time.Millisecond)
	if got := f.Value(); got != "5" {
		t.Errorf("%q after a second", got)
	}
	// One that is of the future, by a clock that is ahead, is read.
	put(t, a, now.Add(time.Hour), "4")
	put(t, b, now.Add(time.Hour), "4")
	now = time.Now()
	want("4", 1)
}

// A link that leads to a file of the same size and time is a change: some systems
// give all files one time.
func TestLinkThatLeadsElsewhere(t *testing.T) {
	dir, old := t.TempDir(), time.Unix(1, 0)
	put(t, filepath.Join(dir, "one"), old, "1")
	put(t, filepath.Join(dir, "two"), old, "2")
	link := filepath.Join(dir, "link")
	lead := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, link+".new"), os.Rename(link+".new", link)); err != nil {
			t.Fatal(err)
		}
	}
	lead("one")
	f, err := watch.Open([]string{link}, func() (string, error) {
		b, err := os.ReadFile(link)
		return string(b), err
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	lead("two")
	if f.Value() != "1" {
		t.Error("looked at before a second was over")
	}
	f.Look(time.Now())
	if f.Value() != "2" {
		t.Error("the link's new file is not read")
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	never := func() (int, error) { t.Error("read"); return 0, nil }
	if _, err := watch.Open([]string{missing}, never, nil); err == nil || !strings.Contains(err.Error(), missing) {
		t.Error(err)
	}
	bad := errors.New("bad")
	if _, err := watch.Open(nil, func() (int, error) { return 0, bad }, nil); !errors.Is(err, bad) {
		t.Error(err)
	}
}
