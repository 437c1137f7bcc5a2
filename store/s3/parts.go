package s3

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// ahead is how many parts of one ingest are on their way while the next one fills.
const ahead = 2

// blobType is what a client is told that fetches a blob from the bucket itself.
const blobType = "application/octet-stream"

// errTooLarge says that a blob has more parts than S3 allows.
var errTooLarge = errors.New("store/s3: the blob has too many parts")

// part is one that the bucket has.
type part struct {
	ETag string `json:"etag"`
	Size int64  `json:"size"`
}

// sentPart is one on its way.
type sentPart struct {
	buf  *buffer
	etag string
	err  error
	done chan struct{} // closed when etag or err is set
	call int           // the ingest's, that has begun it
}

// send lets buf be the next part. It waits while too many are on their way.
func (g *ingest) send() error {
	number := len(g.parts) + len(g.sending) + 1
	if number > maxParts {
		return errTooLarge
	}
	if err := g.await(ahead - 1); err != nil {
		return err
	}
	if g.upload == "" {
		out, err := g.b.s.client.CreateMultipartUpload(g.ctx, &s3.CreateMultipartUploadInput{
			Bucket: &g.b.s.bucket, Key: g.b.s.key(dataDir + g.id), ContentType: aws.String(blobType),
		})
		if err != nil {
			return err
		}
		g.upload = aws.ToString(out.UploadId)
	}
	p := &sentPart{buf: g.buf}
	g.sending = append(g.sending, p)
	g.buf = &buffer{dir: g.b.spool}
	p.send(g, number)
	if number > 1 && time.Since(g.savedAt) < saveEvery {
		return nil
	}
	// From here on a state says that somebody works on these parts; and as often as that
	// it says that he still does. Its hash is that of all parts, so they are waited for.
	if err := g.await(0); err != nil {
		return err
	}
	return g.save(g.ctx)
}

// send uploads the part in the background.
func (p *sentPart) send(g *ingest, number int) {
	p.done, p.call = make(chan struct{}), g.call
	go func() {
		defer close(p.done)
		p.etag, p.err = "", nil
		var leave func()
		if leave, p.err = g.b.turn(g.ctx); p.err != nil {
			return
		}
		defer leave()
		out, err := g.b.s.client.UploadPart(g.ctx, &s3.UploadPartInput{
			Bucket: &g.b.s.bucket, Key: g.b.s.key(dataDir + g.id), UploadId: &g.upload,
			PartNumber: aws.Int32(int32(number)), Body: p.buf.reader(), ContentLength: &p.buf.size,
		})
		if p.err = err; err == nil {
			p.etag = aws.ToString(out.ETag)
		}
	}()
}

// turn waits for one of the requests that may send bytes at a time.
func (b *Blobs) turn(ctx context.Context) (leave func(), err error) {
	select {
	case b.sending <- struct{}{}:
		return func() { <-b.sending }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// await waits until at most most parts are on their way. One that fails is sent again if it
// was begun by an earlier call of the ingest: the bucket may be back.
func (g *ingest) await(most int) error {
	for len(g.sending) > most {
		p, number := g.sending[0], len(g.parts)+1
		<-p.done
		if p.err != nil && p.call != g.call {
			p.send(g, number)
			<-p.done
		}
		if p.err != nil {
			return fmt.Errorf("part %d: %w", number, p.err)
		}
		g.parts = append(g.parts, part{p.etag, p.buf.size})
		p.buf.close()
		g.sending = g.sending[1:]
	}
	return nil
}

// complete makes the object of its parts. That the upload is unknown may mean that this
// was done before, and the answer lost: then the object is there, which the caller
// verifies (again).
func (g *ingest) complete(ctx context.Context) (again bool, err error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &g.b.s.bucket, Key: g.b.s.key(dataDir + g.id), UploadId: &g.upload,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: make([]types.CompletedPart, len(g.parts))},
	}
	for i := range g.parts {
		in.MultipartUpload.Parts[i] = types.CompletedPart{ETag: &g.parts[i].ETag, PartNumber: aws.Int32(int32(i + 1))}
	}
	_, err = g.b.s.client.CompleteMultipartUpload(ctx, in)
	if code(err) == "NoSuchUpload" {
		return true, nil
	}
	return false, err
}

// abort drops the parts of an upload. One that is not there is no error.
func (s *Store) abort(ctx context.Context, key, upload string) error {
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: s.key(key), UploadId: &upload})
	if code(err) == "NoSuchUpload" {
		return nil
	}
	return err
}
