package main

import (
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// stillFor is how long files must not have changed before they are read: one may be
	// half-written, and a certificate and its key are two.
	stillFor = 100 * time.Millisecond
	// lookAnyway is how often files are looked at of which nothing is told: those on a file
	// system of another machine, and those whose directory was replaced.
	lookAnyway = 10 * time.Second
)

// watcher tells when files look another than when they were last looked at, and have
// looked so for stillFor.
type watcher struct {
	changed chan struct{} // has one value at most
	anyway  time.Duration // between two looks of which nobody has told
	notify  *fsnotify.Watcher
	log     *slog.Logger

	mu   sync.Mutex
	dirs []string // those that are watched for the files
	seen glimpse  // of the files, and of no others
}

// newWatcher makes one that watches nothing yet. Where the system tells of no changes
// they are found within lookAnyway.
func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{changed: make(chan struct{}, 1), anyway: lookAnyway, log: log}
	var err error
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("changes of files are noticed late", "error", err)
	}
	return w
}

// watch has files be watched, and no others, which looked so when they were last read.
func (w *watcher) watch(seen glimpse) {
	var dirs []string
	for name := range seen {
		dirs = append(dirs, dirsOf(name)...)
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify != nil {
		for _, dir := range dirs {
			// Again too: another one may be there by now.
			if err := w.notify.Add(dir); err != nil && !slices.Contains(w.dirs, dir) {
				w.log.Warn("changes in a directory are noticed late", "directory", dir, "error", err)
			}
		}
		for _, dir := range w.dirs {
			if !slices.Contains(dirs, dir) {
				_ = w.notify.Remove(dir) // it may be gone
			}
		}
	}
	w.dirs, w.seen = dirs, seen
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.notify != nil {
		defer w.notify.Close()
		events, errs = w.notify.Events, w.notify.Errors
	}
	w.loop(ctx, events, errs, func() (now, seen glimpse) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return look(slices.Collect(maps.Keys(w.seen))), w.seen
	})
}

// loop looks at the files while something happens near them.
func (w *watcher) loop(ctx context.Context, events <-chan fsnotify.Event, errs <-chan error, look func() (now, seen glimpse)) {
	anyway := time.NewTicker(w.anyway)
	defer anyway.Stop()
	again := time.NewTimer(0) // there may have been something before
	defer again.Stop()
	looking := true
	var last glimpse
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
		case _, ok := <-errs: // events were lost
			if !ok {
				errs = nil
				continue
			}
		case <-anyway.C:
		case <-again.C:
			looking = false
			now, seen := look()
			switch {
			case now.equal(seen):
				last = nil
				continue
			case now.equal(last):
				last = nil
				select {
				case w.changed <- struct{}{}:
				default: // it will be read anyway
				}
				continue
			}
			last = now
		}
		if !looking {
			looking = true
			again.Reset(stillFor)
		}
	}
}

// glimpse is how files look, by their names; nil: nobody has looked.
type glimpse map[string]fs.FileInfo

func look(names []string) glimpse {
	g := glimpse{}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			info = nil // it is away, for whichever reason
		}
		g[name] = info
	}
	return g
}

// equal reports whether files look alike. A link that leads elsewhere is another file,
// though its size and time may be the same; a pipe is the same one whatever is written to it.
func (g glimpse) equal(other glimpse) bool {
	if g == nil || other == nil || len(g) != len(other) {
		return false
	}
	for name, a := range g {
		b, ok := other[name]
		if !ok || (a == nil) != (b == nil) {
			return false
		}
		if a != nil && (!os.SameFile(a, b) || a.Mode().IsRegular() && (a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()))) {
			return false
		}
	}
	return true
}

// mostLinks is how many links are followed of one name.
const mostLinks = 40

// dirsOf are the directories in which something changes when another file has that name:
// its own, and those of all links on the way to it.
func dirsOf(name string) []string {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil
	}
	var dirs []string
	for range mostLinks {
		dir, link, rest := firstLink(path)
		if link == "" {
			break
		}
		dirs = append(dirs, dir)
		if !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		path = filepath.Join(link, rest)
	}
	return append(dirs, filepath.Dir(path))
}

// firstLink gives the first link on a way: the directory that it is in, where it leads,
// and the rest of the way; link is "" where there is none.
func firstLink(path string) (dir, link, rest string) {
	at := 0
	for at < len(path) {
		end := strings.IndexByte(path[at+1:], filepath.Separator)
		if end < 0 {
			end = len(path)
		} else {
			end += at + 1
		}
		if link, err := os.Readlink(path[:end]); err == nil {
			return filepath.Dir(path[:end]), link, strings.TrimPrefix(path[end:], string(filepath.Separator))
		}
		at = end
	}
	return "", "", ""
}
