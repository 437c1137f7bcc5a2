package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/weir-registry/weir/store"
)

// window is how many names of a directory are held at once, at least; twice as many at
// most. A directory of a million names is read eight times and costs 20 MiB meanwhile,
// where to hold and sort them all costs 200.
const window = 1 << 17

// List implements store.Records. It holds some names of one directory at each
// depth, and not the whole tree. An entry has no version.
func (r *Records) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if prefix != "" && !store.ValidKey(prefix) {
			yield(store.Entry{}, fmt.Errorf("list records below %q: %w", prefix, store.ErrKey))
			return
		}
		err := ctx.Err()
		if err == nil {
			l := listing{ctx: ctx, after: after, yield: yield}
			if prefix != "" {
				prefix += "/"
			}
			if err = l.below(r.s.root, recordsDir+"/"+prefix, prefix); err == nil {
				err = fs.ErrNotExist // that was all, unless the store went meanwhile
			}
			err = r.s.missing(err)
			if err == errDone || errors.Is(err, store.ErrNotFound) {
				return
			}
		}
		if err != nil {
			yield(store.Entry{}, fmt.Errorf("list records below %q: %w", prefix, err))
		}
	}
}

// errDone says that nothing more is wanted.
var errDone = errors.New("done")

// listing is one walk through the records; ctx is that of the one call.
type listing struct {
	ctx   context.Context
	after string
	yield func(store.Entry, error) bool
}

// below lists the records of the directory dir of parent, which ends with a slash;
// their keys begin with prefix, which does too or is "". Its error says that dir
// is not there, or no directory, or what has gone wrong.
func (l *listing) below(parent *os.Root, dir, prefix string) error {
	root, err := parent.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for names, err := range windows(root, window) {
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := l.visit(root, name, prefix+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// visit yields a record, or lists a directory.
func (l *listing) visit(root *os.Root, name, key string) error {
	err := l.ctx.Err()
	switch {
	case err != nil:
		return err
	case !strings.HasSuffix(name, "/"):
		if key > l.after {
			err = l.give(root, name, key)
		}
	// All keys below begin with key, so that they are greater than after as key is,
	// unless after is itself below.
	case key > l.after || strings.HasPrefix(l.after, key):
		err = l.below(root, name, key)
	}
	if isAbsent(err) {
		return nil // what goes meanwhile is left out
	}
	return err
}

// give yields one record.
func (l *listing) give(root *os.Root, name, key string) error {
	fi, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !l.yield(store.Entry{Key: key, Size: max(0, fi.Size()-headerLen), Modified: fi.ModTime()}, nil) {
		return errDone
	}
	return nil
}

// windows gives the names in a directory in order, at least n at a time but for the
// last ones; those of directories with a slash behind them: their order is then that of
// the keys that begin with them. Links and the like are no records.
func windows(root *os.Root, n int) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for last, more := "", true; more; {
			var names []string
			var err error
			names, more, err = smallest(root, last, n)
			if err != nil || len(names) > 0 && !yield(names, nil) {
				if err != nil {
					yield(nil, err)
				}
				return
			}
			if more {
				last = names[len(names)-1]
			}
		}
	}
}

// smallest gives the first names in a directory that come after last: all there are, or
// at least n, and then whether there may be more.
func smallest(root *os.Root, last string, n int) (names []string, more bool, err error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	most := ""
	for {
		entries, err := f.ReadDir(batch)
		for _, e := range entries {
			name := e.Name()
			switch {
			case e.IsDir():
				name += "/"
			case !e.Type().IsRegular():
				continue
			}
			if name <= last || more && name > most {
				continue
			}
			names = append(names, name)
			if len(names) < 2*n {
				continue
			}
			slices.Sort(names)
			names = slices.Compact(names)
			if len(names) > n {
				clear(names[n:])
				names, more, most = names[:n], true, names[n-1]
			}
		}
		if err == io.EOF {
			slices.Sort(names)
			return slices.Compact(names), more, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}
