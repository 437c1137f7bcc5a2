package observe

import (
	"context"
	"errors"
	"iter"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-registry/weir/store"
)

// What a store is asked for, as labels. An ingest's bytes are not counted one write
// at a time; a listing's time is the store's own, without that of who reads it.
const (
	opStatBlob     = "stat-blob"
	opOpenBlob     = "open-blob"
	opDeleteBlob   = "delete-blob"
	opListBlobs    = "list-blobs"
	opBeginIngest  = "begin-ingest"
	opResumeIngest = "resume-ingest"
	opCommitIngest = "commit-ingest"
	opListIngests  = "list-ingests"
	opAdoptBlob    = "adopt-blob"
	opQuarantine   = "quarantine-blob"
	opLinkBlob     = "link-blob"
	opPresignBlob  = "presign-blob"
	opGetRecord    = "get-record"
	opPutRecord    = "put-record"
	opPutRecords   = "put-records" // a batch
	opDeleteRecord = "delete-record"
	opListRecords  = "list-records"
)

// StoreOperation counts and times what a store was asked for: backend is the key by
// which a configuration names it ("filesystem"), operation one of few words.
func (m *Metrics) StoreOperation(backend, operation string, took time.Duration, err error) {
	m.storeOperations.WithLabelValues(backend, operation, storeResult(err)).Inc()
	m.storeDurations.WithLabelValues(backend, operation).Observe(took.Seconds())
}

// storeResult is the label of an error: what a store is right to answer is no failure
// of it.
func storeResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, store.ErrNotFound):
		return "not_found"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	for _, refusal := range []error{store.ErrConflict, store.ErrDigest, store.ErrRange, store.ErrBusy, store.ErrKey, store.ErrForeign} {
		if errors.Is(err, refusal) {
			return "refused"
		}
	}
	return "error"
}

// counted counts and times the operations of one backend; each is a span as well,
// "store", where who asks has one.
type counted struct {
	metrics *Metrics
	backend string
}

// operation is one of them, while it goes on.
type operation struct {
	counted
	name  string
	began time.Time
	span  trace.Span
}

// begin begins an operation.
func (c counted) begin(ctx context.Context, name string) (context.Context, operation) {
	ctx, span := Span(ctx, "store")
	return ctx, operation{c, name, time.Now(), span}
}

// ended takes note of its end.
func (o operation) ended(err error) {
	o.metrics.StoreOperation(o.backend, o.name, time.Since(o.began), err)
	o.traced(err)
}

// traced ends its span.
func (o operation) traced(err error) {
	if o.span.IsRecording() {
		o.span.SetAttributes(attribute.String("weir.backend", o.backend), attribute.String("weir.operation", o.name))
		if result := storeResult(err); err != nil {
			o.span.SetAttributes(semconv.ErrorTypeKey.String(result))
			if result == "error" {
				o.span.SetStatus(codes.Error, "")
			}
		}
	}
	o.span.End()
}

// listed takes note of a listing when it is over. Its time is the store's own; its span
// has that of who reads it as well.
func listed[T any](ctx context.Context, c counted, name string, list func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, op := c.begin(ctx, name)
		var took time.Duration
		var failed error
		defer func() {
			c.metrics.StoreOperation(c.backend, name, took, failed)
			op.traced(failed)
		}()
		began := op.began
		for v, err := range list(ctx) {
			took += time.Since(began)
			if err != nil {
				failed = err
			}
			if !yield(v, err) {
				return
			}
			began = time.Now()
		}
		took += time.Since(began)
	}
}

// Blobs gives b with its operations counted and timed. Its bodies are b's own, so that
// files reach the kernel; it is a [store.Adopter], which is a
// [store.Linker] too, or a [store.Presigner] if b is one.
func (m *Metrics) Blobs(backend string, b store.Blobs) store.Blobs {
	m.storeOperations.WithLabelValues(backend, opQuarantine, storeResult(nil)) // of which the first one matters
	plain := blobs{counted{m, backend}, b}
	if a, ok := b.(store.Adopter); ok {
		if l, ok := b.(store.Linker); ok {
			return linker{adopter{plain, a}, l}
		}
		return adopter{plain, a}
	}
	if p, ok := b.(store.Presigner); ok {
		return presigner{plain, p}
	}
	return plain
}

type blobs struct {
	counted
	next store.Blobs
}

// Stat implements store.Blobs.
func (b blobs) Stat(ctx context.Context, d digest.Digest) (store.Info, error) {
	ctx, op := b.begin(ctx, opStatBlob)
	info, err := b.next.Stat(ctx, d)
	op.ended(err)
	return info, err
}

// Open implements store.Blobs.
func (b blobs) Open(ctx context.Context, d digest.Digest, r store.Range) (store.Blob, error) {
	ctx, op := b.begin(ctx, opOpenBlob)
	blob, err := b.next.Open(ctx, d, r)
	op.ended(err)
	return blob, err
}

