package disk_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store/disk"
)

// Whatever a record's file holds, what is read of it is all of it, or an error.
func FuzzRecordFile(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("0123456789abcdef0123456789abcdef"))
	f.Add([]byte("0123456789abcdef0123456789abcdef\n"))
	f.Add([]byte("0123456789abcdef0123456789abcdef\nvalue\n"))
	f.Add([]byte("0123456789ABCDEF0123456789abcdef\nvalue"))
	dir := f.TempDir()
	s := open(f, dir, disk.Options{})
	if err := os.Mkdir(filepath.Join(dir, "records"), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		must(t, os.WriteFile(filepath.Join(dir, "records", "a"), data, 0o600))
		rec, err := s.Records().Get(t.Context(), "a")
		if err == nil && (rec.Version+"\n"+string(rec.Data) != string(data) || len(rec.Version) != 32) {
			t.Errorf("%q is read as %q of version %q", data, rec.Data, rec.Version)
		}
	})
}

// Whatever a saved state holds, the ingest can be resumed, never with more than
// its data, and cancelled.
func FuzzIngestState(f *testing.F) {
	sum, err := digest.SHA256.Hash().(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	for _, size := range []int64{-1, 0, 3, 7, 8} {
		state, err := json.Marshal(map[string]any{"boot": "one", "size": size, "hash": sum})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(state)
	}
	f.Add([]byte(`{"boot":"one","size":3,"hash":"c2hhAw=="}`))
	f.Add([]byte(`{"boot":"one","size":1e99}`))
	f.Add([]byte(`null`))
	dir := f.TempDir()
	s := open(f, dir, disk.Options{Boot: "one"})
	if err := os.Mkdir(filepath.Join(dir, "ingest"), 0o700); err != nil {
		f.Fatal(err)
	}
	name := filepath.Join(dir, "ingest", linkedID)
	f.Fuzz(func(t *testing.T, state []byte) {
		must(t, os.WriteFile(name+".sha256", []byte("content"), 0o600))
		must(t, os.WriteFile(name+".state", state, 0o600))
		ing, err := s.Blobs().Ingest(t.Context(), linkedID, "")
		must(t, err)
		if ing.Size() < 0 || ing.Size() > int64(len("content")) {
			t.Errorf("resumed at %d of %d bytes", ing.Size(), len("content"))
		}
		_, err = ing.Write([]byte(strings.Repeat("x", 100)))
		must(t, errors.Join(err, ing.Cancel()))
	})
}
