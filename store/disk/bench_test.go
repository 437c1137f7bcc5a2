package disk_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

func BenchmarkPutRecord(b *testing.B) {
	data := make([]byte, 500)
	b.Run("new", func(b *testing.B) {
		r := open(b, b.TempDir(), disk.Options{}).Records()
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			if _, err := r.Put(b.Context(), fmt.Sprint("tags/library/debian/", n), data, store.Absent()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("over", func(b *testing.B) {
		r := open(b, b.TempDir(), disk.Options{}).Records()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Put(b.Context(), "tags/library/debian/bookworm", data, store.Always()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGetRecord(b *testing.B) {
	r := open(b, b.TempDir(), disk.Options{}).Records()
	if _, err := r.Put(b.Context(), "tags/library/debian/bookworm", make([]byte, 500), store.Always()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Get(b.Context(), "tags/library/debian/bookworm"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommit1MiB(b *testing.B) {
	s := open(b, b.TempDir(), disk.Options{}).Blobs()
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		copy(data, fmt.Sprint(n))
		ing, err := s.Ingest(b.Context(), "", digest.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		ing.Write(data)
		d := digest.FromBytes(data)
		if _, err := ing.Commit(b.Context(), d); err != nil {
			b.Fatal(err)
		}
		if err := s.Delete(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenBlob(b *testing.B) {
	s := open(b, b.TempDir(), disk.Options{})
	if err := ingestParts(s, digest.SHA256, named, 1); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		blob, err := s.Blobs().Open(b.Context(), named, store.Range{Off: 1})
		if err != nil {
			b.Fatal(err)
		}
		blob.Body.Close()
	}
}
