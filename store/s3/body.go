package s3

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// withheld is how many of a blob's last bytes wait for the verdict on all of them.
const withheld = 64 << 10

// body is a stretch of a blob's bytes on their way from the bucket.
type body struct {
	ctx      context.Context // of who opened it: it is over when the reading is
	b        *Blobs
	digest   digest.Digest
	key      string
	off, end int64 // what is still to be read of the object
	etag     string
	from     io.ReadCloser // nil: to be asked for again
	failed   int           // attempts in a row without a byte

	hash hash.Hash // of the whole; nil of a stretch
	tail []byte    // the last bytes, once they are verified; nil before
	size int64
}

// body opens n bytes of a blob from off on. Errors: store.ErrNotFound.
func (b *Blobs) body(ctx context.Context, d digest.Digest, p pointer, off, n int64) (io.ReadCloser, error) {
	r := &body{ctx: ctx, b: b, digest: d, key: dataDir + p.Data, off: off, end: off + n, size: p.Size}
	if n == p.Size {
		r.hash = store.Hash(d.Algorithm())
	}
	if err := r.ask(); err != nil {
		return nil, err
	}
	return r, nil
}

// ask asks the bucket for what is still to be read.
func (r *body) ask() error {
	in := &s3.GetObjectInput{Bucket: &r.b.s.bucket, Key: r.b.s.key(r.key)}
	if r.end-r.off < r.size {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.off, r.end-1))
	}
	if r.etag != "" {
		in.IfMatch = aws.String(r.etag)
	}
	out, err := r.b.s.client.GetObject(r.ctx, in)
	if code(err) == "InvalidRange" {
		return fmt.Errorf("bucket has fewer than %d bytes: %w", r.end, errDamaged)
	}
	if err != nil {
		return missing(err)
	}
	if out.ContentLength != nil && *out.ContentLength != r.end-r.off {
		return errors.Join(fmt.Errorf("bucket has %d bytes, want %d: %w", *out.ContentLength, r.end-r.off, errDamaged), out.Body.Close())
	}
	r.from, r.etag = out.Body, aws.ToString(out.ETag)
	return nil
}

// Read implements io.Reader.
func (r *body) Read(p []byte) (int, error) {
	if r.tail != nil {
		if len(r.tail) == 0 {
			return 0, io.EOF
		}
		n := copy(p, r.tail)
		r.tail = r.tail[n:]
		return n, nil
	}
	left := r.end - r.off
	if r.hash == nil {
		if left == 0 {
			return 0, io.EOF
		}
		return r.some(p[:min(int64(len(p)), left)])
	}
	if left > withheld {
		return r.some(p[:min(int64(len(p)), left-withheld)])
	}
	tail := make([]byte, left)
	for n := 0; n < len(tail); {
		m, err := r.some(tail[n:])
		if n += m; err != nil {
			return 0, err
		}
	}
	if got := digest.NewDigest(r.digest.Algorithm(), r.hash); got != r.digest {
		return 0, fmt.Errorf("blob %s: content is %s: %w", r.digest, got, errDamaged)
	}
	r.tail = tail
	return r.Read(p)
}

// some reads a few of the bytes that are left, which are more than none.
func (r *body) some(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		err := r.ctx.Err()
		if err == nil && r.from == nil {
			err = r.ask()
		}
		if err != nil {
			return 0, fmt.Errorf("read blob %s: %w", r.digest, err)
		}
		n, err := r.from.Read(p)
		if n > 0 {
			r.off += int64(n)
			r.failed = 0
			if r.hash != nil {
				r.hash.Write(p[:n])
			}
			return n, nil // an error comes again
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if r.failed == retries {
			return 0, fmt.Errorf("read blob %s: %w", r.digest, err)
		}
		_ = r.from.Close() // it has failed already
		r.from = nil
		if err := pause(r.ctx, r.failed); err != nil {
			return 0, err
		}
		r.failed++
	}
}

func (r *body) Close() error {
	if r.from == nil {
		return nil
	}
	err := r.from.Close()
	r.from = nil
	return err
}
