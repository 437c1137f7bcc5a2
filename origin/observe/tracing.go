package observe

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// scope names who makes the spans.
const scope = "github.com/weir-registry/weir"

// otlpPort is where OTLP over gRPC is spoken unless the endpoint says otherwise.
const otlpPort = "4317"

// Tracing makes the spans of requests and exports them. What goes on within a request
// finds its spans by the context: see [Span]. A nil Tracing makes none: what it is to wrap
// stays as it is.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	server   []trace.SpanStartOption // of every request
	share    share
}

// TracingOptions say where spans go, and how many.
type TracingOptions struct {
	// Endpoint is the receiver, by OTLP over gRPC: http is plain, https is TLS.
	Endpoint *url.URL
	// Sampling is the share, 0 to 1, of the traces that begin here which are exported. Of
	// one that began elsewhere its caller has decided; at 0 nothing is exported at all.
	Sampling float64
	Version  string       // of weir
	Log      *slog.Logger // told once of each time in which the receiver cannot be reached
}

// NewTracing begins to export. It asks nobody: the receiver may be down.
func NewTracing(o TracingOptions) (*Tracing, error) {
	host := o.Endpoint.Host
	if o.Endpoint.Port() == "" {
		host = net.JoinHostPort(o.Endpoint.Hostname(), otlpPort)
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(host), otlptracegrpc.WithTimeout(exportTimeout)}
	if o.Endpoint.Scheme == "http" {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(context.Background(), options...)
	if err != nil {
		return nil, err
	}
	return newTracing(o, exporter), nil
}

func newTracing(o TracingOptions, exporter sdktrace.SpanExporter) *Tracing {
	t := &Tracing{share: shareOf(o.Sampling), server: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // begin asks for no other spans
		sdktrace.WithIDGenerator(t.share),
		sdktrace.WithSpanProcessor(newQueue(exporter, o.Log)),
		sdktrace.WithResource(resource.NewWithAttributes(semconv.SchemaURL,
			semconv.ServiceName("weir"), semconv.ServiceVersion(o.Version))),
	)
	t.tracer = t.provider.Tracer(scope)
	return t
}

// Shutdown exports what has ended, and ends the export, until ctx ends.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// propagator takes in and passes on traceparent and tracestate (W3C Trace Context), and
// nothing else: baggage is its sender's own, and nobody's whom weir asks.
var propagator propagation.TraceContext

// carrier is what of a request's header says which trace it belongs to.
type carrier http.Header

// Get implements propagation.TextMapCarrier. A tracestate may be in several lines (W3C
// Trace Context, 3.3); of several traceparents none is believed.
func (c carrier) Get(key string) string { return strings.Join(http.Header(c).Values(key), ",") }

// Set implements propagation.TextMapCarrier.
func (c carrier) Set(key, value string) { http.Header(c).Set(key, value) }

// Keys implements propagation.TextMapCarrier.
func (c carrier) Keys() []string { return []string{"traceparent", "tracestate"} }

// HTTP is [HTTP] with each request a span, in the trace of whoever sent it if it says so.
func (t *Tracing) HTTP(next http.Handler, m *Metrics, log *slog.Logger) http.Handler {
	return handler(next, m, log, t)
}

// begin begins the span of a request, which is x's own if nothing is to be exported.
func (t *Tracing) begin(r *http.Request, x *exchange) (context.Context, trace.Span) {
	ctx := r.Context()
	if t == nil {
		return ctx, unrecorded
	}
	var caller trace.SpanContext
	if len(r.Header["Traceparent"]) == 1 {
		ctx = propagator.Extract(ctx, carrier(r.Header))
		caller = trace.SpanContextFromContext(ctx)
	}
	id, exported := caller.TraceID(), caller.IsSampled() && t.share > 0
	if !caller.IsValid() {
		id, exported = t.share.draw()
	}
	if exported {
		return t.tracer.Start(ctx, "request", t.server...)
	}
	x.span = unsampled{unrecorded, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: newSpanID(), TraceFlags: caller.TraceFlags() &^ trace.FlagsSampled, TraceState: caller.TraceState(),
	})}
	return trace.ContextWithSpan(ctx, &x.span), &x.span
}

// unsampled is the span of a request that is not exported. The SDK would make one at a
// tenth of what the request takes; this one says which trace it is in, and that is all.
type unsampled struct {
	trace.Span
	context trace.SpanContext
}

// SpanContext implements trace.Span.
func (s *unsampled) SpanContext() trace.SpanContext { return s.context }

// Span begins a span within the one that ctx carries. Where that is not recorded, or there
// is none, nothing is made, and ctx comes back as it is.
func Span(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, unrecorded
	}
	return parent.TracerProvider().Tracer(scope).Start(ctx, name, o...)
}

// unrecorded is a span of which nothing is kept.
var unrecorded = trace.SpanFromContext(context.Background())

// Transport gives what wraps the way to other servers: each request that is in a trace is a
// span of that name, and says so, whether it is recorded or not.
func Transport(name string) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return transport{next, name} }
}

type transport struct {
	next http.RoundTripper
	name string
}

// RoundTrip implements http.RoundTripper. The span ends with the answer's header: what
// reads the body has its own. No query is told of, for it may be what lets one in.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !trace.SpanContextFromContext(r.Context()).IsValid() {
		return t.next.RoundTrip(r)
	}
	ctx, span := Span(r.Context(), t.name, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	propagator.Inject(ctx, carrier(r.Header))
	resp, err := t.next.RoundTrip(r)
	if !span.IsRecording() {
		return resp, err
	}
	span.SetAttributes(semconv.HTTPRequestMethodKey.String(r.Method),
		semconv.ServerAddress(r.URL.Host), semconv.URLPath(short(r.URL.EscapedPath())))
	if err != nil {
		span.SetStatus(codes.Error, "no answer")
		return resp, err
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(resp.StatusCode))
	if resp.StatusCode >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	return resp, err
}

// CloseIdleConnections is what whoever made the connections ends them with.
func (t transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// describe ends a request's span, with what came of it.
func (x *exchange) describe(span trace.Span, r *http.Request, status int) {
	if !span.IsRecording() {
		return
	}
	defer func() { span.End() }() // not deferred itself: it would take a panic for its own
	span.SetAttributes(
		semconv.HTTPRequestMethodKey.String(methodLabel(r.Method)),
		semconv.HTTPRoute(x.request.Route),
		semconv.HTTPResponseStatusCode(status),
		attribute.String("weir.operation", x.request.Operation),
		attribute.String("weir.cache", string(x.request.Cache)),
	)
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}
