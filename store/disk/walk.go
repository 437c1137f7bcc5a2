package disk

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"

	"github.com/weir-registry/weir/store"
)

// batch is how many names of a directory are read at once.
const batch = 512

// names gives the names in a directory, in no order; none if it is not there.
func (s *Store) names(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := s.root.Open(dir)
		if err = s.missing(err); err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				yield("", err)
			}
			return
		}
		defer f.Close()
		for {
			names, err := f.Readdirnames(batch)
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if err == nil {
				continue
			}
			if err == io.EOF {
				err = fs.ErrNotExist // that is all, unless the store went meanwhile
			}
			if err = s.missing(err); !errors.Is(err, store.ErrNotFound) {
				yield("", err)
			}
			return
		}
	}
}

// files describes the files in a directory, in no order; neither links nor what
// goes meanwhile.
func (s *Store) files(dir string) iter.Seq2[fs.FileInfo, error] {
	return func(yield func(fs.FileInfo, error) bool) {
		// A root of its own spares the way down for every file.
		sub, err := s.root.OpenRoot(dir + "/")
		if err = s.missing(err); err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				yield(nil, err)
			}
			return
		}
		defer sub.Close()
		for name, err := range s.names(dir) {
			var fi os.FileInfo
			if err == nil {
				fi, err = sub.Lstat(name)
			}
			if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
				continue
			}
			if !yield(fi, err) || err != nil {
				return
			}
		}
	}
}
