package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// What a reload comes to, as the metric calls it.
const (
	reloadApplied   = "applied"
	reloadRejected  = "rejected"
	reloadUnchanged = "unchanged"
)

// configuration is where one is read from, each time that it is.
type configuration struct {
	files     []string
	overrides []config.Override

	// Of the files, before they were last read, and of those that they name, before anything
	// was composed of them:
	looked glimpse     // how they looked
	sum    fingerprint // what was in them
	unfit  error       // what was wrong with them, for a reload
}

// load reads it as config.Load does.
func (s *configuration) load() (*config.Config, error) {
	s.looked = look(s.files)
	s.sum, s.unfit = sumOf(s.files)
	c, err := config.Load(s.files, os.LookupEnv, s.overrides...)
	if c == nil {
		return nil, err
	}
	named := c.Files()
	maps.Copy(s.looked, look(named))
	more, unfit := sumOf(named)
	s.sum, s.unfit = s.sum.and(more), cmp.Or(s.unfit, unfit)
	if err != nil && s.again() == nil { // it may have been mended before it was looked at
		return config.Load(s.files, os.LookupEnv, s.overrides...)
	}
	return c, err
}

// again reports whether it can be read again: a pipe cannot, and would give nothing.
func (s *configuration) again() error {
	for _, name := range s.files {
		if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
			return &fs.PathError{Op: "read", Path: name, Err: errors.New("it is no regular file, and cannot be read again")}
		}
	}
	return nil
}

// reload reads the configuration again, and has what it says now serve in the place of
// what serves, unless it is no good. asked says that somebody wants it, and not merely
// that a file looks another: then nothing need have changed.
func (l *lives) reload(asked bool) {
	log := l.logs.room("server")
	old := l.current.Load()
	result, err := l.read(old, asked)
	switch {
	case err != nil:
		result = reloadRejected
		for _, err := range each(err) {
			log.Error("configuration rejected: the last good one goes on", "error", err)
		}
	case result == reloadApplied:
		log.Info("configuration applied")
	case result == reloadUnchanged:
		log.Info("configuration unchanged")
	}
	if result != "" {
		l.current.Load().metrics.ConfigReloaded(result)
	}
}

// each gives what is wrong one by one.
func each(err error) []error {
	located, ok := errors.AsType[config.Errors](err)
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range located {
		list = append(list, e)
	}
	return list
}

// read does what reload does; "": nothing that counts. Errors: what is wrong with the
// configuration, or with a file that it names.
func (l *lives) read(old *app, asked bool) (result string, err error) {
	// What changes after it was looked at is found another time.
	l.watcher.watch(look(slices.Concat(l.from.files, old.config.Files())))
	if err := l.from.again(); err != nil {
		return l.failed(fingerprint{}, err)
	}
	c, err := l.from.load()
	if c != nil { // if it is refused, what it names may be mended
		l.watcher.watch(l.from.looked)
	}
	if err == nil {
		err = l.from.unfit
	}
	sum := l.from.sum
	if err != nil {
		return l.failed(sum, err)
	}
	effective, restart := c.Over(old.config)
	if sum == l.last.sum && l.last.err == nil {
		if !asked {
			return "", nil
		}
		l.restart(restart)
		return reloadUnchanged, nil
	}
	next, err := old.kept.compose(effective, l.logs)
	if err != nil {
		return l.failed(sum, err)
	}
	if serves, err := l.swap(old, next); err != nil || !serves {
		return l.failed(sum, err)
	}
	l.last = reading{sum: sum}
	l.logs.configure(effective.Log)
	l.follow(effective.Server)
	for _, w := range effective.Warnings() {
		l.logs.room("server").Warn(w)
	}
	l.restart(restart)
	next.announce(l.logs)
	return reloadApplied, nil
}

// first takes note of what the first configuration was read from, which may have changed
// since: what is composed of it may have taken long.
func (l *lives) first() {
	l.watcher.watch(l.from.looked)
	l.last.sum = l.from.sum
}

// restart says which keys take no effect yet.
func (l *lives) restart(keys []string) {
	for _, key := range keys {
		l.logs.room("server").Warn(key + " needs a restart")
	}
}

// reading is what was read last, and what was wrong with it.
type reading struct {
	sum fingerprint
	err error
}

// failed takes note of what was wrong with what was read.
func (l *lives) failed(sum fingerprint, err error) (string, error) {
	l.last = reading{sum, err}
	return "", err
}

// fingerprint tells contents apart.
type fingerprint [sha256.Size]byte

func (f fingerprint) and(other fingerprint) fingerprint {
	return fingerprint(sha256.Sum256(slices.Concat(f[:], other[:])))
}

// sumOf reads files, those that are regular. Errors: those of reading, and of an empty one: somebody is about to
// write it, or it is no use.
func sumOf(names []string) (fingerprint, error) {
	h := sha256.New()
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
			continue // it can be read once, and not by us
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return fingerprint{}, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			return fingerprint{}, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is empty")}
		}
		fmt.Fprintf(h, "%q %d\n", name, len(text))
		h.Write(text)
	}
	return fingerprint(h.Sum(nil)), nil
}

// announce says what people should know who did not mean it.
func (a *app) announce(logs logs) {
	if a.rights.open {
		logs.room("server").Info("anyone on this machine may push and delete: nobody is asked who they are", "remedy", "authz.policy")
	}
}
