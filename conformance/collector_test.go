//go:build clients

package conformance

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCollector: an OpenTelemetry collector takes what weir exports, in the caller's trace,
// what weir says as it ends included.
func TestCollector(t *testing.T) {
	addr := freeAddr(t)
	config := write(t, filepath.Join(t.TempDir(), "otelcol.yaml"), fmt.Sprintf(`receivers: {otlp: {protocols: {grpc: {endpoint: %q}}}}
exporters: {debug: {verbosity: detailed, sampling_initial: 1000}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}
`, addr))
	collector := start(t, "otelcol", nil, tool(t, "collector"), "--config", config)
	collector.ready(t, listens("tcp", addr))
	w := startWeir(t, t.TempDir(), fmt.Sprintf("tracing: {endpoint: %q}\nmirror: {well_known: false}\n", "http://"+addr))

	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.addr+"/v2/team/app/tags/list", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	w.stop(t)
	said := func() string {
		text, err := os.ReadFile(collector.log)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	until(t, "the request's span is there", func() bool { return strings.Contains(said(), "http.route: Str(/v2/{name}/tags/list)") })
	for _, want := range []string{"service.name: Str(weir)", trace, "Parent ID      : 00f067aa0ba902b7", ": request", ": parse", ": identity", ": policy", ": origin", ": store"} {
		if !strings.Contains(said(), want) {
			t.Errorf("the collector has no %q", want)
		}
	}
}
