package local_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// A push of a blob costs three syncs: its bytes, its name, its link; that of a manifest one.
func TestPushSyncs(t *testing.T) {
	var faulty disktest.Faulty
	s, err := disk.Open(t.TempDir(), disk.Options{FS: faulty.FS})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reg, repo := over(t, s.Blobs(), s.Records()), origintest.Repo(t, "a")
	blob := func(content []byte) {
		t.Helper()
		in, err := reg.Upload(t.Context(), repo, "", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(content); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Commit(t.Context(), digest.FromBytes(content)); err != nil {
			t.Fatal(err)
		}
	}
	unique := regexp.MustCompile(`(ingest|log)/.*`)
	syncs := func(push func()) (list []string) {
		faulty.Arm(nil)
		push()
		for _, call := range faulty.Disarm() {
			if strings.HasPrefix(call, "sync") {
				list = append(list, unique.ReplaceAllString(call, "$1"))
			}
		}
		return list
	}
	blob([]byte("the first one makes directories"))
	img := origintest.Image([]byte("{}"), origintest.Bytes(1, 1<<20))
	for _, b := range img.Blobs {
		got := syncs(func() { blob(b.Bytes) })
		if want := []string{"sync ingest", "syncname blobs/sha256", "sync log"}; !slices.Equal(got, want) {
			t.Errorf("a blob: %q, want %q", got, want)
		}
	}
	got := syncs(func() {
		ref, err := origin.ParseTag("latest")
		if err == nil {
			_, err = reg.Push(t.Context(), repo, img.Manifest, origin.PushOptions{Tags: []origin.Ref{ref}})
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if want := []string{"sync log"}; !slices.Equal(got, want) {
		t.Errorf("a manifest with a tag: %q, want %q", got, want)
	}
}
