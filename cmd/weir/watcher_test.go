package main

import (
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A file that goes on changing is not read; one that has been still for 100 ms is, once,
// however much happens near it. Without any word of it it is found within ten seconds.
func TestStillness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "weir.yaml")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("a")
		names := []string{name}
		seen := look(names)
		w := &watcher{changed: make(chan struct{}, 1), anyway: lookAnyway, log: slog.New(slog.DiscardHandler)}
		events := make(chan fsnotify.Event)
		ended := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			w.loop(ctx, events, nil, func() (now, were glimpse) { return look(names), seen })
		}()
		told := func() bool {
			synctest.Wait()
			select {
			case <-w.changed:
				seen = look(names)
				return true
			default:
				return false
			}
		}
		time.Sleep(time.Second)
		if told() {
			t.Error("nothing has changed")
		}
		for i := range 20 { // somebody writes for two seconds
			write("aa"[:1+i%2] + "b")
			events <- fsnotify.Event{Name: name}
			if time.Sleep(stillFor); told() {
				t.Fatal("it is read while it is written")
			}
		}
		time.Sleep(2 * stillFor)
		if !told() {
			t.Error("it has been still, and is not read")
		}
		for range 50 { // another file, all the time
			events <- fsnotify.Event{Name: "other"}
			time.Sleep(stillFor / 3)
		}
		if told() {
			t.Error("it is read again")
		}
		write("something else")
		time.Sleep(lookAnyway + 3*stillFor)
		if !told() {
			t.Error("a change that nobody told of is not found")
		}
		stop()
		<-ended
	})
}

// A directory of a ConfigMap: the file is a link through ..data, which is led elsewhere. The
// system tells of it, and then of a change there: this one never looks of its own accord.
func TestLinksAreFollowed(t *testing.T) {
	dir := t.TempDir()
	volume := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "weir.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	volume("..1", "same")
	volume("..2", "same")
	link("..1", "..data")
	link("..data/weir.yaml", "weir.yaml")
	file := filepath.Join(dir, "weir.yaml")
	if got, want := dirsOf(file), []string{dir, dir, filepath.Join(dir, "..1")}; !slices.Equal(got, want) {
		t.Errorf("directories %v, want %v", got, want)
	}
	w := newWatcher(slog.New(slog.DiscardHandler))
	w.anyway = math.MaxInt64
	w.watch(glimpse{file: nil}) // its first look finds it
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx)
	}()
	noticed := func(what string) {
		t.Helper()
		select {
		case <-w.changed:
			w.watch(look([]string{file})) // as who reads it does
		case <-time.After(limit):
			t.Fatalf("not noticed: %s", what)
		}
	}
	noticed("that it is there")
	link("..2", "..new")
	if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	noticed("another directory")
	if err := os.WriteFile(filepath.Join(dir, "..2", "weir.yaml"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	noticed("another file in that one")
	stop()
	<-ended
}

// A pipe that was read is not one that changed: it could not be read again.
func TestPipesStayAsTheyAre(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	before := look([]string{name})
	if err := os.Chtimes(name, time.Time{}, time.Now().Add(time.Hour)); err != nil { // as a write does
		t.Fatal(err)
	}
	if !look([]string{name}).equal(before) {
		t.Error("it looks another")
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if look([]string{name}).equal(before) {
		t.Error("a file in its place looks like it")
	}
}
