package storetest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Spooler is implemented by a store under examination whose Adopter takes files
// of one directory.
type Spooler interface {
	// Spool is that directory. It exists.
	Spool() string
}

// adoptCases ask nothing of a store that does not adopt.
var adoptCases = []blobCase{
	{"adopt: a file from elsewhere", func(t *testing.T, b store.Blobs) {
		a, ok := b.(store.Adopter)
		if !ok {
			return
		}
		f := spooled(t, t.TempDir(), []byte("content"))
		d := digest.FromString("content")
		_, err := a.Adopt(t.Context(), f, d)
		wantErr(t, err, store.ErrForeign)
		_, err = b.Stat(t.Context(), d)
		wantErr(t, err, store.ErrNotFound)
	}},
	{"adopt", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		data := random(100_000)
		d := digest.FromBytes(data)
		f := spooled(t, dir, data)
		info, err := a.Adopt(t.Context(), f, d)
		must(t, err)
		if info.Digest != d || info.Size != int64(len(data)) || info.Modified.IsZero() {
			t.Errorf("Adopt = %+v", info)
		}
		wantBytes(t, read(t, b, d, store.Range{}), data)
		// The file keeps its name until its owner removes it, and the blob stays.
		must(t, os.Remove(f.Name()))
		wantBytes(t, read(t, b, d, store.Range{}), data)
		if got := all(t, b); len(got) != 1 {
			t.Errorf("All = %v, want one", got)
		}
	})},
	{"adopt: of a blob that is there", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		data := random(1000)
		d := put(t, b, data)
		f := spooled(t, dir, data)
		info, err := a.Adopt(t.Context(), f, d)
		must(t, err)
		if info.Digest != d || info.Size != 1000 {
			t.Errorf("Adopt = %+v", info)
		}
		wantBytes(t, read(t, b, d, store.Range{}), data)
		_, err = os.Stat(f.Name())
		must(t, err)
	})},
	{"adopt: sha512", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		data := random(1000)
		d := digest.SHA512.FromBytes(data)
		_, err := a.Adopt(t.Context(), spooled(t, dir, data), d)
		must(t, err)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	})},
	{"adopt: a file without a name", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		f := spooled(t, dir, []byte("content"))
		must(t, os.Remove(f.Name()))
		_, err := a.Adopt(t.Context(), f, digest.FromString("content"))
		wantErr(t, err, store.ErrForeign)
	})},
	{"adopt: a name that is another file's now", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		f := spooled(t, dir, []byte("content"))
		must(t, os.Remove(f.Name()))
		must(t, os.WriteFile(f.Name(), []byte("forged!"), 0o600))
		d := digest.FromString("content")
		_, err := a.Adopt(t.Context(), f, d)
		wantErr(t, err, store.ErrForeign)
		_, err = b.Stat(t.Context(), d)
		wantErr(t, err, store.ErrNotFound)
	})},
	{"adopt: deleted and adopted again", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		data := random(1000)
		d := digest.FromBytes(data)
		f := spooled(t, dir, data)
		for range 2 {
			_, err := a.Adopt(t.Context(), f, d)
			must(t, err)
			must(t, b.Delete(t.Context(), d))
		}
		_, err := b.Stat(t.Context(), d)
		wantErr(t, err, store.ErrNotFound)
	})},
	{"adopt: digests that are none", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		f := spooled(t, dir, []byte("content"))
		for _, d := range badDigests {
			_, err := a.Adopt(t.Context(), f, d)
			wantErr(t, err, store.ErrDigest)
		}
	})},
	{"adopt: and commit at once", spoolCase(func(t *testing.T, b store.Blobs, a store.Adopter, dir string) {
		data := random(10_000)
		d := digest.FromBytes(data)
		files := make([]*os.File, 16)
		for i := range files {
			files[i] = spooled(t, dir, data)
		}
		crowd(t, len(files), func(i int) error {
			if i%4 == 0 {
				return tryPut(t.Context(), b, data)
			}
			_, err := a.Adopt(t.Context(), files[i], d)
			return errors.Join(err, os.Remove(files[i].Name()))
		})
		wantBytes(t, read(t, b, d, store.Range{}), data)
		if got := all(t, b); len(got) != 1 {
			t.Errorf("All = %v, want one", got)
		}
	})},
}

// spoolCase asks only where there is a spool.
func spoolCase(run func(t *testing.T, b store.Blobs, a store.Adopter, dir string)) func(*testing.T, store.Blobs) {
	return func(t *testing.T, b store.Blobs) {
		a, adopts := b.(store.Adopter)
		s, spools := b.(Spooler)
		if adopts && spools {
			run(t, b, a, s.Spool())
		}
	}
}

// spooled gives a new file of data in dir, closed when the test ends.
func spooled(t *testing.T, dir string, data []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, filepath.Base(t.Name())+"-*")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(data)
	must(t, err)
	return f
}
