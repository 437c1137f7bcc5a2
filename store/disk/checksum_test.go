package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

// A record that an older store wrote is read and written over; of one with a checksum any
// byte that is another is found, and it can be written anew.
func TestRecordChecksum(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "records", "a")
	s, err := disk.Open(dir, disk.Options{})
	must(t, err)
	old := strings.Repeat("0a", 16)
	must(t, os.MkdirAll(filepath.Dir(name), 0o700))
	must(t, os.WriteFile(name, []byte(old+"\nolder"), 0o600))
	rec, err := s.Records().Get(t.Context(), "a")
	if err != nil || string(rec.Data) != "older" || rec.Version != old {
		t.Errorf("of an older store: %+v, %v", rec, err)
	}
	_, err = s.Records().Put(t.Context(), "a", []byte("newer"), store.Version(old))
	must(t, err)
	must(t, s.Close())

	s, err = disk.Open(dir, disk.Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	good, err := os.ReadFile(name)
	must(t, err)
	for at := range good {
		bad := append([]byte(nil), good...)
		bad[at] ^= 1
		must(t, os.WriteFile(name, bad, 0o600))
		if rec, err := s.Records().Get(t.Context(), "a"); !errors.Is(err, store.ErrDamaged) || rec.Version != "" {
			t.Errorf("byte %d is another: %+v, %v", at, rec, err)
		}
	}
	_, err = s.Records().Put(t.Context(), "a", []byte("again"), store.Always())
	must(t, err)
	if rec, err := s.Records().Get(t.Context(), "a"); err != nil || string(rec.Data) != "again" {
		t.Errorf("written anew: %+v, %v", rec, err)
	}
}
