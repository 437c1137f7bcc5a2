package observe

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Registry gives r with each of its operations a span, "origin", in the trace of who asks.
// Bodies and uploads are r's own: what is done with them is within the request's span.
func (t *Tracing) Registry(r origin.Registry) origin.Registry {
	if t == nil {
		return r
	}
	return registry{next: r}
}

type registry struct {
	origin.None
	next origin.Registry
}

var _ origin.Registry = registry{}

// asked begins the span of an operation on a repository; key says what value names there,
// if anything. ended ends it, with where the answer comes from and the code of its error.
func asked(ctx context.Context, operation string, repo origin.Repo, key, value string) (context.Context, trace.Span) {
	ctx, span := Span(ctx, "origin")
	if span.IsRecording() {
		span.SetAttributes(attribute.String("weir.operation", operation), attribute.String("weir.repository", repo.String()))
		if key != "" {
			span.SetAttributes(attribute.String(key, value))
		}
	}
	return ctx, span
}

func ended(span trace.Span, from origin.Source, err error) {
	if span.IsRecording() {
		if from.Cache != "" {
			span.SetAttributes(attribute.String("weir.cache", string(from.Cache)), attribute.String("weir.upstream", from.Upstream))
		}
		failed(span, err)
	}
	span.End()
}

// failed says that there was an error: by its code, for its text is for logs.
func failed(span trace.Span, err error) {
	if err == nil {
		return
	}
	kind, fault := storeResult(err), true
	if e, ok := errors.AsType[*origin.Error](err); ok {
		kind, fault = string(e.Code), e.HTTPStatus() >= 500
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	if fault {
		span.SetStatus(codes.Error, "")
	}
}

// Resolve implements origin.Reader.
func (r registry) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	ctx, span := asked(ctx, "resolve-manifest", repo, "weir.reference", ref.String())
	desc, err := r.next.Resolve(ctx, repo, ref)
	ended(span, desc.Source, err)
	return desc, err
}

// Manifest implements origin.Reader.
func (r registry) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	ctx, span := asked(ctx, "get-manifest", repo, "weir.reference", ref.String())
	m, err := r.next.Manifest(ctx, repo, ref)
	ended(span, m.Source, err)
	return m, err
}

// Stat implements origin.Reader.
func (r registry) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	ctx, span := asked(ctx, "stat-blob", repo, "weir.digest", d.String())
	desc, err := r.next.Stat(ctx, repo, d)
	ended(span, desc.Source, err)
	return desc, err
}

// Blob implements origin.Reader.
func (r registry) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	ctx, span := asked(ctx, "get-blob", repo, "weir.digest", d.String())
	b, err := r.next.Blob(ctx, repo, d, rng)
	ended(span, b.Source, err)
	return b, err
}

// Tags implements origin.Reader.
func (r registry) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	ctx, span := asked(ctx, "list-tags", repo, "", "")
	list, err := r.next.Tags(ctx, repo, p)
	ended(span, list.Source, err)
	return list, err
}

// Referrers implements origin.Reader.
func (r registry) Referrers(
	ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page,
) (origin.List[origin.Descriptor], error) {
	ctx, span := asked(ctx, "get-referrers", repo, "weir.digest", d.String())
	list, err := r.next.Referrers(ctx, repo, d, artifactType, p)
	ended(span, list.Source, err)
	return list, err
}

// Push implements origin.Writer.
func (r registry) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	ctx, span := asked(ctx, "put-manifest", repo, "weir.digest", m.Digest.String())
	desc, err := r.next.Push(ctx, repo, m, o)
	ended(span, desc.Source, err)
	return desc, err
}

// Upload implements origin.Writer.
func (r registry) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	ctx, span := asked(ctx, "upload-blob", repo, "", "")
	in, err := r.next.Upload(ctx, repo, id, alg)
	ended(span, origin.Source{}, err)
	return in, err
}

// Mount implements origin.Writer.
func (r registry) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	ctx, span := asked(ctx, "mount-blob", to, "weir.digest", d.String())
	desc, err := r.next.Mount(ctx, from, to, d)
	ended(span, desc.Source, err)
	return desc, err
}

// DeleteManifest implements origin.Deleter.
func (r registry) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	ctx, span := asked(ctx, "delete-manifest", repo, "weir.reference", ref.String())
	err := r.next.DeleteManifest(ctx, repo, ref)
	ended(span, origin.Source{}, err)
	return err
}

// DeleteBlob implements origin.Deleter.
func (r registry) DeleteBlob(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	ctx, span := asked(ctx, "delete-blob", repo, "weir.digest", d.String())
	err := r.next.DeleteBlob(ctx, repo, d)
	ended(span, origin.Source{}, err)
	return err
}

// Repos implements origin.Catalog.
func (r registry) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	ctx, span := asked(ctx, "list-catalog", origin.Repo{}, "", "")
	list, err := r.next.Repos(ctx, p)
	ended(span, list.Source, err)
	return list, err
}
