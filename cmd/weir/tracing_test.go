package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/observe/otlptest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

const (
	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	othersTrace  = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "00f067aa0ba902b7"
)

// asked is what requests to somebody said of their trace.
type asked struct {
	mu     sync.Mutex
	header []http.Header
}

func (a *asked) note(r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.header = append(a.header, r.Header.Clone())
}

// before notes what passes on its way to a server.
func (a *asked) before(t testing.TB, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(u)
		p.Out.Host = p.In.Host // it is signed
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.note(r)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// of counts the requests that were in a trace, and fails for baggage.
func (a *asked) of(t testing.TB, trace string) (n int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.header {
		if strings.HasPrefix(h.Get("Traceparent"), "00-"+trace+"-") && strings.HasSuffix(h.Get("Traceparent"), "-01") && h.Get("Tracestate") == "vendor=1" {
			n++
		}
		if len(h["Baggage"]) != 0 {
			t.Errorf("baggage went on: %q", h["Baggage"])
		}
	}
	return n
}

func traceHeaders(trace string) []string {
	return []string{"Traceparent", "00-" + trace + "-" + callersSpan + "-01", "Tracestate", "vendor=1", "Baggage", "user=alice"}
}

// exported ends weir, and gives what it has sent: its last spans are sent in the drain.
func (r *running) exported(receiver *otlptest.Receiver) []otlptest.Span {
	r.t.Helper()
	r.end()
	return receiver.Spans()
}

// chain gives the names from a span up to its trace's beginning here.
func chain(spans []otlptest.Span, s otlptest.Span) string {
	names := []string{s.Name}
	for s.Parent != "" {
		i := slices.IndexFunc(spans, func(p otlptest.Span) bool { return p.ID == s.Parent && p.Trace == s.Trace })
		if i < 0 {
			break
		}
		s = spans[i]
		names = append(names, s.Name)
	}
	return strings.Join(names, " < ")
}

// chains counts the chains of a trace.
func chains(spans []otlptest.Span, trace string) map[string]int {
	found := map[string]int{}
	for _, s := range spans {
		if s.Trace == trace {
			found[chain(spans, s)]++
		}
	}
	return found
}

// TestTracesOfAPull: a cold pull is one trace from the caller to the upstream: what is
// parsed, who asks, what is decided, with its webhook, what is looked up, in the store, and
// the download with its requests.
func TestTracesOfAPull(t *testing.T) {
	receiver := otlptest.New(t)
	u := remotetest.New(t)
	img := u.AddImage("library/nginx", "1.27", bytes.Repeat([]byte("x"), 1000))
	var upstream, hook asked
	u.Fault("", remotetest.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		upstream.note(r)
		return false
	}))
	decides := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hook.note(r) }))
	defer decides.Close()
	r := start(t, "", hub(u, "")+fmt.Sprintf("authz: {webhooks: [{name: opa, url: '%s'}], webhook: opa}\ntracing: {endpoint: 'http://%s', sampling: 0.000001}\n",
		decides.URL, receiver.Address()))
	for _, path := range []string{"manifests/1.27", "blobs/" + img.Config.Digest.String(), "blobs/" + img.Layers[0].Digest.String()} {
		if a := r.get("/v2/docker.io/library/nginx/"+path, traceHeaders(callersTrace)...); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := r.get("/v2/docker.io/library/nginx/manifests/1.27"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	spans := r.exported(receiver)
	got := chains(spans, callersTrace)
	for want, n := range map[string]int{
		"request":                              3,
		"parse < request":                      3,
		"identity < request":                   3,
		"policy < request":                     3,
		"webhook < policy < request":           3,
		"origin < request":                     3,
		"upstream < origin < request":          2, // a ping, and the manifest
		"fill < origin < request":              2,
		"upstream < fill < origin < request":   2,
		"store < fill < origin < request":      0,
		"store < origin < request":             0,
		"upstream < upstream < fill < request": -1,
	} {
		switch {
		case n == 0 && got[want] == 0:
			t.Errorf("no %q", want)
		case n > 0 && got[want] != n:
			t.Errorf("%d of %q, want %d", got[want], want, n)
		}
	}
	if t.Failed() {
		t.Logf("%v", got)
	}
	if n := upstream.of(t, callersTrace); n != 4 {
		t.Errorf("%d requests to the upstream are in the trace", n)
	}
	if n := hook.of(t, callersTrace); n != 3 {
		t.Errorf("%d requests to the webhook are in the trace", n)
	}
	for _, s := range spans {
		if s.Trace != callersTrace {
			t.Errorf("a request is exported that nobody wanted to be: %+v", s)
		}
		if s.Name == "request" && (s.Service != "weir" || s.Parent != callersSpan || s.Attributes["http.route"] == "") {
			t.Errorf("the request's span is %+v", s)
		}
	}
	if !strings.Contains(r.log.String(), `"trace_id":"`+callersTrace+`"`) {
		t.Error("the trace is not in the log")
	}
}

// TestTracesOfAFollower: who reads from somebody else's download says so with a link.
func TestTracesOfAFollower(t *testing.T) {
	receiver := otlptest.New(t)
	u := remotetest.New(t)
	img := u.AddImage("library/nginx", "1.27", bytes.Repeat([]byte("x"), 300<<10))
	layer := img.Layers[0].Digest.String()
	gate := u.GateAt(layer, 100<<10)
	defer gate.Open()
	r := start(t, "", hub(u, "")+"tracing: {endpoint: 'http://"+receiver.Address()+"'}\n")
	path := "/v2/docker.io/library/nginx/blobs/" + layer
	var pulls sync.WaitGroup
	pull := func(trace string) {
		pulls.Go(func() {
			if a := r.get(path, traceHeaders(trace)...); a.status != http.StatusOK || len(a.body) != 300<<10 {
				t.Errorf("%d, %d bytes", a.status, len(a.body))
			}
		})
	}
	pull(callersTrace)
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	pull(othersTrace)
	eventually(t, "there are two", func() bool { return strings.Contains(r.metrics(), "weir_fill_followers 2") })
	gate.Open()
	pulls.Wait()
	spans := r.exported(receiver)
	fill := slices.IndexFunc(spans, func(s otlptest.Span) bool { return s.Name == "fill" })
	if fill < 0 || spans[fill].Trace != callersTrace || spans[fill].Attributes["weir.result"] != "stored" {
		t.Fatalf("the download's span is none of %+v", spans)
	}
	want := []otlptest.Link{{Trace: callersTrace, ID: spans[fill].ID}}
	linked := 0
	for _, s := range spans {
		switch {
		case len(s.Links) == 0:
		case s.Trace == othersTrace && s.Name == "origin" && slices.Equal(s.Links, want):
			linked++
		default:
			t.Errorf("a link too many: %+v", s)
		}
	}
	if linked != 1 {
		t.Errorf("%d links", linked)
	}
}

// TestTracesThatAreNotExported: a download that a request has begun which nobody wants to see
// is in its trace, and says so to the upstream; who reads from it, and is seen, has no link.
func TestTracesThatAreNotExported(t *testing.T) {
	receiver := otlptest.New(t)
	u := remotetest.New(t)
	img := u.AddImage("library/nginx", "1.27", bytes.Repeat([]byte("x"), 300<<10))
	layer := img.Layers[0].Digest.String()
	gate := u.GateAt(layer, 100<<10)
	defer gate.Open()
	var upstream asked
	u.Fault("", remotetest.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		upstream.note(r)
		return false
	}))
	r := start(t, "", hub(u, "")+"tracing: {endpoint: 'http://"+receiver.Address()+"', sampling: 0.000000001}\n")
	path := "/v2/docker.io/library/nginx/blobs/" + layer
	var pulls sync.WaitGroup
	pull := func(headers ...string) {
		pulls.Go(func() {
			if a := r.get(path, headers...); a.status != http.StatusOK || len(a.body) != 300<<10 {
				t.Errorf("%d, %d bytes", a.status, len(a.body))
			}
		})
	}
	pull()
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	pull(traceHeaders(callersTrace)...)
	eventually(t, "there are two", func() bool { return strings.Contains(r.metrics(), "weir_fill_followers 2") })
	gate.Open()
	pulls.Wait()
	spans := r.exported(receiver)
	if got := chains(spans, callersTrace); got["origin < request"] != 1 || got["fill < origin < request"] != 0 {
		t.Errorf("the reader's trace has %v", got)
	}
	for _, s := range spans {
		if s.Trace != callersTrace || len(s.Links) != 0 {
			t.Errorf("it is exported: %+v", s)
		}
	}
	own := regexp.MustCompile(`"trace_id":"([0-9a-f]{32})"`).FindAllStringSubmatch(strings.ReplaceAll(r.log.String(), callersTrace, ""), -1)
	if len(own) != 1 {
		t.Fatalf("the log has %q", own)
	}
	upstream.mu.Lock()
	defer upstream.mu.Unlock()
	said := regexp.MustCompile("^00-" + own[0][1] + "-[0-9a-f]{16}-00$")
	downloads := 0
	for _, h := range upstream.header {
		if !strings.Contains(h.Get("Traceparent"), callersTrace) {
			downloads++
			if !said.MatchString(h.Get("Traceparent")) {
				t.Errorf("the upstream hears of %q", h["Traceparent"])
			}
		}
	}
	if downloads == 0 {
		t.Error("the upstream was not asked")
	}
}

