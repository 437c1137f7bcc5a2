package observe

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what happens. Its methods are safe for concurrent use.
type Metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	bytes     *prometheus.CounterVec

	mirrorRequests   *prometheus.CounterVec
	upstreamRequests *prometheus.CounterVec
	upstreamBytes    *prometheus.CounterVec
	servedBytes      *prometheus.CounterVec

	endpointUp    *prometheus.GaugeVec
	rateRemaining *prometheus.GaugeVec
	cacheBytes    prometheus.Gauge
	cacheEvicted  prometheus.Counter
	gcReclaimed   prometheus.Counter
	scrubbed      *prometheus.CounterVec

	fillsActive   prometheus.Gauge
	fillFollowers prometheus.Gauge
	fills         *prometheus.CounterVec

	authAttempts     *prometheus.CounterVec
	decisions        *prometheus.CounterVec
	webhookRequests  *prometheus.CounterVec
	webhookDurations *prometheus.HistogramVec
	events           *prometheus.CounterVec

	storeOperations *prometheus.CounterVec
	storeDurations  *prometheus.HistogramVec

	reloads *prometheus.CounterVec
	build   *prometheus.GaugeVec

	// answered are the counters of the requests that there were: finding them by their
	// labels costs more than counting. Methods, routes and statuses are few.
	mu       sync.RWMutex
	answered map[requestLabels]requestCounters
}

type requestLabels struct {
	method, route string
	status        int
}

type requestCounters struct {
	requests, bytes prometheus.Counter
	duration        prometheus.Observer
}

// NewMetrics makes the metrics and registers them; it panics if they are registered
// there already. A program that runs two servers gives each a Registerer.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		answered: map[requestLabels]requestCounters{},
		requests: counter("weir_http_requests_total", "Requests answered, by method, route template and status; 499 is a client that went away.", "method", "route", "status"),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_http_request_duration_seconds", Help: "Time from a request's header to its answer's last byte.",
			// From an answer out of memory to a layer over a slow line.
			Buckets: []float64{.001, .0025, .005, .01, .025, .1, .5, 1, 5, 15, 60, 300, 1800},
		}, []string{"method", "route"}),
		inFlight: gauge("weir_http_requests_in_flight", "Requests whose answer is not complete."),
		bytes:    counter("weir_http_response_bytes_total", "Bytes of answers' bodies, by route template.", "route"),

		mirrorRequests:   counter("weir_mirror_requests_total", "Answers given for mirrored content, by how the mirror came by them.", "upstream", "kind", "result"),
		upstreamRequests: counter("weir_mirror_upstream_requests_total", "Requests made to upstreams, by status; error is one without an answer, other one with a status that means nothing.", "upstream", "endpoint", "status"),
		upstreamBytes:    counter("weir_mirror_upstream_bytes_total", "Bytes received from upstreams.", "upstream"),
		servedBytes:      counter("weir_mirror_served_bytes_total", "Bytes of mirrored content given to clients.", "upstream"),

		endpointUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_mirror_endpoint_up", Help: "1 while an endpoint answers; 0 while it does not, and is left out, or asked last if it answers with errors.",
		}, []string{"upstream", "endpoint"}),
		rateRemaining: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_mirror_upstream_ratelimit_remaining", Help: "Requests that an endpoint still lets through, as it last said.",
		}, []string{"upstream", "endpoint"}),
		cacheBytes:   gauge("weir_cache_bytes", "Bytes of mirrored blobs that are kept."),
		cacheEvicted: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_cache_evicted_bytes_total", Help: "Bytes of mirrored blobs that were evicted."}),

		gcReclaimed: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_gc_reclaimed_bytes_total", Help: "Bytes of blobs that were removed because nobody needed them."}),
		scrubbed:    counter("weir_scrub_objects_total", "Blobs and records that were read again, by what they turned out to be.", "result"),

		fillsActive:   gauge("weir_fills_active", "Blobs that are being fetched from upstreams."),
		fillFollowers: gauge("weir_fill_followers", "Clients that read from a running fill."),
		fills:         counter("weir_fills_total", "Fills that ended, by result.", "result"),

		authAttempts: counter("weir_auth_attempts_total", "Credentials that were shown, by method, and what became of them; bearer is a token of unknown kind.", "method", "result"),
		decisions:    counter("weir_policy_decisions_total", "Decisions on who may do what, by result; error denies as well.", "result"),

		webhookRequests: counter("weir_webhook_requests_total", "Requests made to webhooks that decide, by what they said.", "webhook", "result"),
		events:          counter("weir_events_total", "Events for receivers: delivered, failed attempts, dead letters, and those that were dropped.", "name", "result"),
		webhookDurations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_webhook_duration_seconds", Help: "Time until a webhook answered, or was given up.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10},
		}, []string{"webhook"}),

		storeOperations: counter("weir_store_operations_total", "What stores were asked for, by result; refused is a condition, a digest or a range that was not met.", "backend", "operation", "result"),
		storeDurations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_store_operation_duration_seconds", Help: "Time until a store answered.",
			// From a look into a directory to a disk that hangs.
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30},
		}, []string{"backend", "operation"}),

		reloads: counter("weir_config_reloads_total", "Times that the configuration was read again, by what came of it.", "result"),

		build: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_build_info", Help: "Always 1: the version that runs, as labels."}, []string{"version", "commit", "go_version"}),
	}
	reg.MustRegister(m.requests, m.durations, m.inFlight, m.bytes,
		m.mirrorRequests, m.upstreamRequests, m.upstreamBytes, m.servedBytes, m.endpointUp, m.rateRemaining,
		m.cacheBytes, m.cacheEvicted, m.gcReclaimed, m.scrubbed,
		m.fillsActive, m.fillFollowers, m.fills,
		m.authAttempts, m.decisions, m.webhookRequests, m.webhookDurations, m.events,
		m.storeOperations, m.storeDurations, m.reloads, m.build)
	// What never was is 0, and not unknown: of a series that begins with 1 no increase is seen.
	beginAtZero(m.reloads, "applied", "rejected", "unchanged")
	beginAtZero(m.fills, "stored", "passed", "unstored", "failed", "corrupt", "abandoned")
	beginAtZero(m.scrubbed, "ok", "corrupt", "repaired", "error")
	return m
}

