package local_test

import (
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

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

func TestSweepUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := mem.NewBlobs()
		reg, err := local.New(blobs, mem.NewRecords(), local.Options{UploadExpiry: time.Hour})
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
		idle, held, fed := begin(), begin(), begin()
		defer held.Cancel()
		for _, in := range []store.Ingest{idle, fed} {
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
		}
		sweep := func(want int) {
			t.Helper()
			if n, err := reg.SweepUploads(t.Context()); n != want || err != nil {
				t.Errorf("swept %d, %v; want %d", n, err, want)
			}
		}
		time.Sleep(59 * time.Minute)
		sweep(0)
		in := upload(t, reg, "a", fed.ID())
		if _, err := in.Write([]byte("more")); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		sweep(1) // idle; held is somebody's, and fed got a byte a minute ago
		_, err = reg.Upload(t.Context(), origintest.Repo(t, "a"), idle.ID(), digest.SHA256)
		wantError(t, "the swept session", err, origin.ErrUploadUnknown)
		time.Sleep(time.Hour)
		sweep(1)
		if n := countIngests(t, blobs); n != 1 {
			t.Errorf("%d ingests are left, want the one that is held", n)
		}
	})
}

func TestSweepUploadsNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := open(t, local.Options{})
		in := upload(t, reg, "a", "")
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1000 * time.Hour)
		if n, err := reg.SweepUploads(t.Context()); n != 0 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
		if err := upload(t, reg, "a", in.ID()).Cancel(); err != nil {
			t.Error(err)
		}
	})
}

// staleBlobs lists its ingests as they were before.
type staleBlobs struct {
	store.Blobs
	infos []store.IngestInfo
}

func (b staleBlobs) Ingests(context.Context) iter.Seq2[store.IngestInfo, error] {
	return func(yield func(store.IngestInfo, error) bool) {
		for _, info := range b.infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// A session that goes on between the listing and its turn is not swept, and one
// that ended there is no error.
func TestSweepUploadsLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := &staleBlobs{Blobs: mem.NewBlobs()}
		reg, err := local.New(blobs, mem.NewRecords(), local.Options{UploadExpiry: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		alive, ended := upload(t, reg, "a", ""), upload(t, reg, "a", "")
		for info, err := range blobs.Blobs.Ingests(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			blobs.infos = append(blobs.infos, info)
		}
		if err := ended.Cancel(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := alive.Write([]byte("byte")); err != nil {
			t.Fatal(err)
		}
		if err := alive.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := reg.SweepUploads(t.Context()); n != 0 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
		if err := upload(t, reg, "a", alive.ID()).Cancel(); err != nil {
			t.Error(err)
		}
	})
}
