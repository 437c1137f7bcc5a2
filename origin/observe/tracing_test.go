package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/observe/otlptest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/mem"
)

const (
	traceA = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanA  = "00f067aa0ba902b7"
)

// traced is a handler under tracing, and what ends it.
func traced(t *testing.T, endpoint string, sampling float64, next http.HandlerFunc) (h http.Handler, lines *bytes.Buffer, tracing *observe.Tracing) {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	lines = &bytes.Buffer{}
	log := slog.New(slog.NewJSONHandler(lines, nil))
	tracing, err = observe.NewTracing(observe.TracingOptions{Endpoint: u, Sampling: sampling, Version: "v1", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return tracing.HTTP(next, observe.NewMetrics(prometheus.NewRegistry()), log), lines, tracing
}

func shutdown(t *testing.T, tracing *observe.Tracing) {
	t.Helper()
	if err := tracing.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// TestSampling: what is exported follows the caller, else the share; at 0 it is nothing.
// What is passed on belongs to the caller's trace all the same, and says whether it is
// sampled.
func TestSampling(t *testing.T) {
	for _, c := range []struct {
		name, traceparent string
		sampling          float64
		exported          bool
	}{
		{"all", "", 1, true},
		{"none", "", 0, false},
		{"none, and the caller wants it", "00-" + traceA + "-" + spanA + "-01", 0, false},
		{"the caller wants it", "00-" + traceA + "-" + spanA + "-01", 0.000001, true},
		{"the caller does not", "00-" + traceA + "-" + spanA + "-00", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			receiver := otlptest.New(t)
			var passed http.Header
			var id string
			h, lines, tracing := traced(t, "http://"+receiver.Address(), c.sampling, func(w http.ResponseWriter, r *http.Request) {
				req := origin.RequestOf(r.Context())
				id, req.Route, req.Operation = req.ID, "/v2/", "base"
				sends := observe.Transport("upstream")(roundTripper(func(r *http.Request) (*http.Response, error) {
					passed = r.Header
					return &http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody}, nil
				}))
				b, err := baggage.Parse("user=alice")
				if err != nil {
					t.Error(err)
				}
				out := httptest.NewRequestWithContext(baggage.ContextWithBaggage(r.Context(), b), "GET", "http://h/x?token=s3cret", nil)
				if _, err := sends.RoundTrip(out); err != nil {
					t.Error(err)
				}
				if len(out.Header) != 0 {
					t.Error("the request was changed")
				}
				w.WriteHeader(http.StatusBadGateway)
			})
			r := httptest.NewRequest("GET", "/v2/", nil)
			if c.traceparent != "" {
				r.Header.Set("Traceparent", c.traceparent)
				r.Header.Add("Tracestate", "a=1")
				r.Header.Add("Tracestate", "b=2")
			}
			r.Header.Set("Baggage", "user=alice")
			h.ServeHTTP(httptest.NewRecorder(), r)
			shutdown(t, tracing)

			if c.traceparent != "" && id != traceA {
				t.Errorf("the request's id is %s", id)
			}
			var entry map[string]any
			if err := json.Unmarshal(lines.Bytes(), &entry); err != nil || entry["trace_id"] != id {
				t.Errorf("the log has %v, %v", entry["trace_id"], err)
			}
			flags := "-00"
			if c.exported {
				flags = "-01"
			}
			said := passed.Get("Traceparent")
			if !strings.HasPrefix(said, "00-"+id+"-") || !strings.HasSuffix(said, flags) || strings.Contains(said, spanA) {
				t.Errorf("passed on: %q", said)
			}
			if state := passed.Get("Tracestate"); c.traceparent != "" && state != "a=1,b=2" {
				t.Errorf("passed on: state %q", state)
			}
			if len(passed["Baggage"]) != 0 {
				t.Errorf("passed on: baggage %q", passed["Baggage"])
			}
			spans := receiver.Spans()
			if !c.exported {
				if len(spans) != 0 {
					t.Errorf("exported: %+v", spans)
				}
				return
			}
			if len(spans) != 2 {
				t.Fatalf("exported: %+v", spans)
			}
			client, server := spans[0], spans[1]
			if client.Name != "upstream" || client.Kind != "CLIENT" || client.Parent != server.ID || client.Trace != id ||
				client.Attributes["http.response.status_code"] != "418" || client.Attributes["server.address"] != "h" {
				t.Errorf("the client's span is %+v", client)
			}
			if server.Name != "request" || server.Kind != "SERVER" || server.Service != "weir" || server.Trace != id || !server.Failed ||
				server.Attributes["http.route"] != "/v2/" || server.Attributes["http.response.status_code"] != "502" || server.Attributes["weir.operation"] != "base" {
				t.Errorf("the server's span is %+v", server)
			}
			if c.traceparent != "" && (server.Parent != spanA || server.State != "a=1,b=2") {
				t.Errorf("the server's span has the parent %s, and the state %s", server.Parent, server.State)
			}
			if strings.Contains(receiver.Raw(), "s3cret") || strings.Contains(receiver.Raw(), "alice") {
				t.Error("a query or baggage is exported")
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSamplingShare: of traces that begin here about as many are exported as is said: those
// whose ids the SDK's own sampler would choose. Every request has an id of its own, and says
// it in the log.
func TestSamplingShare(t *testing.T) {
	const sampling = 0.25
	receiver := otlptest.New(t)
	var ids []string
	h, lines, tracing := traced(t, "http://"+receiver.Address(), sampling, func(_ http.ResponseWriter, r *http.Request) {
		ids = append(ids, origin.RequestOf(r.Context()).ID)
	})
	for range 2000 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil))
	}
	shutdown(t, tracing)
	exported := map[string]bool{}
	for _, s := range receiver.Spans() {
		exported[s.Trace] = true
	}
	if n := len(exported); n < 400 || 600 < n {
		t.Errorf("%d of 2000 requests are exported", n)
	}
	var logged []string
	for line := range strings.Lines(lines.String()) {
		var entry struct {
			Trace string `json:"trace_id"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		logged = append(logged, entry.Trace)
	}
	if !slices.Equal(logged, ids) {
		t.Errorf("the log has other ids than the %d requests", len(ids))
	}
	sampler, seen := sdktrace.TraceIDRatioBased(sampling), map[string]bool{}
	for _, text := range ids {
		id, err := trace.TraceIDFromHex(text)
		if err != nil || seen[text] {
			t.Fatalf("%q is an id, %v, that was there before: %t", text, err, seen[text])
		}
		seen[text] = true
		chosen := sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: t.Context(), TraceID: id}).Decision == sdktrace.RecordAndSample
		if chosen != exported[text] {
			t.Errorf("%s is exported: %t", text, exported[text])
		}
	}
}

// TestUnsampledIsCheap: of a request that is not exported nothing is made but its context.
func TestUnsampledIsCheap(t *testing.T) {
	allocs := func(tracing *observe.Tracing) float64 {
		h := tracing.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			ctx, span := observe.Span(r.Context(), "x")
			if span.IsRecording() || ctx != r.Context() {
				t.Error("there is a span")
			}
			span.End()
		}), observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil)
		return testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) })
	}
	_, _, tracing := traced(t, "http://127.0.0.1:1", 1e-15, nil)
	defer shutdown(t, tracing)
	if with, without := allocs(tracing), allocs(nil); with > without+1 {
		t.Errorf("%v allocations, and %v without tracing", with, without)
	}
}

// TestTwoTraceparents: of several none is believed.
func TestTwoTraceparents(t *testing.T) {
	receiver := otlptest.New(t)
	var id string
	h, _, tracing := traced(t, "http://"+receiver.Address(), 1, func(_ http.ResponseWriter, r *http.Request) { id = origin.RequestOf(r.Context()).ID })
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.Header["Traceparent"] = slices.Repeat([]string{"00-" + traceA + "-" + spanA + "-01"}, 2)
	h.ServeHTTP(httptest.NewRecorder(), r)
	shutdown(t, tracing)
	if id == traceA || len(id) != 32 {
		t.Errorf("the request's id is %q", id)
	}
}

// TestTracedPanic: a span is no reason for a panic to be another one.
func TestTracedPanic(t *testing.T) {
	receiver := otlptest.New(t)
	h, _, tracing := traced(t, "http://"+receiver.Address(), 1, func(http.ResponseWriter, *http.Request) { panic(errBug) })
	func() {
		defer func() {
			if got := recover(); got != errBug {
				t.Errorf("panic arrives as %v", got)
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil))
	}()
	shutdown(t, tracing)
	if spans := receiver.Spans(); len(spans) != 1 || !spans[0].Failed || strings.Contains(receiver.Raw(), errBug.Error()) {
		t.Errorf("exported: %s", receiver.Raw())
	}
}

// TestReceiverWithTLS: https is TLS.
func TestReceiverWithTLS(t *testing.T) {
	ca := mtlstest.NewAuthority(t, "receivers")
	certificate := ca.Issue(t, mtlstest.Server()).TLS()
	receiver := otlptest.New(t, credentials.NewServerTLSFromCert(&certificate))
	file := filepath.Join(t.TempDir(), "ca.pem")
	mtlstest.Put(t, file, ca.CertificatePEM())
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	h, _, tracing := traced(t, "https://"+receiver.Address(), 1, func(http.ResponseWriter, *http.Request) {})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil))
	shutdown(t, tracing)
	if n := len(receiver.Spans()); n != 1 {
		t.Errorf("%d spans came over TLS", n)
	}
}

// TestReceiverThatRefuses: it is said once that spans are lost, and how many once they are
// taken again; whoever is traced notices nothing.
func TestReceiverThatRefuses(t *testing.T) {
	receiver := otlptest.New(t)
	h, lines, tracing := traced(t, "http://"+receiver.Address(), 1, func(http.ResponseWriter, *http.Request) {})
	ask := func(calls int) {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil))
		receiver.Await(t, "a batch", func(_ []otlptest.Span, n int) bool { return n == calls })
	}
	receiver.Refuse(true)
	ask(1)
	ask(2)
	receiver.Refuse(false)
	ask(3)
	shutdown(t, tracing)
	var said []string
	for line := range strings.Lines(lines.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry["msg"] != "request" {
			said = append(said, entry["msg"].(string))
		}
		if entry["lost"] != nil && entry["lost"] != 2.0 {
			t.Errorf("%v are lost", entry["lost"])
		}
	}
	if want := []string{"spans cannot be exported", "spans can be exported again"}; !slices.Equal(said, want) {
		t.Errorf("the log says %q", said)
	}
}

// TestTracedRegistry: a registry with spans is the registry that it is without.
func TestTracedRegistry(t *testing.T) {
	receiver := otlptest.New(t)
	u := &url.URL{Scheme: "http", Host: receiver.Address()}
	tracing, err := observe.NewTracing(observe.TracingOptions{Endpoint: u, Sampling: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer shutdown(t, tracing)
	origintest.Test(t, func(t testing.TB) origin.Registry {
		r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true})
		if err != nil {
			t.Fatal(err)
		}
		return tracing.Registry(r)
	})
}

// TestNoTracing: without it nothing is wrapped.
func TestNoTracing(t *testing.T) {
	var none *observe.Tracing
	if none.Registry(origin.None{}) != origin.Registry(origin.None{}) {
		t.Error("something is wrapped")
	}
	if ctx, span := observe.Span(t.Context(), "x"); ctx != t.Context() || span.IsRecording() {
		t.Error("there is a span")
	}
	if err := none.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		_, span := observe.Span(t.Context(), "x")
		span.End()
	}); n > 0 {
		t.Errorf("it costs %v allocations", n)
	}
}
