package fill

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// begun gives the context of a fill of its own, with a span: a child of that of the request
// in ctx, whose trace goes on to the upstream. Nothing else of the request is in it: the
// fill is not the request's.
func (f *Fill) begun(ctx context.Context) context.Context {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		f.span = trace.SpanFromContext(context.Background())
		return trace.ContextWithSpanContext(context.Background(), parent.SpanContext())
	}
	ctx = trace.ContextWithSpan(context.Background(), parent)
	ctx, f.span = parent.TracerProvider().Tracer("github.com/weir-registry/weir").Start(ctx, "fill", trace.WithAttributes(
		attribute.String("weir.upstream", f.key.Upstream),
		attribute.String("weir.repository", f.key.Repo.String()),
		attribute.String("weir.digest", f.key.Digest.String())))
	return ctx
}

// finish ends the span of a fill.
func (f *Fill) finish(result string) {
	f.span.SetAttributes(attribute.String("weir.result", result))
	if result == "failed" || result == "corrupt" {
		f.span.SetStatus(codes.Error, "")
	}
	f.span.End()
}

// link says in the span of a reader, if that is in another trace, which fill it reads from.
func (f *Fill) link(ctx context.Context) {
	span, own := trace.SpanFromContext(ctx), f.span.SpanContext()
	if span.IsRecording() && own.IsSampled() && own.TraceID() != span.SpanContext().TraceID() {
		span.AddLink(trace.Link{SpanContext: own})
	}
}
