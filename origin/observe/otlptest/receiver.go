// Package otlptest is a receiver of OTLP over gRPC, for tests of what is exported.
package otlptest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// Span is a span as it was received.
type Span struct {
	Name, Service        string
	Trace, ID, Parent    string // in hex; Parent "" = none
	State                string // tracestate
	Kind                 string // INTERNAL, SERVER, CLIENT
	Failed               bool
	Attributes           map[string]string
	Links                []Link
	StartNanos, EndNanos uint64
}

// Link is one of a span's.
type Link struct{ Trace, ID string }

// Receiver is a server that keeps what it is sent.
type Receiver struct {
	coltracepb.UnimplementedTraceServiceServer
	address string
	server  *grpc.Server
	release chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed when something came
	hangs   bool
	refuses bool
	calls   int
	spans   []Span
	raw     []string
}

// New starts one on a loopback address; it ends with the test. TLS is none unless
// credentials are given.
func New(t testing.TB, tls ...credentials.TransportCredentials) *Receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	for _, c := range tls {
		options = append(options, grpc.Creds(c))
	}
	r := &Receiver{address: l.Addr().String(), server: grpc.NewServer(options...), release: make(chan struct{}), changed: make(chan struct{})}
	coltracepb.RegisterTraceServiceServer(r.server, r)
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(l) }()
	t.Cleanup(func() {
		close(r.release)
		r.server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// Address is its host and port.
func (r *Receiver) Address() string { return r.address }

// Hang has it take what comes from now on, and answer nothing.
func (r *Receiver) Hang() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangs = true
}

// Refuse has it refuse what comes from now on, or not.
func (r *Receiver) Refuse(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuses = yes
}

// Export implements the service.
func (r *Receiver) Export(ctx context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	r.calls++
	hangs, refuses := r.hangs, r.refuses
	if !hangs && !refuses {
		r.raw = append(r.raw, req.String())
		for _, resource := range req.ResourceSpans {
			service := attributes(resource.GetResource().GetAttributes())["service.name"]
			for _, scope := range resource.ScopeSpans {
				for _, s := range scope.Spans {
					r.spans = append(r.spans, received(service, s))
				}
			}
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	switch {
	case refuses:
		return nil, status.Error(codes.InvalidArgument, "refused by the test")
	case hangs:
		select {
		case <-ctx.Done():
		case <-r.release:
		}
		return nil, status.Error(codes.Unavailable, "hung")
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func received(service string, s *tracepb.Span) Span {
	span := Span{
		Name: s.Name, Service: service, State: s.TraceState,
		Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId),
		Kind:   strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_"),
		Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR, Attributes: attributes(s.Attributes),
		StartNanos: s.StartTimeUnixNano, EndNanos: s.EndTimeUnixNano,
	}
	for _, l := range s.Links {
		span.Links = append(span.Links, Link{hex.EncodeToString(l.TraceId), hex.EncodeToString(l.SpanId)})
	}
	return span
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = fmt.Sprint(v.IntValue)
		case *commonpb.AnyValue_BoolValue:
			m[kv.Key] = fmt.Sprint(v.BoolValue)
		default:
			m[kv.Key] = kv.GetValue().String()
		}
	}
	return m
}

// Spans gives what came so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Raw gives all that came so far, as text.
func (r *Receiver) Raw() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.raw, "\n")
}

// Await waits until what came meets a condition, and gives it; calls counts what it was
// asked. It gives up after ten minutes.
func (r *Receiver) Await(t testing.TB, what string, met func(spans []Span, calls int) bool) []Span {
	t.Helper()
	for over := time.After(10 * time.Minute); ; {
		r.mu.Lock()
		spans, calls, changed := slices.Clone(r.spans), r.calls, r.changed
		r.mu.Unlock()
		if met(spans, calls) {
			return spans
		}
		select {
		case <-changed:
		case <-over:
			t.Fatalf("%s did not come: %d spans in %d calls", what, len(spans), calls)
		}
	}
}
