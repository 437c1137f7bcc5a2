package s3_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store/s3/s3test"
)

// BenchmarkPresign times an address of a blob that was looked for a moment ago.
func BenchmarkPresign(b *testing.B) {
	blobs := open(b, options(b, s3test.Start(b))).Blobs()
	data := []byte("blob")
	d := digest.FromBytes(data)
	in, err := blobs.Ingest(b.Context(), "", digest.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := in.Write(data); err != nil {
		b.Fatal(err)
	}
	if _, err := in.Commit(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := blobs.Presign(b.Context(), d, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
