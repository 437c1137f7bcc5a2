package storetest

import (
	"context"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// quarantine takes a blob away as whoever found it damaged does: where a store keeps no
// such bytes it deletes them.
func quarantine(ctx context.Context, b store.Blobs, d digest.Digest) error {
	if q, ok := b.(store.Quarantiner); ok {
		return q.Quarantine(ctx, d)
	}
	return b.Delete(ctx, d)
}

var quarantineCases = []blobCase{
	{"quarantine of nothing", func(t *testing.T, b store.Blobs) {
		wantErr(t, quarantine(t.Context(), b, digest.FromString("nothing")), store.ErrNotFound)
		for _, d := range badDigests {
			wantErr(t, quarantine(t.Context(), b, d), store.ErrNotFound)
		}
	}},
	{"quarantine", func(t *testing.T, b store.Blobs) {
		kept, d := put(t, b, []byte("kept")), put(t, b, random(100_000))
		must(t, quarantine(t.Context(), b, d))
		_, err := b.Stat(t.Context(), d)
		wantErr(t, err, store.ErrNotFound)
		_, err = b.Open(t.Context(), d, store.Range{})
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, b.Delete(t.Context(), d), store.ErrNotFound)
		wantErr(t, quarantine(t.Context(), b, d), store.ErrNotFound)
		if got := all(t, b); len(got) != 1 || got[kept].Size != 4 {
			t.Errorf("All = %v, want what is kept", got)
		}
		wantBytes(t, read(t, b, kept, store.Range{}), []byte("kept"))
	}},
	{"quarantine, written again, and again", func(t *testing.T, b store.Blobs) {
		data := random(1000)
		for range 3 {
			d := put(t, b, data)
			wantBytes(t, read(t, b, d, store.Range{}), data)
			must(t, quarantine(t.Context(), b, d))
			_, err := b.Stat(t.Context(), d)
			wantErr(t, err, store.ErrNotFound)
		}
	}},
	{"quarantine of one of two algorithms", func(t *testing.T, b store.Blobs) {
		data := random(1000)
		d256, d512 := put(t, b, data), digest.SHA512.FromBytes(data)
		ing := begin(t, b, "", digest.SHA512)
		write(t, ing, data)
		commit(t, ing, d512)
		must(t, quarantine(t.Context(), b, d512))
		wantBytes(t, read(t, b, d256, store.Range{}), data)
		must(t, quarantine(t.Context(), b, d256))
		if got := all(t, b); len(got) != 0 {
			t.Errorf("All = %v, want none", got)
		}
	}},
	{"quarantine under a reader", func(t *testing.T, b store.Blobs) {
		data := random(2 * store.Step)
		d := put(t, b, data)
		blob, err := b.Open(t.Context(), d, store.Range{})
		must(t, err)
		defer blob.Body.Close()
		head := make([]byte, 100)
		_, err = io.ReadFull(blob.Body, head)
		must(t, err)
		must(t, quarantine(t.Context(), b, d))
		tail, err := io.ReadAll(blob.Body)
		must(t, err)
		wantBytes(t, append(head, tail...), data)
	}},
	{"quarantine, a context that is over", func(t *testing.T, b store.Blobs) {
		d := put(t, b, []byte("content"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantErr(t, quarantine(ctx, b, d), context.Canceled)
		wantBytes(t, read(t, b, d, store.Range{}), []byte("content"))
	}},
}
