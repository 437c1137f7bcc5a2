package origintest

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

var uploadTests = []test{
	{"in pieces", func(t *testing.T, reg origin.Registry) {
		content := Bytes(1, 3000)
		var id string
		for i := 0; i < len(content); i += 1000 {
			in := resume(t, reg, "a", id)
			if id != "" && in.ID() != id {
				t.Errorf("session %s goes on as %s", id, in.ID())
			}
			if in.Size() != int64(i) {
				t.Errorf("session has %d bytes, %d were written", in.Size(), i)
			}
			write(t, in, content[i:i+1000])
			id = in.ID()
			wantNil(t, "close", in.Close())
		}
		d := digest.FromBytes(content)
		_, err := reg.Stat(t.Context(), Repo(t, "a"), d)
		wantUnknown(t, "before the commit", err)
		commit(t, resume(t, reg, "a", id), d)
		CheckBlob(t, reg, "a", d, content)
		_, err = reg.Upload(t.Context(), Repo(t, "a"), id, digest.SHA256)
		wantError(t, "session after its commit", err, origin.ErrUploadUnknown)
	}},
	{"empty", func(t *testing.T, reg origin.Registry) {
		PushBlob(t, reg, "a", nil)
		CheckBlob(t, reg, "a", digest.FromString(""), nil)
	}},
	{"again", func(t *testing.T, reg origin.Registry) {
		for _, repo := range []string{"a", "a", "b"} {
			d := PushBlob(t, reg, repo, []byte("blob"))
			CheckBlob(t, reg, repo, d, []byte("blob"))
		}
	}},
	{"another algorithm", func(t *testing.T, reg origin.Registry) {
		for begun, d := range map[digest.Algorithm]digest.Digest{
			digest.SHA256: digest.SHA512.FromString("one"),
			digest.SHA512: digest.SHA256.FromString("one"),
		} {
			in, err := reg.Upload(t.Context(), Repo(t, "a"), "", begun)
			if err != nil {
				t.Fatal(err)
			}
			write(t, in, []byte("one"))
			commit(t, in, d)
			CheckBlob(t, reg, "a", d, []byte("one"))
		}
	}},
	{"the digest does not match", func(t *testing.T, reg origin.Registry) {
		in := resume(t, reg, "a", "")
		write(t, in, []byte("what came"))
		claimed := digest.FromString("what was claimed")
		_, err := in.Commit(t.Context(), claimed)
		wantError(t, "commit", err, origin.ErrDigestInvalid)
		wantNil(t, "cancel", in.Cancel())
		for _, d := range []digest.Digest{claimed, digest.FromString("what came")} {
			_, err := reg.Stat(t.Context(), Repo(t, "a"), d)
			wantUnknown(t, "after a refused commit", err)
		}
		PushBlob(t, reg, "a", []byte("what was claimed"))
		CheckBlob(t, reg, "a", claimed, []byte("what was claimed"))
	}},
	{"cancel", func(t *testing.T, reg origin.Registry) {
		in := resume(t, reg, "a", "")
		write(t, in, []byte("blob"))
		wantNil(t, "close", in.Close())
		wantNil(t, "cancel", resume(t, reg, "a", in.ID()).Cancel())
		_, err := reg.Upload(t.Context(), Repo(t, "a"), in.ID(), digest.SHA256)
		wantError(t, "session after its end", err, origin.ErrUploadUnknown)
		_, err = reg.Stat(t.Context(), Repo(t, "a"), digest.FromString("blob"))
		wantUnknown(t, "what was cancelled", err)
	}},
	{"another repository's session", func(t *testing.T, reg origin.Registry) {
		in := resume(t, reg, "a", "")
		write(t, in, []byte("blob"))
		wantNil(t, "close", in.Close())
		for _, repo := range []string{"b", "a/b", "aa"} {
			_, err := reg.Upload(t.Context(), Repo(t, repo), in.ID(), digest.SHA256)
			wantError(t, "in "+repo, err, origin.ErrUploadUnknown)
		}
		in = resume(t, reg, "a", in.ID())
		commit(t, in, digest.FromString("blob")) // unharmed
	}},
	{"no session", func(t *testing.T, reg origin.Registry) {
		in := resume(t, reg, "a", "")
		wantNil(t, "close", in.Close())
		id := in.ID()
		for _, bad := range []string{
			"x", "..", "00000000-0000-0000-0000-000000000000", strings.Repeat("0", len(id)),
			id[:len(id)-1], id + "0", strings.ToUpper(id) + "X", flip(id, 0), flip(id, len(id)-1),
		} {
			_, err := reg.Upload(t.Context(), Repo(t, "a"), bad, digest.SHA256)
			wantError(t, "session "+bad, err, origin.ErrUploadUnknown)
		}
		wantNil(t, "cancel", resume(t, reg, "a", id).Cancel())
	}},
}

// flip gives the id with another hexadecimal digit (or letter) at i.
func flip(id string, i int) string {
	c := byte('0')
	if id[i] == c {
		c = '1'
	}
	return id[:i] + string(c) + id[i+1:]
}

func resume(t testing.TB, w origin.Writer, repo, id string) store.Ingest {
	t.Helper()
	in, err := w.Upload(t.Context(), Repo(t, repo), id, digest.SHA256)
	if err != nil {
		t.Fatalf("upload %q in %s: %v", id, repo, err)
	}
	return in
}

func write(t testing.TB, in store.Ingest, b []byte) {
	t.Helper()
	if n, err := in.Write(b); n != len(b) || err != nil {
		t.Fatalf("write %d bytes: %d, %v", len(b), n, err)
	}
}

func commit(t testing.TB, in store.Ingest, d digest.Digest) {
	t.Helper()
	info, err := in.Commit(t.Context(), d)
	if err != nil {
		t.Fatalf("commit %s: %v", d, err)
	}
	if info.Digest != d {
		t.Errorf("commit of %s answers with %s", d, info.Digest)
	}
}