// TestTracesGoOn: to another registry that is the origin, and to a bucket.
func TestTracesGoOn(t *testing.T) {
	t.Run("origin", func(t *testing.T) {
		receiver := otlptest.New(t)
		var there asked
		b := newBehind(t, "", "")
		r := start(t, "", "origin: {url: '"+there.before(t, b.url)+"'}\ntracing: {endpoint: 'http://"+receiver.Address()+"'}\n")
		pushTraced(t, r)
		spans := r.exported(receiver)
		if there.of(t, callersTrace) == 0 || chains(spans, callersTrace)["origin < origin < request"] == 0 {
			t.Errorf("%d requests to the origin are in the trace, which has %v", there.of(t, callersTrace), chains(spans, callersTrace))
		}
		there.all(t)
	})
	t.Run("s3", func(t *testing.T) {
		receiver := otlptest.New(t)
		server := s3test.Start(t)
		name := server.Bucket(t)
		var there asked
		store := strings.Replace(bucket(server, name, ""), server.URL, there.before(t, server.URL), 1)
		r := startOn(t, "{blobs: "+store+"}", "  upstreams: []\ntracing: {endpoint: 'http://"+receiver.Address()+"'}\n")
		pushTraced(t, r)
		spans := r.exported(receiver)
		if there.of(t, callersTrace) == 0 || chains(spans, callersTrace)["s3 < store < origin < request"] == 0 {
			t.Errorf("%d requests to the bucket are in the trace, which has %v", there.of(t, callersTrace), chains(spans, callersTrace))
		}
	})
}

