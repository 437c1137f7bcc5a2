package origin

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Open opens all of a blob. Errors: as [Reader].Blob.
func Open(ctx context.Context, r Reader, repo Repo, d digest.Digest) (Blob, error) {
	return r.Blob(ctx, repo, d, store.Range{})
}

// ReadBlob reads a small blob, such as an image's config. Errors: as [Reader].Blob, and
// ErrSizeInvalid where it has more than most bytes.
func ReadBlob(ctx context.Context, r Reader, repo Repo, d digest.Digest, most int64) (_ []byte, err error) {
	blob, err := Open(ctx, r, repo, d)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := blob.Body.Close(); err == nil && closed != nil {
			err = fmt.Errorf("read blob %s: %w", d, closed)
		}
	}()
	b, err := io.ReadAll(io.LimitReader(blob.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if int64(len(b)) > most {
		return nil, Errorf(ErrSizeInvalid, "blob %s is larger than %d bytes", d, most)
	}
	return b, nil
}
