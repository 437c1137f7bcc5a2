package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// ErrExporting says that somebody else exports to the same layout.
var ErrExporting = errors.New("another export writes to it")

// stageDir is where, in a layout, the blobs of an image are until it is whole.
const stageDir = ".weir-export"

// layoutWriter adds images to an OCI image layout.
type layoutWriter struct {
	dir    string
	made   bool     // it was made for this
	locked *os.File // it
	index  index

	staged []digest.Digest // of the image that is being written
}

// openLayout opens the layout in dir, or makes one where there is nothing. Errors:
// ErrNoLayout, ErrExporting.
func openLayout(dir string) (*layoutWriter, error) {
	w := &layoutWriter{dir: dir}
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		w.made = true
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, err
	}
	if err := w.lock(); err != nil {
		return nil, err
	}
	err = w.read() // what others have added until now
	if err == nil {
		err = makeDir(w.path(stageDir))
	}
	if err == nil {
		err = w.clear() // of what an export left that was killed
	}
	if err != nil {
		return nil, errors.Join(err, w.locked.Close())
	}
	return w, nil
}

// lock keeps other exports out. Errors: ErrExporting, also where the other one has just
// taken away the directory that it had made: a lock on that keeps nobody out.
func (w *layoutWriter) lock() error {
	dir, err := os.OpenFile(w.dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrExporting
	}
	if err != nil {
		return err
	}
	err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrExporting
	}
	if err == nil {
		err = isAt(dir, w.dir)
	}
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	w.locked = dir
	return nil
}

// isAt wants that an open directory is the one of that name. Errors: ErrExporting.
func isAt(dir *os.File, name string) error {
	is, err := dir.Stat()
	if err != nil {
		return err
	}
	at, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(is, at) {
		return ErrExporting
	}
	return err
}

// read reads the index. Where there is nothing it is empty. Errors: ErrNoLayout.
func (w *layoutWriter) read() error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	w.index, err = readIndex(os.DirFS(w.dir))
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == stageDir })
	switch {
	case errors.Is(err, ErrNoLayout) && len(entries) == 0:
		w.index, err = parseIndex([]byte(`{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[]}`))
	case errors.Is(err, ErrNoLayout):
		err = fmt.Errorf("%w, and it is not empty", err)
	}
	return err
}

// close lets go of the layout. One that was made and got nothing goes again.
func (w *layoutWriter) close() error {
	err := errors.Join(w.clear(), os.Remove(w.path(stageDir)))
	if w.made && len(w.index.entries) == 0 {
		err = errors.Join(err, os.Remove(w.dir))
	}
	return errors.Join(err, w.locked.Close())
}

func (w *layoutWriter) path(elem ...string) string {
	return filepath.Join(w.dir, filepath.Join(elem...))
}

// clear empties the stage.
func (w *layoutWriter) clear() error {
	entries, err := os.ReadDir(w.path(stageDir))
	for _, e := range entries {
		err = errors.Join(err, os.Remove(w.path(stageDir, e.Name())))
	}
	w.staged = nil
	return err
}

// discard drops what was staged of an image that is not whole.
func (w *layoutWriter) discard() { _ = w.clear() } // close says so if it cannot be

func (w *layoutWriter) staging(d digest.Digest) string {
	return w.path(stageDir, d.Algorithm().String()+"-"+d.Encoded())
}

// has reports whether the layout has a blob already, and whole: an earlier program may
// have left it torn.
func (w *layoutWriter) has(ctx context.Context, want v1.Descriptor) (bool, error) {
	if slices.Contains(w.staged, want.Digest) {
		return true, nil
	}
	f, err := os.Open(w.path(filepath.FromSlash(blobFile(want.Digest))))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	verifier := want.Digest.Verifier()
	n, err := io.Copy(verifier, reading{ctx, io.LimitReader(f, want.Size+1), silent{}})
	return n == want.Size && verifier.Verified(), err
}

func (w *layoutWriter) manifest(m origin.Manifest) error {
	want := v1.Descriptor{Digest: m.Digest, Size: int64(len(m.Bytes))}
	if there, err := w.has(context.Background(), want); there || err != nil {
		return err
	}
	return w.blob(bytes.NewReader(m.Bytes), want)
}

// blob stages a blob, whose bytes it verifies.
func (w *layoutWriter) blob(r io.Reader, want v1.Descriptor) error {
	f, err := os.OpenFile(w.staging(want.Digest), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	verifier := want.Digest.Verifier()
	_, err = io.Copy(io.MultiWriter(f, verifier), r)
	if err == nil && !verifier.Verified() {
		err = errCorrupt
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		w.staged = append(w.staged, want.Digest)
	}
	return err
}

// add makes an image part of the layout: its blobs first, the index last. An entry of the
// same whole name goes.
func (w *layoutWriter) add(entries []v1.Descriptor) error {
	if err := makeDir(w.path(v1.ImageBlobsDir)); err != nil {
		return err
	}
	touched := map[string]struct{}{w.dir: {}, w.path(v1.ImageBlobsDir): {}}
	for _, d := range w.staged {
		to := w.path(filepath.FromSlash(blobFile(d)))
		if err := makeDir(filepath.Dir(to)); err != nil {
			return err
		}
		if err := os.Rename(w.staging(d), to); err != nil {
			return err
		}
		touched[filepath.Dir(to)] = struct{}{}
	}
	w.staged = nil
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err == nil {
		err = w.replace(layoutFile, layout)
	}
	for dir := range touched {
		err = errors.Join(err, syncDir(dir))
	}
	if err != nil {
		return err
	}
	next, b, err := w.index.with(entries)
	if err == nil {
		err = w.replace(indexFile, b)
	}
	if err == nil {
		err = syncDir(w.dir)
	}
	if err == nil {
		w.index = next
	}
	return err
}

// with gives the index with those entries, and its file. An entry of the same whole name
// is replaced.
func (x index) with(entries []v1.Descriptor) (index, []byte, error) {
	raw := slices.Clone(x.raw)
	kept := slices.Clone(x.entries)
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return x, nil, err
		}
		same := func(old v1.Descriptor) bool { return old.Annotations[annotationName] == e.Annotations[annotationName] }
		if i := slices.IndexFunc(kept, same); i >= 0 {
			raw[i], kept[i] = line, e
			continue
		}
		raw, kept = append(raw, line), append(kept, e)
	}
	members := map[string]json.RawMessage{}
	maps.Copy(members, x.members)
	list, err := json.Marshal(raw)
	if err != nil {
		return x, nil, err
	}
	members["manifests"] = list
	b, err := json.Marshal(members)
	return index{members: members, raw: raw, entries: kept}, b, err
}

// replace gives a file of the layout new content, at once.
func (w *layoutWriter) replace(name string, b []byte) error {
	tmp := w.path(stageDir, name)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, w.path(name))
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
