package local_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// An upload that found the disk full leaves nothing there; one that failed otherwise
// can be resumed.
func TestFullDiskKeepsNoUpload(t *testing.T) {
	for _, c := range []struct {
		name  string
		call  string // that fails
		fault error
		kept  bool
	}{
		{"write, no room", "write ingest/", syscall.ENOSPC, false},
		{"write, no quota", "write ingest/", syscall.EDQUOT, false},
		{"write, broken", "write ingest/", syscall.EIO, true},
		{"commit, no room", "mkdir blobs", syscall.ENOSPC, false},
		{"commit, broken", "mkdir blobs", syscall.EIO, true},
		{"close, no room", "create tmp/", syscall.ENOSPC, false},
		{"close, broken", "create tmp/", syscall.EIO, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f disktest.Faulty
			s, err := disk.Open(t.TempDir(), disk.Options{FS: f.FS})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			reg := over(t, s.Blobs(), s.Records())
			in, err := reg.Upload(t.Context(), origintest.Repo(t, "a"), "", digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			f.Arm(func(_ int, call string) error {
				if strings.HasPrefix(call, c.call) {
					return c.fault
				}
				return nil
			})
			_, err = in.Write([]byte("content"))
			if err == nil && strings.HasPrefix(c.call, "mkdir") {
				_, err = in.Commit(t.Context(), digest.FromString("content"))
			}
			f.Arm(func(_ int, call string) error { // whatever fails, it fails once
				if strings.HasPrefix(c.call, "create") && strings.HasPrefix(call, c.call) {
					return c.fault
				}
				return nil
			})
			if err = errors.Join(err, in.Close()); !errors.Is(err, c.fault) {
				t.Errorf("error %v, want %v", err, c.fault)
			}
			f.Disarm()
			again, err := reg.Upload(t.Context(), origintest.Repo(t, "a"), in.ID(), "")
			if c.kept && err != nil || !c.kept && !errors.Is(err, origin.ErrUploadUnknown) {
				t.Errorf("resume: %v", err)
			}
			if err == nil {
				_ = again.Cancel()
			}
		})
	}
}
