package disk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/weir-registry/weir/store"
)

// List implements store.Records. It holds the names of one directory at each
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
			err = r.s.missing(l.below(r.s.root, recordsDir+"/"+prefix, prefix))
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
	names, err := sorted(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		key := prefix + name
		if strings.HasSuffix(name, "/") {
			// All keys below begin with key, so that they are greater than after as key
			// is, unless after is itself below.
			if key < l.after && !strings.HasPrefix(l.after, key) {
				continue
			}
			err = l.below(root, name, key)
		} else if key > l.after {
			err = l.give(root, name, key)
		}
		if err != nil && !isAbsent(err) { // what goes meanwhile is left out
			return err
		}
	}
	return nil
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

// sorted gives the names in a directory, those of directories with a slash behind
// them: their order is then that of the keys that begin with them. Links and the
// like are no records.
func sorted(root *os.Root) ([]string, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		switch {
		case e.IsDir():
			names = append(names, e.Name()+"/")
		case e.Type().IsRegular():
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
