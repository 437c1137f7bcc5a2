package origintest

import (
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Repo is the repository of that name.
func Repo(t testing.TB, name string) origin.Repo {
	t.Helper()
	r, err := origin.ParseRepo(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Ref is the tag or digest s.
func Ref(t testing.TB, s string) origin.Ref {
	t.Helper()
	r, err := origin.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// PushBlob uploads a blob, named by sha256.
func PushBlob(t testing.TB, w origin.Writer, repo string, b []byte) digest.Digest {
	t.Helper()
	return PushBlobAs(t, w, repo, digest.FromBytes(b), b)
}

// PushBlobAs uploads a blob under the digest d, which its bytes must have.
func PushBlobAs(t testing.TB, w origin.Writer, repo string, d digest.Digest, b []byte) digest.Digest {
	t.Helper()
	if err := upload(t, w, Repo(t, repo), d, b); err != nil {
		t.Fatalf("push blob %s to %s: %v", d, repo, err)
	}
	return d
}

func upload(t testing.TB, w origin.Writer, repo origin.Repo, d digest.Digest, b []byte) (err error) {
	in, err := w.Upload(t.Context(), repo, "", d.Algorithm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Cancel()) }()
	if _, err := in.Write(b); err != nil {
		return err
	}
	_, err = in.Commit(t.Context(), d)
	return err
}

// PushManifest pushes a manifest and lets the tags name it.
func PushManifest(t testing.TB, w origin.Writer, repo string, m origin.Manifest, tags ...string) origin.Descriptor {
	t.Helper()
	var o origin.PushOptions
	for _, tag := range tags {
		o.Tags = append(o.Tags, Ref(t, tag))
	}
	got, err := w.Push(t.Context(), Repo(t, repo), m, o)
	if err != nil {
		t.Fatalf("push manifest %s %v to %s: %v", m.Digest, tags, repo, err)
	}
	return got
}

// ReadBlob gives a blob's bytes.
func ReadBlob(t testing.TB, r origin.Reader, repo string, d digest.Digest) []byte {
	t.Helper()
	b, err := readRange(t, r, Repo(t, repo), d, store.Range{})
	if err != nil {
		t.Fatalf("read blob %s of %s: %v", d, repo, err)
	}
	return b
}

// readRange reads a range to its end; the body must give as many bytes as the
// answer promises, if it promises any number.
func readRange(t testing.TB, r origin.Reader, repo origin.Repo, d digest.Digest, rng store.Range) (b []byte, err error) {
	t.Helper()
	blob, err := r.Blob(t.Context(), repo, d, rng)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, blob.Body.Close()) }()
	b, err = io.ReadAll(blob.Body)
	if err == nil && blob.Length >= 0 && int64(len(b)) != blob.Length {
		t.Errorf("blob %s: the body has %d bytes, the answer promises %d", d, len(b), blob.Length)
	}
	return b, err
}
