package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// blobCase is one question about a store that was empty.
type blobCase struct {
	name string
	run  func(t *testing.T, b store.Blobs)
}

// Blobs examines the stores that open gives; each is empty, and of one case.
func Blobs(t *testing.T, open func(t *testing.T) store.Blobs) {
	for _, cases := range [][]blobCase{readCases, rangeCases, ingestCases, commitCases, deleteCases, quarantineCases, crowdCases, adoptCases} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
		}
	}
}

var readCases = []blobCase{
	{"stat of nothing", func(t *testing.T, b store.Blobs) {
		_, err := b.Stat(t.Context(), digest.FromString("nothing"))
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, err, fs.ErrNotExist)
	}},
	{"open of nothing", func(t *testing.T, b store.Blobs) {
		_, err := b.Open(t.Context(), digest.FromString("nothing"), store.Range{})
		wantErr(t, err, store.ErrNotFound)
	}},
	{"range of nothing", func(t *testing.T, b store.Blobs) {
		_, err := b.Open(t.Context(), digest.FromString("nothing"), store.Range{Off: 5, Len: 5})
		wantErr(t, err, store.ErrNotFound)
	}},
	{"digests that are none", func(t *testing.T, b store.Blobs) {
		put(t, b, []byte("content"))
		for _, d := range badDigests {
			_, err := b.Stat(t.Context(), d)
			wantErr(t, err, store.ErrNotFound)
			_, err = b.Open(t.Context(), d, store.Range{})
			wantErr(t, err, store.ErrNotFound)
			wantErr(t, b.Delete(t.Context(), d), store.ErrNotFound)
		}
	}},
	{"stat", func(t *testing.T, b store.Blobs) {
		data := random(1000)
		d := put(t, b, data)
		info, err := b.Stat(t.Context(), d)
		must(t, err)
		if info.Digest != d || info.Size != 1000 || info.Modified.IsZero() {
			t.Errorf("Stat = %+v, want digest %s, size 1000 and a time", info, d)
		}
	}},
	{"open", func(t *testing.T, b store.Blobs) {
		data := random(3*store.Step + 17)
		d := put(t, b, data)
		blob, err := b.Open(t.Context(), d, store.Range{})
		must(t, err)
		defer blob.Body.Close()
		if blob.Digest != d || blob.Size != int64(len(data)) || blob.Offset != 0 || blob.Length != blob.Size || blob.Modified.IsZero() {
			t.Errorf("Open = %+v", blob)
		}
		got, err := io.ReadAll(blob.Body)
		must(t, err)
		wantBytes(t, got, data)
	}},
	{"copy of a body", func(t *testing.T, b store.Blobs) {
		data := random(2*store.Step + 1)
		blob, err := b.Open(t.Context(), put(t, b, data), store.Range{})
		must(t, err)
		defer blob.Body.Close()
		var got bytes.Buffer
		n, err := io.Copy(&got, blob.Body)
		must(t, err)
		if n != int64(len(data)) {
			t.Errorf("copied %d bytes, want %d", n, len(data))
		}
		wantBytes(t, got.Bytes(), data)
	}},
	{"two readers", func(t *testing.T, b store.Blobs) {
		data := random(10_000)
		d := put(t, b, data)
		one, err := b.Open(t.Context(), d, store.Range{})
		must(t, err)
		defer one.Body.Close()
		head := make([]byte, 5000)
		_, err = io.ReadFull(one.Body, head)
		must(t, err)
		wantBytes(t, read(t, b, d, store.Range{}), data)
		tail, err := io.ReadAll(one.Body)
		must(t, err)
		wantBytes(t, append(head, tail...), data)
	}},
	{"empty blob", func(t *testing.T, b store.Blobs) {
		d := put(t, b, nil)
		info, err := b.Stat(t.Context(), d)
		must(t, err)
		if info.Size != 0 {
			t.Errorf("size %d, want 0", info.Size)
		}
		wantBytes(t, read(t, b, d, store.Range{}), nil)
	}},
	{"sha512", func(t *testing.T, b store.Blobs) {
		data := random(4000)
		d := digest.SHA512.FromBytes(data)
		ing := begin(t, b, "", digest.SHA512)
		write(t, ing, data)
		commit(t, ing, d)
		wantBytes(t, read(t, b, d, store.Range{}), data)
		_, err := b.Stat(t.Context(), digest.FromBytes(data))
		wantErr(t, err, store.ErrNotFound)
	}},
	{"the same bytes under two algorithms", func(t *testing.T, b store.Blobs) {
		data := random(4000)
		d256, d512 := put(t, b, data), digest.SHA512.FromBytes(data)
		ing := begin(t, b, "", digest.SHA512)
		write(t, ing, data)
		commit(t, ing, d512)
		must(t, b.Delete(t.Context(), d256))
		wantBytes(t, read(t, b, d512, store.Range{}), data)
	}},
	{"all of nothing", func(t *testing.T, b store.Blobs) {
		if got := all(t, b); len(got) != 0 {
			t.Errorf("All = %v, want none", got)
		}
	}},
	{"all", func(t *testing.T, b store.Blobs) {
		want := map[digest.Digest]int64{}
		for i := range 40 {
			data := random(i)
			want[put(t, b, data)] = int64(i)
		}
		data := random(50)
		ing := begin(t, b, "", digest.SHA512)
		write(t, ing, data)
		want[commit(t, ing, digest.SHA512.FromBytes(data)).Digest] = 50

		open := begin(t, b, "", digest.SHA256)
		write(t, open, []byte("never committed"))
		got := all(t, b)
		for d, size := range want {
			if got[d].Size != size || got[d].Digest != d || got[d].Modified.IsZero() {
				t.Errorf("All has %+v for %s of size %d", got[d], d, size)
			}
		}
		if len(got) != len(want) {
			t.Errorf("All has %d blobs, want %d", len(got), len(want))
		}
	}},
	{"all, broken off", func(t *testing.T, b store.Blobs) {
		for i := range 5 {
			put(t, b, random(i))
		}
		n := 0
		for _, err := range b.All(t.Context()) {
			must(t, err)
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("%d steps, want 2", n)
		}
	}},
	{"all, while blobs are deleted", func(t *testing.T, b store.Blobs) {
		for i := range 30 {
			put(t, b, random(i))
		}
		for info, err := range b.All(t.Context()) {
			must(t, err)
			must(t, b.Delete(t.Context(), info.Digest))
		}
		if got := all(t, b); len(got) != 0 {
			t.Errorf("%d blobs are left", len(got))
		}
	}},
	{"contexts that are over", func(t *testing.T, b store.Blobs) {
		d := put(t, b, []byte("content"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.Stat(ctx, d)
		wantErr(t, err, context.Canceled)
		_, err = b.Open(ctx, d, store.Range{})
		wantErr(t, err, context.Canceled)
		_, err = b.Ingest(ctx, "", digest.SHA256)
		wantErr(t, err, context.Canceled)
		wantErr(t, b.Delete(ctx, d), context.Canceled)
		wantErr(t, last(b.All(ctx)), context.Canceled)
		begin(t, b, "", digest.SHA256)
		wantErr(t, last(b.Ingests(ctx)), context.Canceled)
		wantBytes(t, read(t, b, d, store.Range{}), []byte("content"))
	}},
}

// badDigests are not digests, or not such as name a blob.
var badDigests = []digest.Digest{
	"", "sha256:", ":", "sha256:../../../etc/passwd", "sha256:zz",
	digest.Digest("md5:" + digest.FromString("x").Encoded()),
	digest.Digest("sha256:" + digest.SHA512.FromString("x").Encoded()),
	digest.Digest("SHA256:" + digest.FromString("x").Encoded()),
	digest.Digest(fmt.Sprintf("sha256:%064X", 0xABC)),
	digest.FromString("x") + "/..", digest.SHA384.FromString("x"),
}

var rangeCases = func() []blobCase {
	const size = 1000
	data := random(size)
	var cases []blobCase
	for _, c := range []struct {
		name   string
		r      store.Range
		off, n int64
	}{
		{"first byte", store.Range{Off: 0, Len: 1}, 0, 1},
		{"first bytes", store.Range{Off: 0, Len: 300}, 0, 300},
		{"middle", store.Range{Off: 100, Len: 300}, 100, 300},
		{"from an offset on", store.Range{Off: 900}, 900, 100},
		{"last byte", store.Range{Off: size - 1}, size - 1, 1},
		{"suffix", store.Range{Off: -10}, size - 10, 10},
		{"suffix of the size", store.Range{Off: -size}, 0, size},
		{"suffix longer than the blob", store.Range{Off: -2 * size}, 0, size},
		{"beyond the end", store.Range{Off: 990, Len: 100}, 990, 10},
		{"all by length", store.Range{Off: 0, Len: size}, 0, size},
		{"longer than the blob", store.Range{Off: 0, Len: 10 * size}, 0, size},
	} {
		cases = append(cases, blobCase{"range: " + c.name, func(t *testing.T, b store.Blobs) {
			blob, err := b.Open(t.Context(), put(t, b, data), c.r)
			must(t, err)
			defer blob.Body.Close()
			if blob.Offset != c.off || blob.Length != c.n || blob.Size != size {
				t.Errorf("offset %d, length %d, size %d; want %d, %d, %d", blob.Offset, blob.Length, blob.Size, c.off, c.n, size)
			}
			got, err := io.ReadAll(blob.Body)
			must(t, err)
			wantBytes(t, got, data[c.off:c.off+c.n])
		}})
	}
	for _, c := range []struct {
		name string
		data []byte
		r    store.Range
	}{
		{"at the end", data, store.Range{Off: size}},
		{"behind the end", data, store.Range{Off: size + 1, Len: 1}},
		{"of an empty blob", nil, store.Range{Off: 0, Len: 1}},
		{"suffix of an empty blob", nil, store.Range{Off: -1}},
	} {
		cases = append(cases, blobCase{"range: not there: " + c.name, func(t *testing.T, b store.Blobs) {
			_, err := b.Open(t.Context(), put(t, b, c.data), c.r)
			wantErr(t, err, store.ErrRange)
		}})
	}
	return cases
}()

var deleteCases = []blobCase{
	{"delete of nothing", func(t *testing.T, b store.Blobs) {
		wantErr(t, b.Delete(t.Context(), digest.FromString("nothing")), store.ErrNotFound)
	}},
	{"delete", func(t *testing.T, b store.Blobs) {
		kept, d := put(t, b, []byte("kept")), put(t, b, []byte("gone"))
		must(t, b.Delete(t.Context(), d))
		_, err := b.Stat(t.Context(), d)
		wantErr(t, err, store.ErrNotFound)
		_, err = b.Open(t.Context(), d, store.Range{})
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, b.Delete(t.Context(), d), store.ErrNotFound)
		wantBytes(t, read(t, b, kept, store.Range{}), []byte("kept"))
	}},
	{"delete under a reader", func(t *testing.T, b store.Blobs) {
		data := random(2 * store.Step)
		d := put(t, b, data)
		blob, err := b.Open(t.Context(), d, store.Range{})
		must(t, err)
		defer blob.Body.Close()
		head := make([]byte, 100)
		_, err = io.ReadFull(blob.Body, head)
		must(t, err)
		must(t, b.Delete(t.Context(), d))
		tail, err := io.ReadAll(blob.Body)
		must(t, err)
		wantBytes(t, append(head, tail...), data)
	}},
	{"written again after delete", func(t *testing.T, b store.Blobs) {
		data := random(100)
		d := put(t, b, data)
		must(t, b.Delete(t.Context(), d))
		put(t, b, data)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
}

// begin begins or resumes an ingest, which is closed when the test ends.
func begin(t *testing.T, b store.Blobs, id string, alg digest.Algorithm) store.Ingest {
	t.Helper()
	ing, err := b.Ingest(t.Context(), id, alg)
	must(t, err)
	t.Cleanup(func() { must(t, ing.Close()) })
	return ing
}

func write(t *testing.T, ing store.Ingest, data []byte) {
	t.Helper()
	n, err := ing.Write(data)
	must(t, err)
	if n != len(data) {
		t.Fatalf("wrote %d bytes of %d", n, len(data))
	}
}

func commit(t *testing.T, ing store.Ingest, d digest.Digest) store.Info {
	t.Helper()
	info, err := ing.Commit(t.Context(), d)
	must(t, err)
	if info.Digest != d || info.Modified.IsZero() {
		t.Fatalf("Commit = %+v, want %s and a time", info, d)
	}
	return info
}

// put stores data as a blob and gives its sha256.
func put(t *testing.T, b store.Blobs, data []byte) digest.Digest {
	t.Helper()
	ing := begin(t, b, "", digest.SHA256)
	write(t, ing, data)
	d := digest.FromBytes(data)
	if info := commit(t, ing, d); info.Size != int64(len(data)) {
		t.Fatalf("Commit: size %d, want %d", info.Size, len(data))
	}
	return d
}

func read(t *testing.T, b store.Blobs, d digest.Digest, r store.Range) []byte {
	t.Helper()
	blob, err := b.Open(t.Context(), d, r)
	must(t, err)
	data, err := io.ReadAll(blob.Body)
	must(t, errors.Join(err, blob.Body.Close()))
	return data
}

func all(t *testing.T, b store.Blobs) map[digest.Digest]store.Info {
	t.Helper()
	got := map[digest.Digest]store.Info{}
	for info, err := range b.All(t.Context()) {
		must(t, err)
		if _, twice := got[info.Digest]; twice {
			t.Errorf("All gives %s twice", info.Digest)
		}
		got[info.Digest] = info
	}
	return got
}