// beginAtZero gives each result a series.
func beginAtZero(of *prometheus.CounterVec, results ...string) {
	for _, result := range results {
		of.WithLabelValues(result)
	}
}

// Build tells which version runs.
func (m *Metrics) Build(version, commit string) {
	m.build.WithLabelValues(version, commit, runtime.Version()).Set(1)
}

// ConfigReloaded counts a reload: applied, rejected or unchanged.
func (m *Metrics) ConfigReloaded(result string) { m.reloads.WithLabelValues(result).Inc() }

// MirrorRequest counts an answer for mirrored content: kind is manifest, blob, tags
// or referrers, result one of origin.Cache or "error".
func (m *Metrics) MirrorRequest(upstream, kind, result string) {
	m.mirrorRequests.WithLabelValues(upstream, kind, result).Inc()
}

// UpstreamRequest counts a request to an upstream's endpoint; status 0 means that
// no answer came. A status that is registered nowhere is no label: there could be 900.
func (m *Metrics) UpstreamRequest(upstream, endpoint string, status int) {
	label := "other"
	switch {
	case status == 0:
		label = "error"
	case http.StatusText(status) != "":
		label = strconv.Itoa(status)
	}
	m.upstreamRequests.WithLabelValues(upstream, endpoint, label).Inc()
}

// UpstreamBytes counts bytes received from an upstream.
func (m *Metrics) UpstreamBytes(upstream string, n int64) {
	m.upstreamBytes.WithLabelValues(upstream).Add(float64(n))
}

// ServedBytes counts bytes of mirrored content given to clients.
func (m *Metrics) ServedBytes(upstream string, n int64) {
	m.servedBytes.WithLabelValues(upstream).Add(float64(n))
}

