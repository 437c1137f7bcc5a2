package local_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
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

// A full disk has no room to note that the referrers of a manifest are bereaved, nor that it
// is about to be deleted. It is deleted all the same, and both are noted where that has made
// room.
func TestDeleteOnFullDisk(t *testing.T) {
	for _, c := range []struct {
		room, told bool // deleting makes room; deletions are written down
		ref        string
		err        error
		bereaved   bool
		kept       string
	}{
		{true, false, "digest", nil, true, ""},
		{true, true, "digest", nil, true, "push a 1, push a, delete a"},
		{true, true, "1", nil, false, "push a 1, push a, delete a 1"},
		{false, false, "digest", nil, false, ""},
		// What nobody can be told of is not acknowledged.
		{false, true, "digest", syscall.ENOSPC, false, "push a 1, push a"},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			var f disktest.Faulty
			s, err := disk.Open(t.TempDir(), disk.Options{FS: f.FS})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			o := local.Options{Delete: true, Grace: leaseGrace, Sole: true}
			if c.told {
				o.Journal = new(diary)
			}
			reg, err := local.New(s.Blobs(), s.Records(), o)
			if err != nil {
				t.Fatal(err)
			}
			image := origintest.Image([]byte("{}"), []byte("layer"))
			image.Push(t, reg, "a", "1")
			origintest.Artifact(image.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("signature")).Push(t, reg, "a")
			ref := origin.ByDigest(image.Digest())
			if c.ref != "digest" {
				ref = origintest.Ref(t, c.ref)
			}
			freed := false
			f.Arm(func(_ int, call string) error {
				what, name, _ := strings.Cut(call, " ")
				if what == "remove" && (strings.Contains(name, "/_m/") || c.ref == "1") {
					freed = true
				}
				if what == "create" && strings.HasPrefix(name, "tmp/") && !(freed && c.room) {
					return syscall.ENOSPC
				}
				return nil
			})
			wantError(t, "deletion", reg.DeleteManifest(t.Context(), origintest.Repo(t, "a"), ref), c.err)
			if f.Disarm(); !freed {
				t.Error("nothing was removed")
			}
			_, err = reg.Resolve(t.Context(), origintest.Repo(t, "a"), ref)
			wantError(t, "after the deletion", err, origin.ErrManifestUnknown)
			_, err = s.Records().Get(t.Context(), "r/a/_d/sha256/"+image.Digest().Encoded())
			if is := !errors.Is(err, store.ErrNotFound); is != c.bereaved || is && err != nil {
				t.Errorf("that its referrers are bereaved is noted: %t, %v", is, err)
			}
			if got := kept(t, s.Records()); got != c.kept {
				t.Errorf("%q is written down, want %q", got, c.kept)
			}
		})
	}
}
