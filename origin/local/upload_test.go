package local_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

func upload(t *testing.T, reg origin.Writer, repo, id string) store.Ingest {
	t.Helper()
	in, err := reg.Upload(t.Context(), origintest.Repo(t, repo), id, digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// Sessions outlive the process, and are signed by what the store keeps: another
// registry over the same store knows them, one over another store does not.
func TestSessionBelongsToStore(t *testing.T) {
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	var regs [2]*local.Registry
	for i := range regs {
		var err error
		if regs[i], err = local.New(blobs, records, local.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	in := upload(t, regs[0], "a", "")
	if _, err := in.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if len(in.ID()) != 64 {
		t.Errorf("id %s", in.ID())
	}
	again := upload(t, regs[1], "a", in.ID())
	if again.Size() != 3 || again.ID() != in.ID() {
		t.Errorf("session %s has %d bytes", again.ID(), again.Size())
	}
	foreign, err := local.New(blobs, mem.NewRecords(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = foreign.Upload(t.Context(), origintest.Repo(t, "a"), in.ID(), digest.SHA256)
	wantError(t, "signed by another store", err, origin.ErrUploadUnknown)
	// The store's own id is none of the registry's.
	_, err = regs[0].Upload(t.Context(), origintest.Repo(t, "a"), in.ID()[:32], digest.SHA256)
	wantError(t, "not signed", err, origin.ErrUploadUnknown)
}

// An upload belongs to whoever began it, and to its repository: elsewhere and to others
// its id is unknown.
func TestUploadBelongsToSomebody(t *testing.T) {
	reg, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	as := func(id principal) context.Context {
		return origin.WithRequest(t.Context(), &origin.Request{Principal: id})
	}
	repo := origintest.Repo(t, "a")
	in, err := reg.Upload(as("basic:ann"), repo, "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ctx := range []context.Context{as("basic:eve"), as(""), t.Context()} {
		if _, err := reg.Upload(ctx, repo, in.ID(), ""); !errors.Is(err, origin.ErrUploadUnknown) {
			t.Errorf("somebody else: %v", err)
		}
	}
	if _, err := reg.Upload(as("basic:ann"), origintest.Repo(t, "b"), in.ID(), ""); !errors.Is(err, origin.ErrUploadUnknown) {
		t.Errorf("in another repository: %v", err)
	}
	again, err := reg.Upload(as("basic:ann"), repo, in.ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Cancel(); err != nil {
		t.Error(err)
	}
}

type principal string

func (p principal) String() string { return string(p) }

func TestUploadInUse(t *testing.T) {
	reg := open(t, local.Options{})
	in := upload(t, reg, "a", "")
	_, err := reg.Upload(t.Context(), origintest.Repo(t, "a"), in.ID(), digest.SHA256)
	wantError(t, "a second holder", err, origin.ErrUploadInvalid)
	if err := in.Cancel(); err != nil {
		t.Fatal(err)
	}
}

func TestUploadAlgorithm(t *testing.T) {
	reg := open(t, local.Options{})
	for _, alg := range []digest.Algorithm{"", "sha1", digest.SHA384} {
		_, err := reg.Upload(t.Context(), origintest.Repo(t, "a"), "", alg)
		wantError(t, string(alg), err, origin.ErrUnsupported)
	}
}

// What a refused commit leaves behind is nothing: no blob, no session, no bytes.
func TestRefusedCommitLeavesNothing(t *testing.T) {
	blobs := mem.NewBlobs()
	reg, err := local.New(blobs, mem.NewRecords(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := upload(t, reg, "a", "")
	if _, err := in.Write([]byte("what came")); err != nil {
		t.Fatal(err)
	}
	_, err = in.Commit(t.Context(), digest.FromString("what was claimed"))
	wantError(t, "commit", err, origin.ErrDigestInvalid)
	if n := countIngests(t, blobs); n != 0 {
		t.Errorf("%d ingests are left", n)
	}
	for info := range blobs.All(t.Context()) {
		t.Errorf("blob %s is left", info.Digest)
	}
	_, err = reg.Upload(t.Context(), origintest.Repo(t, "a"), in.ID(), digest.SHA256)
	wantError(t, "the session", err, origin.ErrUploadUnknown)
}

func countIngests(t *testing.T, b store.Blobs) int {
	t.Helper()
	n := 0
	for _, err := range b.Ingests(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// An upload is dropped only as it was listed: one that somebody holds, that went on or
// that has ended is not.
func TestDrop(t *testing.T) {
	blobs := mem.NewBlobs()
	reg, err := local.New(blobs, mem.NewRecords(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	begin := func() store.Ingest {
		in := upload(t, reg, "a", "")
		if _, err := in.Write([]byte("bytes")); err != nil {
			t.Fatal(err)
		}
		return in
	}
	idle, held, fed, ended := begin(), begin(), begin(), begin()
	defer held.Cancel()
	for _, in := range []store.Ingest{idle, fed} {
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var listed []store.IngestInfo
	for u, err := range reg.Uploads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, u)
	}
	in := upload(t, reg, "a", fed.ID())
	if _, err := in.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Close(), ended.Cancel()); err != nil {
		t.Fatal(err)
	}
	for _, u := range listed {
		var want error
		if !strings.HasPrefix(idle.ID(), u.ID) {
			want = origin.ErrInUse
		}
		if err := reg.Drop(t.Context(), u); !errors.Is(err, want) {
			t.Errorf("drop of %s: %v, want %v", u.ID, err, want)
		}
	}
	_, err = reg.Upload(t.Context(), origintest.Repo(t, "a"), idle.ID(), digest.SHA256)
	wantError(t, "the dropped session", err, origin.ErrUploadUnknown)
	if err := upload(t, reg, "a", fed.ID()).Cancel(); err != nil {
		t.Error(err)
	}
	if n := countIngests(t, blobs); n != 1 {
		t.Errorf("%d ingests are left, want the one that is held", n)
	}
}