// EndpointUp says whether an endpoint of an upstream is being asked.
func (m *Metrics) EndpointUp(upstream, endpoint string, up bool) {
	value := 0.0
	if up {
		value = 1
	}
	m.endpointUp.WithLabelValues(upstream, endpoint).Set(value)
}

// EndpointGone says that an endpoint of an upstream is not one any more.
func (m *Metrics) EndpointGone(upstream, endpoint string) {
	m.endpointUp.DeleteLabelValues(upstream, endpoint)
	m.rateRemaining.DeleteLabelValues(upstream, endpoint)
}

// RateLimitRemaining says how many requests an endpoint still lets through; -1: it is not
// known any more.
func (m *Metrics) RateLimitRemaining(upstream, endpoint string, n int) {
	if n < 0 {
		m.rateRemaining.DeleteLabelValues(upstream, endpoint)
		return
	}
	m.rateRemaining.WithLabelValues(upstream, endpoint).Set(float64(n))
}

// CacheBytes is how many bytes of mirrored blobs are kept now.
func (m *Metrics) CacheBytes(n int64) { m.cacheBytes.Set(float64(n)) }

// CacheEvicted counts bytes of mirrored blobs that were evicted.
func (m *Metrics) CacheEvicted(n int64) { m.cacheEvicted.Add(float64(n)) }

// Reclaimed counts bytes of blobs that garbage collection removed.
func (m *Metrics) Reclaimed(n int64) { m.gcReclaimed.Add(float64(n)) }

// Scrubbed counts an object that was read again.
func (m *Metrics) Scrubbed(result string) { m.scrubbed.WithLabelValues(result).Inc() }

// FillStarted counts a fill in; FillEnded counts it out, by its result.
func (m *Metrics) FillStarted() { m.fillsActive.Inc() }

// FillEnded counts a fill out.
func (m *Metrics) FillEnded(result string) {
	m.fillsActive.Dec()
	m.fills.WithLabelValues(result).Inc()
}

// Followers counts clients that began (1) or ceased (-1) to read from a fill.
func (m *Metrics) Followers(delta int) { m.fillFollowers.Add(float64(delta)) }

// AuthAttempt counts credentials that were shown: method is that of the identity, or
// what they look like where none accepts them; result is accepted, rejected or error.
func (m *Metrics) AuthAttempt(method, result string) {
	m.authAttempts.WithLabelValues(method, result).Inc()
}

// PolicyDecision counts a decision: allow, deny or error.
func (m *Metrics) PolicyDecision(result string) { m.decisions.WithLabelValues(result).Inc() }

// Receiver has what becomes of events for a receiver counted from 0.
func (m *Metrics) Receiver(name string) {
	beginAtZero(m.events.MustCurryWith(prometheus.Labels{"name": name}), "delivered", "failed", "dead", "dropped")
}

// Event counts what became of an event: delivered, failed, dead or dropped.
func (m *Metrics) Event(receiver, result string) { m.events.WithLabelValues(receiver, result).Inc() }

// WebhookRequest counts a request to a webhook: allow, deny or error.
func (m *Metrics) WebhookRequest(webhook, result string, took time.Duration) {
	m.webhookRequests.WithLabelValues(webhook, result).Inc()
	m.webhookDurations.WithLabelValues(webhook).Observe(took.Seconds())
}

// request counts a request that is over.
func (m *Metrics) request(method, route string, status int, took time.Duration, bytes int64) {
	method = methodLabel(method)
	if route == "" {
		route = "other"
	}
	c := m.countersOf(requestLabels{method, route, status})
	c.requests.Inc()
	c.duration.Observe(took.Seconds())
	c.bytes.Add(float64(bytes))
}

func (m *Metrics) countersOf(l requestLabels) requestCounters {
	m.mu.RLock()
	c, ok := m.answered[l]
	m.mu.RUnlock()
	if ok {
		return c
	}
	c = requestCounters{
		requests: m.requests.WithLabelValues(l.method, l.route, strconv.Itoa(l.status)),
		duration: m.durations.WithLabelValues(l.method, l.route),
		bytes:    m.bytes.WithLabelValues(l.route),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answered[l] = c // another one's are the same
	return c
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
