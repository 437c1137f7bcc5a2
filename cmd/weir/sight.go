package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// sight is what a command sees where a job is to read or write: a directory, or the nearest one
// above it that is there. A server in a container, or under systemd with a /tmp of its own, sees
// something else by the same name.
type sight struct {
	Dir    string `json:"dir"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// see looks at a directory.
func see(dir string) (sight, error) {
	for {
		fi, err := os.Stat(dir)
		if up := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && up != dir {
			dir = up
			continue
		}
		if err != nil {
			return sight{}, err
		}
		st := fi.Sys().(*syscall.Stat_t)
		return sight{Dir: dir, Device: uint64(st.Dev), Inode: st.Ino}, nil
	}
}

// same reports, as an error, whether this process sees something else. The zero value is what an
// older command says.
func (s sight) same() error {
	if s == (sight{}) {
		return nil
	}
	switch is, err := see(s.Dir); {
	case err != nil:
		return fmt.Errorf("in the running weir: %w", err)
	case is != s:
		return fmt.Errorf("the running weir does not see this %s, but files of its own: name a directory that both see, or stop weir first", s.Dir)
	}
	return nil
}