// all fails unless every request was in the caller's trace.
func (a *asked) all(t testing.TB) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.header {
		if !strings.Contains(h.Get("Traceparent"), callersTrace) {
			t.Errorf("outside of the trace: %v", h)
		}
	}
}

// pushTraced pushes a blob in all the ways that there are, in the caller's trace.
func pushTraced(t testing.TB, r *running) {
	t.Helper()
	do := func(method, path, body string, want int) answer {
		a := r.do(method, path, strings.NewReader(body), traceHeaders(callersTrace)...)
		if a.status != want {
			t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
		}
		return a
	}
	at := do(http.MethodPost, "/v2/team/app/blobs/uploads/", "", http.StatusAccepted).header.Get("Location")
	at = do(http.MethodPatch, at, "content", http.StatusAccepted).header.Get("Location")
	d := digest.FromString("content").String()
	do(http.MethodPut, at+"?digest="+d, "", http.StatusCreated)
	do(http.MethodGet, "/v2/team/app/blobs/"+d, "", http.StatusOK)
}

// TestReceiverThatHangs: requests do not wait for it, nor does the end for long.
func TestReceiverThatHangs(t *testing.T) {
	receiver := otlptest.New(t)
	receiver.Hang()
	r := start(t, "", "  upstreams: []\ntracing: {endpoint: 'http://"+receiver.Address()+"'}\n")
	for range 3000 {
		if a := r.get("/v2/"); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	receiver.Await(t, "a batch", func(_ []otlptest.Span, calls int) bool { return calls > 0 })
	r.end()
	if n := strings.Count(r.log.String(), `"msg":"spans were lost"`); n != 1 {
		t.Errorf("it is said %d times that spans were lost", n)
	}
}

// TestTraceOfAnError: what a client is told of an error names its trace.
func TestTraceOfAnError(t *testing.T) {
	receiver := otlptest.New(t)
	u := remotetest.New(t)
	u.Fault("", remotetest.Status(http.StatusInternalServerError))
	for _, tracing := range []string{"", "tracing: {endpoint: 'http://" + receiver.Address() + "'}\n"} {
		r := start(t, "", hub(u, "")+tracing)
		for _, headers := range [][]string{nil, traceHeaders(callersTrace)} {
			a := r.get("/v2/docker.io/library/nginx/manifests/1", headers...)
			id := a.header.Get("X-Request-Id")
			if a.status < 500 || len(id) != 32 || !strings.Contains(string(a.body), id) || headers != nil && id != callersTrace {
				t.Errorf("%d %v %s", a.status, a.header, a.body)
			}
			if !strings.Contains(r.log.String(), `"trace_id":"`+id+`"`) {
				eventually(t, "it is in the log", func() bool { return strings.Contains(r.log.String(), `"trace_id":"`+id+`"`) })
			}
		}
		r.end()
	}
}
