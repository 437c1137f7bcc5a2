package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// promised are the metrics that weir has, with their types and labels: all of them, and
// nothing else of its own. What dashboards and alerts are made of does not change.
var promised = map[string]string{
	"weir_http_requests_total":                 "counter method route status",
	"weir_http_request_duration_seconds":       "histogram method route",
	"weir_http_requests_in_flight":             "gauge",
	"weir_http_response_bytes_total":           "counter route",
	"weir_mirror_requests_total":               "counter kind result upstream",
	"weir_mirror_upstream_requests_total":      "counter endpoint status upstream",
	"weir_mirror_upstream_bytes_total":         "counter upstream",
	"weir_mirror_served_bytes_total":           "counter upstream",
	"weir_mirror_upstream_ratelimit_remaining": "gauge endpoint upstream",
	"weir_mirror_endpoint_up":                  "gauge endpoint upstream",
	"weir_fills_active":                        "gauge",
	"weir_fill_followers":                      "gauge",
	"weir_fills_total":                         "counter result",
	"weir_cache_bytes":                         "gauge",
	"weir_cache_evicted_bytes_total":           "counter",
	"weir_auth_attempts_total":                 "counter method result",
	"weir_policy_decisions_total":              "counter result",
	"weir_webhook_requests_total":              "counter result webhook",
	"weir_webhook_duration_seconds":            "histogram webhook",
	"weir_store_operations_total":              "counter backend operation result",
	"weir_store_operation_duration_seconds":    "histogram backend operation",
	"weir_gc_reclaimed_bytes_total":            "counter",
	"weir_scrub_objects_total":                 "counter result",
	"weir_events_total":                        "counter name result",
	"weir_config_reloads_total":                "counter result",
	"weir_build_info":                          "gauge commit go_version version",
}

// walked is a weir in which everything has happened once that a metric counts, and the file
// of its configuration.
func walked(t testing.TB) (r *running, file string, again func()) {
	t.Helper()
	u := remotetest.New(t)
	u.Fault("", remotetest.Header("Ratelimit-Limit", "100;w=21600"))
	u.Fault("", remotetest.Header("Ratelimit-Remaining", "76;w=21600"))
	img := u.AddImage("library/nginx", "1.27", bytes.Repeat([]byte("x"), 1000))
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(hook.Close)
	data := t.TempDir()
	text := "log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '" + data + "'}}}\nmirror:\n  well_known: false\n" + hub(u, "") +
		fmt.Sprintf("authz: {basic: {users: [{name: ann, hash: %q}]}, policy: {allow: ['true'], deny: ['request.repository == \"secret\"']}, webhooks: [{name: opa, url: '%s', cache_ttl: 0s}]}\nrepositories: [{match: 'team/**', webhook: opa}]\nevents: [{name: ci, url: '%s'}]\n",
			basic.NewHash("password").Text(), hook.URL, hook.URL)
	file = filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r = startText(t, data, text)
	n := 0
	again = func() {
		n++
		pull(t.(*testing.T), r, img, "docker.io/library/nginx", "1.27")
		pushImage(t.(*testing.T), r, "team/app", "v1", fmt.Sprint("pushed ", n))
		for _, path := range []string{"/v2/docker.io/library/nginx/manifests/none", "/v2/docker.io/library/nginx/tags/list", "/v2/secret/tags/list", "/nowhere"} {
			r.get(path)
		}
		r.get("/v2/", "Authorization", "Basic YW5uOnBhc3N3b3Jk")
		r.get("/v2/", "Authorization", "Basic YW5uOndyb25n")
		for _, job := range []string{"gc", "scrub"} {
			var out, said bytes.Buffer
			if code := run(t.Context(), []string{job, "--config", file}, &out, &said); code != exitDone {
				t.Fatalf("weir %s: exit %d: %s", job, code, &said)
			}
		}
	}
	again()
	eventually(t, "an event is taken", func() bool {
		return !strings.Contains(r.metrics(), `weir_events_total{name="ci",result="delivered"} 0`)
	})
	return r, file, again
}

// TestMetricsArePromised holds what is at /metrics after that walk against the list, both
// ways: names, types, help, labels. Go's own and the process's are there besides.
func TestMetricsArePromised(t *testing.T) {
	r, _, _ := walked(t)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(r.metrics()))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range promised {
		f, ok := families[name]
		if !ok {
			t.Errorf("%s is not there", name)
			continue
		}
		var got strings.Builder
		got.WriteString(strings.ToLower(f.GetType().String()))
		for _, l := range f.Metric[0].Label {
			got.WriteString(" " + l.GetName())
		}
		if got.String() != want {
			t.Errorf("%s is %q, want %q", name, got.String(), want)
		}
		if help := f.GetHelp(); !strings.HasSuffix(help, ".") {
			t.Errorf("%s says of itself %q", name, help)
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				for _, never := range []string{"nginx", "team", "v1", "1.27", "ann", "secret", "nowhere", "sha256"} {
					if strings.Contains(l.GetValue(), never) {
						t.Errorf("%s has the label %s=%q", name, l.GetName(), l.GetValue())
					}
				}
			}
		}
	}
	for name := range families {
		if _, ok := promised[name]; !ok && strings.HasPrefix(name, "weir_") {
			t.Errorf("%s is not promised", name)
		}
	}
	for _, name := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes", "process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"} {
		if _, ok := families[name]; !ok {
			t.Errorf("%s is not there", name)
		}
	}
}
