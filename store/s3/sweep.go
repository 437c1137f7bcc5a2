package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Sweep removes what nobody will come back to: parts of uploads that no state speaks of,
// bytes that no name leads to and no upload may yet name, and tombstones; all only if they
// were there before, which is some hours ago. Expired uploads are cancelled by whoever
// knows when they expire, not here. It goes on past what it cannot remove; the error joins
// all of that.
func (s *Store) Sweep(ctx context.Context, before time.Time) error {
	return errors.Join(s.sweepParts(ctx, before), s.sweepData(ctx, before), s.sweepTombstones(ctx, before))
}

// sweepParts aborts uploads in parts. A live one has a state that names it from its first
// part on.
func (s *Store) sweepParts(ctx context.Context, before time.Time) error {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: s.key(dataDir)}
	var errs []error
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list uploads in parts: %w", err))...)
		}
		for _, u := range out.Uploads {
			id := strings.TrimPrefix(aws.ToString(u.Key), *in.Prefix)
			if !validID(id) || !aws.ToTime(u.Initiated).Before(before) {
				continue
			}
			if err := s.sweepUpload(ctx, id, aws.ToString(u.UploadId)); err != nil {
				errs = append(errs, fmt.Errorf("sweep parts of upload %s: %w", id, err))
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return errors.Join(errs...)
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// sweepUpload aborts an upload unless somebody works on it.
func (s *Store) sweepUpload(ctx context.Context, id, upload string) error {
	if s.blobs.holds(id) {
		return nil
	}
	g := &ingest{b: s.blobs, id: id, buf: &buffer{dir: s.blobs.spool}}
	err := g.load(ctx)
	g.buf.close()
	if err == nil && g.upload == upload {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return s.abort(ctx, dataDir+id, upload)
}

// lives reports whether an upload may still be committed: one that is open in this process,
// or has a state.
func (b *Blobs) lives(ctx context.Context, id string) (bool, error) {
	if b.holds(id) {
		return true, nil
	}
	_, err := b.savedSize(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// holds reports whether an ingest is open in this process.
func (b *Blobs) holds(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, held := b.held[id]
	return held
}

// sweepData removes bytes that have an index entry, and no pointer that leads to them.
func (s *Store) sweepData(ctx context.Context, before time.Time) error {
	var errs []error
	for n, err := range s.blobs.names(ctx) {
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list blobs: %w", err))...)
		}
		if n.exists && len(n.index) == 1 {
			continue // its own
		}
		for _, entry := range n.index {
			if !entry.modified.Before(before) {
				continue
			}
			if err := s.sweepBytes(ctx, n.digest, entry); err != nil {
				errs = append(errs, fmt.Errorf("sweep bytes of %s: %w", n.digest, err))
			}
		}
	}
	return errors.Join(errs...)
}

// sweepBytes removes bytes unless they have a name, or may yet get one. The listings are of
// different moments, and of an earlier one than this: the bucket is asked again. The state
// of an upload goes after its bytes have their name, so it is asked for before that.
func (s *Store) sweepBytes(ctx context.Context, d digest.Digest, entry pointer) error {
	if live, err := s.blobs.lives(ctx, entry.Data); live || err != nil {
		return err
	}
	is, err := s.blobs.pointer(ctx, d, 0)
	if err == nil && is.Data == entry.Data {
		return nil
	}
	if err == nil || errors.Is(err, store.ErrNotFound) {
		err = s.blobs.removeData(ctx, d, entry)
	}
	return err
}

// sweepTombstones removes what deletions have left that were interrupted.
func (s *Store) sweepTombstones(ctx context.Context, before time.Time) error {
	if !s.cells.removes {
		return nil
	}
	var errs []error
	for _, dir := range []string{blobsDir, recordsDir} {
		for o, err := range s.list(ctx, dir, "") {
			if err != nil {
				return errors.Join(append(errs, fmt.Errorf("list tombstones: %w", err))...)
			}
			if o.size > 0 || !o.modified.Before(before) {
				continue
			}
			err := s.cells.erase(ctx, dir+o.key, o.version)
			if err != nil && code(err) != "PreconditionFailed" && code(err) != "NoSuchKey" {
				errs = append(errs, fmt.Errorf("sweep tombstone: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}
