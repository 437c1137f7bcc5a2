package basic

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// glance is how often, at most, it is looked whether the users changed.
	glance = time.Second
	// still is how long the file must not have changed before it is read: it may be
	// half-written.
	still = 100 * time.Millisecond
	// largest bounds the file: some 60,000 users.
	largest = 8 << 20
)

// users are those of the configuration and those of a file. A change counts from the
// next request on; while it is no good, or away, the last good one goes on.
type users struct {
	fixed   func() ([]User, error)
	name    string      // of the file; "": there is none
	changed func(error) // is told once per change: nil that it counts, else why not
	now     func() time.Time

	mu       sync.Mutex
	set      *set
	given    []User      // the last good ones of fixed
	listed   []User      // and of the file
	complain string      // why fixed failed the last time
	seen     fs.FileInfo // nil: it was away
	looked   time.Time
}

func openUsers(fixed func() ([]User, error), name string, changed func(error)) (*users, error) {
	u := &users{fixed: fixed, name: name, changed: changed, now: time.Now}
	u.looked = u.now()
	var err error
	if u.given, err = fixed(); err != nil {
		return nil, err
	}
	if name != "" {
		if u.seen, err = os.Stat(name); err != nil {
			return nil, err
		}
		if u.listed, err = ReadHtpasswd(name); err != nil {
			return nil, err
		}
	}
	u.set, err = u.together()
	return u, err
}

func (u *users) together() (*set, error) {
	s, err := newSet(u.given, u.listed)
	if err != nil && u.name != "" {
		return nil, fmt.Errorf("the configuration and %s: %w", u.name, err)
	}
	return s, err
}

// current gives the users as they are now.
func (u *users) current() *set {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	if now.Sub(u.looked) < glance {
		return u.set
	}
	u.looked = now
	given, listed := u.lookGiven(), u.lookListed(now) // both, always
	if !given && !listed {
		return u.set
	}
	s, err := u.together()
	if err == nil {
		u.set = s
	}
	u.changed(err)
	return u.set
}

// lookGiven reports whether the configuration's own changed.
func (u *users) lookGiven() bool {
	given, err := u.fixed()
	if err != nil {
		if err.Error() != u.complain {
			u.complain = err.Error()
			u.changed(err)
		}
		return false
	}
	u.complain = ""
	if slices.Equal(given, u.given) {
		return false
	}
	u.given = given
	return true
}

// lookListed reports whether there is another good file.
func (u *users) lookListed(now time.Time) bool {
	if u.name == "" {
		return false
	}
	info, err := os.Stat(u.name)
	if err != nil {
		if u.seen != nil {
			u.seen = nil
			u.changed(err)
		}
		return false
	}
	if age := now.Sub(info.ModTime()); u.isSeen(info) || 0 <= age && age < still {
		return false
	}
	u.seen = info
	listed, err := ReadHtpasswd(u.name)
	if err != nil {
		u.changed(err)
		return false
	}
	u.listed = listed
	return true
}

func (u *users) isSeen(info fs.FileInfo) bool {
	return u.seen != nil && os.SameFile(u.seen, info) && u.seen.Size() == info.Size() && u.seen.ModTime().Equal(info.ModTime())
}

// ReadHtpasswd reads a file as [ParseHtpasswd] parses it. Errors: with the file's name.
func ReadHtpasswd(name string) ([]User, error) {
	// Not opened first: a pipe would be waited for.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	refuse := func(err error) error { return &fs.PathError{Op: "read", Path: name, Err: err} }
	if !info.Mode().IsRegular() {
		return nil, refuse(errors.New("it is no regular file"))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(io.LimitReader(f, largest+1)); err != nil {
		return nil, err
	}
	if text.Len() > largest {
		return nil, refuse(fmt.Errorf("it is larger than %d bytes", largest))
	}
	list, err := ParseHtpasswd(text.String())
	if err != nil {
		return nil, refuse(err)
	}
	return list, nil
}
