package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

var commitCases = []blobCase{
	{"commit: in pieces of many sizes", func(t *testing.T, b store.Blobs) {
		data := random(300_000)
		ing := begin(t, b, "", digest.SHA256)
		for at, n := 0, 1; at < len(data); at, n = at+n, n*3 {
			write(t, ing, data[at:min(at+n, len(data))])
		}
		d := digest.FromBytes(data)
		if info := commit(t, ing, d); info.Size != int64(len(data)) {
			t.Errorf("size %d, want %d", info.Size, len(data))
		}
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
	{"commit: wrong digest", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, []byte("content"))
		_, err := ing.Commit(t.Context(), digest.FromString("other"))
		wantErr(t, err, store.ErrDigest)
		must(t, ing.Close())
		for _, s := range []string{"content", "other"} {
			_, err = b.Stat(t.Context(), digest.FromString(s))
			wantErr(t, err, store.ErrNotFound)
		}
		// What was refused is dropped: a bad upload leaves nothing behind.
		_, err = b.Ingest(t.Context(), ing.ID(), digest.SHA256)
		wantErr(t, err, store.ErrNotFound)
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("Ingests = %v, want none", got)
		}
	}},
	{"commit: wrong digest of another algorithm", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, []byte("content"))
		d := digest.SHA512.FromString("other")
		_, err := ing.Commit(t.Context(), d)
		wantErr(t, err, store.ErrDigest)
		_, err = b.Stat(t.Context(), d)
		wantErr(t, err, store.ErrNotFound)
	}},
	{"commit: digests that are none", func(t *testing.T, b store.Blobs) {
		for _, d := range badDigests {
			ing := begin(t, b, "", digest.SHA256)
			write(t, ing, []byte("x"))
			_, err := ing.Commit(t.Context(), d)
			wantErr(t, err, store.ErrDigest)
		}
		if got := all(t, b); len(got) != 0 {
			t.Errorf("All = %v, want none", got)
		}
	}},
	{"commit: wrong digest of a blob that is there", func(t *testing.T, b store.Blobs) {
		d := put(t, b, []byte("content"))
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, []byte("forged!"))
		_, err := ing.Commit(t.Context(), d)
		wantErr(t, err, store.ErrDigest)
		wantBytes(t, read(t, b, d, store.Range{}), []byte("content"))
	}},
	{"commit: other algorithm", func(t *testing.T, b store.Blobs) {
		data := random(100_000)
		for _, c := range []struct{ hashed, asked digest.Algorithm }{
			{digest.SHA256, digest.SHA512},
			{digest.SHA512, digest.SHA256},
		} {
			ing := begin(t, b, "", c.hashed)
			write(t, ing, data)
			d := c.asked.FromBytes(data)
			commit(t, ing, d)
			wantBytes(t, read(t, b, d, store.Range{}), data)
			_, err := b.Stat(t.Context(), c.hashed.FromBytes(data))
			wantErr(t, err, store.ErrNotFound)
			must(t, b.Delete(t.Context(), d))
		}
	}},
	{"commit: other algorithm after a resumption", func(t *testing.T, b store.Blobs) {
		data := random(100_000)
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, data[:50_000])
		must(t, ing.Close())
		ing = begin(t, b, ing.ID(), digest.SHA512)
		write(t, ing, data[50_000:])
		d := digest.SHA512.FromBytes(data)
		commit(t, ing, d)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
	{"commit: of a blob that is there", func(t *testing.T, b store.Blobs) {
		data := random(100)
		d := put(t, b, data)
		first, err := b.Stat(t.Context(), d)
		must(t, err)
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, data)
		if info := commit(t, ing, d); info != first {
			t.Errorf("Commit = %+v, want the blob that was there: %+v", info, first)
		}
		wantBytes(t, read(t, b, d, store.Range{}), data)
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("Ingests = %v, want none", got)
		}
	}},
	{"commit: ends the ingest", func(t *testing.T, b store.Blobs) {
		data := random(100)
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, data)
		d := digest.FromBytes(data)
		commit(t, ing, d)
		must(t, ing.Cancel())
		must(t, ing.Close())
		wantBytes(t, read(t, b, d, store.Range{}), data)
		_, err := b.Ingest(t.Context(), ing.ID(), digest.SHA256)
		wantErr(t, err, store.ErrNotFound)
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("Ingests = %v, want none", got)
		}
	}},
	{"commit: a context that is over", func(t *testing.T, b store.Blobs) {
		data := random(100)
		d := digest.FromBytes(data)
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, data)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := ing.Commit(ctx, d)
		wantErr(t, err, context.Canceled)
		_, err = b.Stat(t.Context(), d)
		wantErr(t, err, store.ErrNotFound)
		// The ingest is as it was, for a second try.
		must(t, ing.Close())
		commit(t, begin(t, b, ing.ID(), digest.SHA256), d)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
	{"commit: seen by a reader who waits for it", func(t *testing.T, b store.Blobs) {
		// A reader never sees a part: it finds nothing, or everything.
		data := random(200_000)
		d := digest.FromBytes(data)
		done := make(chan error)
		go func() {
			for {
				blob, err := b.Open(t.Context(), d, store.Range{})
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				if err == nil {
					var got []byte
					got, err = io.ReadAll(blob.Body)
					err = errors.Join(err, blob.Body.Close())
					if err == nil && digest.FromBytes(got) != d {
						err = fmt.Errorf("read %d bytes that are not the blob", len(got))
					}
				}
				done <- err
				return
			}
		}()
		put(t, b, data)
		must(t, <-done)
	}},
}