// Ingest implements store.Blobs.
func (b blobs) Ingest(ctx context.Context, id string, alg digest.Algorithm) (store.Ingest, error) {
	name := opResumeIngest
	if id == "" {
		name = opBeginIngest
	}
	ctx, op := b.begin(ctx, name)
	in, err := b.next.Ingest(ctx, id, alg)
	op.ended(err)
	if err != nil {
		return nil, err
	}
	return ingest{in, b.counted}, nil
}

// Ingests implements store.Blobs.
func (b blobs) Ingests(ctx context.Context) iter.Seq2[store.IngestInfo, error] {
	return listed(ctx, b.counted, opListIngests, b.next.Ingests)
}

// Delete implements store.Blobs.
func (b blobs) Delete(ctx context.Context, d digest.Digest) error {
	ctx, op := b.begin(ctx, opDeleteBlob)
	err := b.next.Delete(ctx, d)
	op.ended(err)
	return err
}

// All implements store.Blobs.
func (b blobs) All(ctx context.Context) iter.Seq2[store.Info, error] {
	return listed(ctx, b.counted, opListBlobs, b.next.All)
}

// ingest counts how it ends well.
type ingest struct {
	store.Ingest
	counted
}

// Commit implements store.Ingest.
func (i ingest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	ctx, op := i.begin(ctx, opCommitIngest)
	info, err := i.Ingest.Commit(ctx, d)
	op.ended(err)
	return info, err
}

// Quarantine implements store.Quarantiner; where the store has no place for that the blob
// is deleted.
func (b blobs) Quarantine(ctx context.Context, d digest.Digest) error {
	away := b.next.Delete
	if q, ok := b.next.(store.Quarantiner); ok {
		away = q.Quarantine
	}
	ctx, op := b.begin(ctx, opQuarantine)
	err := away(ctx, d)
	op.ended(err)
	return err
}

// adopter is blobs that can adopt.
type adopter struct {
	blobs
	adopts store.Adopter
}

// Adopt implements store.Adopter.
func (a adopter) Adopt(ctx context.Context, f *os.File, d digest.Digest) (store.Info, error) {
	ctx, op := a.begin(ctx, opAdoptBlob)
	info, err := a.adopts.Adopt(ctx, f, d)
	op.ended(err)
	return info, err
}

// linker is blobs that can link what stays somebody else's.
type linker struct {
	adopter
	links store.Linker
}

// Link implements store.Linker.
func (l linker) Link(ctx context.Context, f *os.File, d digest.Digest) (store.Info, error) {
	ctx, op := l.begin(ctx, opLinkBlob)
	info, err := l.links.Link(ctx, f, d)
	op.ended(err)
	return info, err
}

// presigner is blobs that clients may be sent to.
type presigner struct {
	blobs
	presigns store.Presigner
}

// Presign implements store.Presigner.
func (p presigner) Presign(ctx context.Context, d digest.Digest, ttl time.Duration) (string, error) {
	ctx, op := p.begin(ctx, opPresignBlob)
	url, err := p.presigns.Presign(ctx, d, ttl)
	op.ended(err)
	return url, err
}

// Records gives r with its operations counted and timed; it is a [store.Batcher] if r
// is one.
func (m *Metrics) Records(backend string, r store.Records) store.Records {
	plain := records{counted{m, backend}, r}
	if b, ok := r.(store.Batcher); ok {
		return batcher{plain, b}
	}
	return plain
}

type records struct {
	counted
	next store.Records
}

// Get implements store.Records.
func (r records) Get(ctx context.Context, key string) (store.Record, error) {
	ctx, op := r.begin(ctx, opGetRecord)
	rec, err := r.next.Get(ctx, key)
	op.ended(err)
	return rec, err
}

// Put implements store.Records.
func (r records) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	ctx, op := r.begin(ctx, opPutRecord)
	version, err := r.next.Put(ctx, key, data, if_)
	op.ended(err)
	return version, err
}

// Delete implements store.Records.
func (r records) Delete(ctx context.Context, key string, if_ store.Condition) error {
	ctx, op := r.begin(ctx, opDeleteRecord)
	err := r.next.Delete(ctx, key, if_)
	op.ended(err)
	return err
}

// List implements store.Records.
func (r records) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return listed(ctx, r.counted, opListRecords, func(ctx context.Context) iter.Seq2[store.Entry, error] {
		return r.next.List(ctx, prefix, after)
	})
}

// batcher is records that can write several at once.
type batcher struct {
	records
	batches store.Batcher
}

// PutAll implements store.Batcher.
func (b batcher) PutAll(ctx context.Context, writes []store.Write) error {
	ctx, op := b.begin(ctx, opPutRecords)
	err := b.batches.PutAll(ctx, writes)
	op.ended(err)
	return err
}
