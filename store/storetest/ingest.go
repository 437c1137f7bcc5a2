package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

var ingestCases = []blobCase{
	{"ingest: ids", func(t *testing.T, b store.Blobs) {
		one, two := begin(t, b, "", digest.SHA256), begin(t, b, "", digest.SHA256)
		if one.ID() == two.ID() {
			t.Errorf("two ingests are named %s", one.ID())
		}
		for _, id := range []string{one.ID(), two.ID()} {
			if !isID(id) {
				t.Errorf("id %q is not 32 lower-case hex digits", id)
			}
		}
	}},
	{"ingest: size", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		for i, want := range []int64{0, 7, 14} {
			if ing.Size() != want {
				t.Errorf("size %d after %d writes, want %d", ing.Size(), i, want)
			}
			write(t, ing, []byte("content"))
		}
	}},
	{"ingest: invisible until committed", func(t *testing.T, b store.Blobs) {
		data := random(1000)
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, data)
		_, err := b.Stat(t.Context(), digest.FromBytes(data))
		wantErr(t, err, store.ErrNotFound)
		must(t, ing.Close())
		_, err = b.Stat(t.Context(), digest.FromBytes(data))
		wantErr(t, err, store.ErrNotFound)
	}},
	{"ingest: unknown ids", func(t *testing.T, b store.Blobs) {
		known := begin(t, b, "", digest.SHA256).ID()
		for _, id := range []string{
			"00000000000000000000000000000000", "x", "..", "../" + known, known + "/", known + ".sha256", known[:31],
			known + "0", "/etc/passwd", known[:30] + "/.", known[:31] + "\x00", "ABCDEF00000000000000000000000000",
		} {
			_, err := b.Ingest(t.Context(), id, digest.SHA256)
			wantErr(t, err, store.ErrNotFound)
		}
	}},
	{"ingest: algorithms that are none", func(t *testing.T, b store.Blobs) {
		for _, alg := range []digest.Algorithm{"", "md5", "sha384", "../sha256"} {
			ing, err := b.Ingest(t.Context(), "", alg)
			if err == nil {
				t.Errorf("algorithm %q is taken", alg)
				must(t, ing.Cancel())
			}
		}
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("refused ingests left %v", got)
		}
	}},
	{"ingest: resume", func(t *testing.T, b store.Blobs) {
		data := random(10_000)
		ing := begin(t, b, "", digest.SHA256)
		id := ing.ID()
		for at := 0; at < len(data); at += 1000 {
			if ing.ID() != id || ing.Size() != int64(at) {
				t.Fatalf("resumed as %s at %d, want %s at %d", ing.ID(), ing.Size(), id, at)
			}
			write(t, ing, data[at:at+1000])
			must(t, ing.Close())
			ing = begin(t, b, id, digest.SHA256)
		}
		d := digest.FromBytes(data)
		commit(t, ing, d)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
	{"ingest: resume keeps its algorithm", func(t *testing.T, b store.Blobs) {
		data := random(1000)
		ing := begin(t, b, "", digest.SHA512)
		write(t, ing, data[:500])
		must(t, ing.Close())
		ing = begin(t, b, ing.ID(), "")
		write(t, ing, data[500:])
		d := digest.SHA512.FromBytes(data)
		commit(t, ing, d)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
	{"ingest: resume before a byte", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		must(t, ing.Close())
		ing = begin(t, b, ing.ID(), digest.SHA256)
		if ing.Size() != 0 {
			t.Errorf("size %d, want 0", ing.Size())
		}
		commit(t, ing, digest.FromString(""))
	}},
	{"ingest: one holder", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		_, err := b.Ingest(t.Context(), ing.ID(), digest.SHA256)
		wantErr(t, err, store.ErrBusy)
		must(t, ing.Close())
		again := begin(t, b, ing.ID(), digest.SHA256)
		_, err = b.Ingest(t.Context(), ing.ID(), digest.SHA256)
		wantErr(t, err, store.ErrBusy)
		// The first holder has let go, and cannot let go of what is another's.
		must(t, ing.Close())
		must(t, ing.Cancel())
		_, err = b.Ingest(t.Context(), ing.ID(), digest.SHA256)
		wantErr(t, err, store.ErrBusy)
		write(t, again, []byte("content"))
		commit(t, again, digest.FromString("content"))
	}},
	{"ingest: cancel", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, []byte("content"))
		must(t, ing.Cancel())
		must(t, ing.Cancel())
		must(t, ing.Close())
		_, err := b.Ingest(t.Context(), ing.ID(), digest.SHA256)
		wantErr(t, err, store.ErrNotFound)
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("Ingests = %v, want none", got)
		}
	}},
	{"ingest: cancel after a resumption", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, []byte("content"))
		must(t, ing.Close())
		must(t, begin(t, b, ing.ID(), digest.SHA256).Cancel())
		_, err := b.Ingest(t.Context(), ing.ID(), digest.SHA256)
		wantErr(t, err, store.ErrNotFound)
	}},
	{"ingest: cancel after close keeps it", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		write(t, ing, []byte("content"))
		must(t, ing.Close())
		must(t, ing.Cancel())
		if again := begin(t, b, ing.ID(), digest.SHA256); again.Size() != 7 {
			t.Errorf("size %d, want 7", again.Size())
		}
	}},
	{"ingest: write after its end", func(t *testing.T, b store.Blobs) {
		for name, end := range map[string]func(store.Ingest) error{
			"Close": store.Ingest.Close, "Cancel": store.Ingest.Cancel,
			"Commit": func(ing store.Ingest) error {
				_, err := ing.Commit(t.Context(), digest.FromString("content"))
				return err
			},
		} {
			ing := begin(t, b, "", digest.SHA256)
			write(t, ing, []byte("content"))
			must(t, end(ing))
			if _, err := ing.Write([]byte("more")); err == nil {
				t.Errorf("Write after %s: no error", name)
			}
			if _, err := ing.Commit(t.Context(), digest.FromString("content")); err == nil {
				t.Errorf("Commit after %s: no error", name)
			}
		}
		wantBytes(t, read(t, b, digest.FromString("content"), store.Range{}), []byte("content"))
	}},
	{"ingest: list", func(t *testing.T, b store.Blobs) {
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("Ingests = %v, want none", got)
		}
		open, closed := begin(t, b, "", digest.SHA256), begin(t, b, "", digest.SHA512)
		write(t, open, random(10))
		write(t, closed, random(20))
		must(t, closed.Close())
		put(t, b, []byte("committed"))
		must(t, begin(t, b, "", digest.SHA256).Cancel())
		got := ingests(t, b)
		if len(got) != 2 || got[open.ID()].Size != 10 || got[closed.ID()].Size != 20 {
			t.Errorf("Ingests = %v, want %s of 10 bytes and %s of 20", got, open.ID(), closed.ID())
		}
		for id, info := range got {
			if info.Modified.IsZero() {
				t.Errorf("ingest %s has no time", id)
			}
		}
	}},
	{"ingest: list, broken off", func(t *testing.T, b store.Blobs) {
		for range 3 {
			begin(t, b, "", digest.SHA256)
		}
		n := 0
		for _, err := range b.Ingests(t.Context()) {
			must(t, err)
			n++
			break
		}
		if n != 1 {
			t.Errorf("%d steps, want 1", n)
		}
	}},
}

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

