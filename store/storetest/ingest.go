package storetest

import (
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
