package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/mem"
)

// file gives a file of that content in dir, opened.
func file(t *testing.T, dir, content string) *os.File {
	t.Helper()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// An adopted file is a blob of one repository; that the store holds it is known
// without any.
func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	s, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reg, err := local.New(s.Blobs(), s.Records(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("content")
	_, err = reg.Holds(t.Context(), d)
	wantError(t, "holds nothing", err, origin.ErrBlobUnknown)
	got, err := reg.Adopt(t.Context(), origintest.Repo(t, "a"), file(t, dir, "content"), d)
	if err != nil || got.Digest != d || got.Size != 7 {
		t.Fatalf("adopt: %+v, %v", got.Descriptor, err)
	}
	origintest.CheckBlob(t, reg, "a", d, []byte("content"))
	if held, err := reg.Holds(t.Context(), d); err != nil || held.Size != 7 {
		t.Errorf("holds %+v, %v", held.Descriptor, err)
	}
	_, err = reg.Stat(t.Context(), origintest.Repo(t, "b"), d)
	wantError(t, "in another repository", err, origin.ErrBlobUnknown)
	_, err = reg.Adopt(t.Context(), origintest.Repo(t, "b"), file(t, t.TempDir(), "content"), d)
	wantError(t, "a file from elsewhere", err, store.ErrForeign)
	_, err = reg.Stat(t.Context(), origintest.Repo(t, "b"), d)
	wantError(t, "after a refusal", err, origin.ErrBlobUnknown)
}

// meanwhile is blobs that adopt nothing, and have something else happen first.
type meanwhile struct {
	store.Blobs
	do func()
}

func (m meanwhile) Adopt(context.Context, *os.File, digest.Digest) (store.Info, error) {
	m.do()
	return store.Info{}, store.ErrForeign
}

// A client pushes a blob between the link of an adoption and its failure: what he was told
// stays true.
func TestFailedAdoptionSparesPush(t *testing.T) {
	var reg *local.Registry
	content := []byte("content")
	reg, err := local.New(meanwhile{mem.NewBlobs(), func() { origintest.PushBlob(t, reg, "a", content) }}, mem.NewRecords(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(content)
	_, err = reg.Adopt(t.Context(), origintest.Repo(t, "a"), file(t, t.TempDir(), "content"), d)
	if !errors.Is(err, store.ErrForeign) || errors.Is(err, origin.ErrPushed) {
		t.Errorf("adopt: %v", err)
	}
	origintest.CheckBlob(t, reg, "a", d, content)
}

func TestAdoptWithoutAdopter(t *testing.T) {
	reg := open(t, local.Options{})
	_, err := reg.Adopt(t.Context(), origintest.Repo(t, "a"), file(t, t.TempDir(), "content"), digest.FromString("content"))
	wantError(t, "adopt", err, store.ErrForeign)
}

// What is no digest names nothing, and is told apart from what is unknown.
func TestInvalidDigests(t *testing.T) {
	reg := open(t, local.Options{Delete: true})
	repo := origintest.Repo(t, "a")
	for _, d := range []digest.Digest{"", "sha256:..", "sha256:../../../x", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		_, resolve := reg.Resolve(t.Context(), repo, origin.ByDigest(d))
		_, stat := reg.Stat(t.Context(), repo, d)
		_, blob := reg.Blob(t.Context(), repo, d, store.Range{})
		_, mount := reg.Mount(t.Context(), repo, repo, d)
		_, holds := reg.Holds(t.Context(), d)
		_, referrers := reg.Referrers(t.Context(), repo, d, "", origin.Page{N: 1})
		_, adopt := reg.Adopt(t.Context(), repo, nil, d)
		for name, err := range map[string]error{
			"resolve": resolve, "stat": stat, "blob": blob, "mount": mount, "holds": holds, "referrers": referrers, "adopt": adopt,
			"delete manifest": reg.DeleteManifest(t.Context(), repo, origin.ByDigest(d)),
			"delete blob":     reg.DeleteBlob(t.Context(), repo, d),
		} {
			wantError(t, name+" "+d.String(), err, origin.ErrDigestInvalid)
		}
	}
}