var crowdCases = []blobCase{
	{"crowd: 32 ingests of one content", func(t *testing.T, b store.Blobs) {
		data := random(100_000)
		d := digest.FromBytes(data)
		crowd(t, 32, func(int) error { return tryPut(t.Context(), b, data) })
		wantBytes(t, read(t, b, d, store.Range{}), data)
		if got := all(t, b); len(got) != 1 {
			t.Errorf("All = %v, want one", got)
		}
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("Ingests = %v, want none", got)
		}
	}},
	{"crowd: 32 ingests of different content", func(t *testing.T, b store.Blobs) {
		crowd(t, 32, func(i int) error { return tryPut(t.Context(), b, random(i)) })
		for i := range 32 {
			wantBytes(t, read(t, b, digest.FromBytes(random(i)), store.Range{}), random(i))
		}
	}},
	{"crowd: commits at once", func(t *testing.T, b store.Blobs) {
		data := random(5000)
		d := digest.FromBytes(data)
		open := make([]store.Ingest, 16)
		for i := range open {
			open[i] = begin(t, b, "", digest.SHA256)
			write(t, open[i], data)
		}
		crowd(t, len(open), func(i int) error {
			info, err := open[i].Commit(t.Context(), d)
			if err == nil && (info.Digest != d || info.Size != int64(len(data))) {
				err = fmt.Errorf("committed as %+v", info)
			}
			return err
		})
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
	{"crowd: one of many resumes", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		must(t, ing.Close())
		var mu sync.Mutex
		var held []store.Ingest
		crowd(t, 16, func(int) error {
			got, err := b.Ingest(t.Context(), ing.ID(), digest.SHA256)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				held = append(held, got)
			} else if !errors.Is(err, store.ErrBusy) {
				return err
			}
			return nil
		})
		for _, got := range held {
			must(t, got.Close())
		}
		if len(held) != 1 {
			t.Errorf("%d hold the ingest, want 1", len(held))
		}
	}},
	{"crowd: commits and deletes", func(t *testing.T, b store.Blobs) {
		data := random(5000)
		d := digest.FromBytes(data)
		crowd(t, 16, func(i int) error {
			if i%2 == 0 {
				return tryPut(t.Context(), b, data)
			}
			if err := b.Delete(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		})
		put(t, b, data)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
}

// crowd runs do n times at once and reports what fails.
func crowd(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	start := make(chan struct{})
	errs := make(chan error, n)
	for i := range n {
		go func() {
			<-start
			errs <- do(i)
		}()
	}
	close(start)
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// tryPut stores data, in two writes, from any goroutine.
func tryPut(ctx context.Context, b store.Blobs, data []byte) error {
	ing, err := b.Ingest(ctx, "", digest.SHA256)
	if err != nil {
		return err
	}
	defer ing.Cancel()
	for _, part := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
		if _, err := ing.Write(part); err != nil {
			return err
		}
	}
	info, err := ing.Commit(ctx, digest.FromBytes(data))
	if err == nil && info.Size != int64(len(data)) {
		err = fmt.Errorf("committed %d bytes of %d", info.Size, len(data))
	}
	return err
}

func ingests(t *testing.T, b store.Blobs) map[string]store.IngestInfo {
	t.Helper()
	got := map[string]store.IngestInfo{}
	for info, err := range b.Ingests(t.Context()) {
		must(t, err)
		if _, twice := got[info.ID]; twice {
			t.Errorf("Ingests gives %s twice", info.ID)
		}
		got[info.ID] = info
	}
	return got
}

func isID(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 32
}
