package observe_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
)

// A handler that says which route it took is counted under that.
func Example() {
	registry := prometheus.NewRegistry()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin.RequestOf(r.Context()).Route = "/v2/"
		w.WriteHeader(http.StatusOK)
	})
	observed := observe.HTTP(handler, observe.NewMetrics(registry), slog.New(slog.DiscardHandler))
	observed.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil))

	n, err := testutil.GatherAndCount(registry, "weir_http_requests_total")
	fmt.Println(n, err)

	// Output:
	// 1 <nil>
}
