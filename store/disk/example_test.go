package disk_test

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := disk.Open(dir, disk.Options{})
	if err != nil {
		panic(err)
	}
	defer s.Close()

	ing, err := s.Blobs().Ingest(ctx, "", digest.SHA256)
	if err != nil {
		panic(err)
	}
	defer ing.Cancel()
	io.WriteString(ing, "hello, world")
	info, err := ing.Commit(ctx, digest.FromString("hello, world"))
	if err != nil {
		panic(err)
	}

	blob, err := s.Blobs().Open(ctx, info.Digest, store.Range{Off: -5})
	if err != nil {
		panic(err)
	}
	defer blob.Body.Close()
	world, err := io.ReadAll(blob.Body)
	fmt.Printf("%s of %d bytes, %v\n", world, blob.Size, err)
	// Output: world of 12 bytes, <nil>
}
