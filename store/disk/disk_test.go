package disk_test

import (
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/storetest"
)

func TestBlobs(t *testing.T) {
	storetest.Blobs(t, func(t *testing.T) store.Blobs {
		dir := t.TempDir()
		return spooling{open(t, dir, disk.Options{}).Blobs(), dir}
	})
}

func TestRecords(t *testing.T) {
	storetest.Records(t, func(t *testing.T) store.Records {
		dir := t.TempDir()
		return filed{open(t, dir, disk.Options{}).Records(), dir}
	})
}

// filed says where the records of a store lie.
type filed struct {
	*disk.Records
	dir string
}

func (f filed) File(key string) string { return filepath.Join(f.dir, "records", key) }

// spooling says where the files lie that its store adopts.
type spooling struct {
	*disk.Blobs
	dir string
}

func (s spooling) Spool() string { return s.dir }

// open opens a store that is closed when the test ends.
func open(t testing.TB, dir string, o disk.Options) *disk.Store {
	t.Helper()
	s, err := disk.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
