package client

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// mode lets every client read its file, whoever runs it.
const mode fs.FileMode = 0o644

// File is a configuration file of a client.
type File struct {
	// Name is its path below the client's directory.
	Name string
	// put gives text with weir's part in it, and take without it.
	put, take func(text []byte) ([]byte, error)
}

// New is the file as it is where there was none.
func (f File) New() ([]byte, error) { return f.put(nil) }

// Write puts weir's part into the file below dir, which is made if it is not
// there. It reports whether anything changed. Errors: those of the file system,
// and a file in which weir's part has no place.
func (f File) Write(dir string) (changed bool, err error) { return f.edit(dir, f.put) }

// Remove takes weir's part out of the file below dir. A file that holds nothing
// else goes, and so does its directory if that is empty then and not dir itself.
// It reports whether anything changed. Errors: as Write.
func (f File) Remove(dir string) (changed bool, err error) { return f.edit(dir, f.take) }

func (f File) edit(dir string, change func([]byte) ([]byte, error)) (bool, error) {
	path := filepath.Join(dir, filepath.FromSlash(f.Name))
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // the link stays one
	}
	before, err := os.ReadFile(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return false, err
	}
	after, err := change(before)
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", path, err)
	case bytes.Equal(before, after):
		return false, nil
	case len(bytes.TrimSpace(after)) == 0:
		return true, f.delete(dir, path)
	}
	return true, replace(path, after)
}

func (f File) delete(dir, path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	if parent := filepath.Dir(path); parent != filepath.Clean(dir) && filepath.Dir(f.Name) != "." {
		// It may hold other files, and then it stays.
		if entries, err := os.ReadDir(parent); err == nil && len(entries) == 0 {
			return os.Remove(parent)
		}
	}
	return nil
}

// replace makes text the content of path in one step.
func replace(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".weir-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // after the rename there is none of that name
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(temp.Name(), path)
}
