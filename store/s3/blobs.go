package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

const (
	// fresh is how long a blob counts as there without another look: replicas see what
	// others delete within a second.
	fresh = 500 * time.Millisecond
	// anyAge takes a pointer however old it is. The bytes themselves say then whether the
	// blob is still there.
	anyAge = time.Duration(1<<63 - 1)
	// sending is how many requests of all ingests together send a blob's bytes.
	sending = 32
)

// errLost says that a blob has a name and no bytes.
var errLost = fmt.Errorf("%w: the bytes of a blob are gone from the bucket", store.ErrDamaged)

// Blobs is a store.Blobs and a store.Presigner.
type Blobs struct {
	s        *Store
	partSize int64
	spool    string // directory
	known    *known
	sending  chan struct{}

	mu   sync.Mutex
	held map[string]*ingest // by id
}

var (
	_ store.Blobs     = (*Blobs)(nil)
	_ store.Presigner = (*Blobs)(nil)
)

func newBlobs(s *Store, o Options) *Blobs {
	return &Blobs{
		s: s, partSize: o.PartSize, spool: o.Spool,
		known: newKnown(), sending: make(chan struct{}, sending), held: map[string]*ingest{},
	}
}

// Stat implements store.Blobs.
func (b *Blobs) Stat(ctx context.Context, d digest.Digest) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	p, err := b.pointer(ctx, d, fresh)
	if err != nil {
		return store.Info{}, fmt.Errorf("stat blob %q: %w", d, err)
	}
	return p.info(d), nil
}

// Open implements store.Blobs. The Body reads from the bucket, takes up again what broke
// off, and ends in an error rather than with bytes that are not the blob's: of the whole
// blob its digest is verified, and its last bytes are withheld until it is.
func (b *Blobs) Open(ctx context.Context, d digest.Digest, r store.Range) (store.Blob, error) {
	if err := ctx.Err(); err != nil {
		return store.Blob{}, err
	}
	blob, err := b.open(ctx, d, r)
	if err != nil {
		return store.Blob{}, fmt.Errorf("open blob %q: %w", d, err)
	}
	return blob, nil
}

func (b *Blobs) open(ctx context.Context, d digest.Digest, r store.Range) (store.Blob, error) {
	age := anyAge
	for last := ""; ; {
		p, err := b.pointer(ctx, d, age)
		if err != nil {
			return store.Blob{}, err
		}
		if age == 0 && p.Data == last {
			return store.Blob{}, errLost
		}
		off, n, err := r.Resolve(p.Size)
		if err != nil {
			return store.Blob{}, err
		}
		body, err := b.body(ctx, d, p, off, n)
		if err == nil {
			return store.Blob{Info: p.info(d), Offset: off, Length: n, Body: body, Verified: n == p.Size}, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return store.Blob{}, err
		}
		// Deleted since the pointer was read; perhaps put there anew.
		last, age = p.Data, 0
	}
}

// Delete implements store.Blobs.
func (b *Blobs) Delete(ctx context.Context, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.remove(ctx, d); err != nil {
		return fmt.Errorf("delete blob %q: %w", d, err)
	}
	return nil
}

func (b *Blobs) remove(ctx context.Context, d digest.Digest) error {
	if !store.ValidDigest(d) {
		return store.ErrNotFound
	}
	defer b.known.forget(d)
	was, err := b.s.cells.remove(ctx, pointerKey(d), store.Always())
	if err != nil {
		return err
	}
	// It is deleted. What cannot be removed now is found by its index entry.
	p, err := readPointer(was)
	if err == nil {
		err = b.removeData(context.WithoutCancel(ctx), d, p)
	}
	if err != nil {
		b.s.log.WarnContext(ctx, "bytes of a deleted blob not removed yet", "digest", d.String(), "error", err)
	}
	return nil
}

// removeData removes a blob's bytes, and then what leads to them.
func (b *Blobs) removeData(ctx context.Context, d digest.Digest, p pointer) error {
	if err := b.s.delete(ctx, dataDir+p.Data); err != nil {
		return err
	}
	return b.s.delete(ctx, p.indexKey(d))
}

// Presign implements store.Presigner. Those who ask within the moment for which a pointer
// is believed get one address: signing costs more than all else that they are answered with.
func (b *Blobs) Presign(ctx context.Context, d digest.Digest, ttl time.Duration) (string, error) {
	p, err := b.pointer(ctx, d, fresh)
	if err != nil {
		return "", fmt.Errorf("presign blob %q: %w", d, err)
	}
	if p.address != "" && p.addressed == ttl {
		return p.address, nil
	}
	signed, err := b.s.presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &b.s.bucket, Key: b.s.key(dataDir + p.Data)},
		s3.WithPresignExpires(ttl))
	if err != nil {
		return "", fmt.Errorf("presign blob %q: %w", d, err)
	}
	p.address, p.addressed = signed.URL, ttl
	b.known.amend(d, p)
	return signed.URL, nil
}
