package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// TestRoutes walks the table: each template is reached by each of its methods and
// labelled with itself, HEAD has no body, every other method is refused with what
// is allowed, and every answer is OCI's.
func TestRoutes(t *testing.T) {
	fill := strings.NewReplacer("{name}", "team/app", "{reference}", "latest", "{digest}", string(sha256A), "{id}", uploadID, "{extension}", "explain")
	h := serve.New(fake{}, serve.Options{})
	all := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"}
	methods := map[string][]string{}
	names := map[string]bool{}
	for _, route := range serve.Routes() {
		if names[route.Name] {
			t.Errorf("two routes are called %s", route.Name)
		}
		names[route.Name] = true
		methods[route.Template] = append(methods[route.Template], route.Methods...)
		c, _ := parse(t, route.Methods[0], fill.Replace(route.Template))
		if c.Kind != route.Kind {
			t.Errorf("%s: %s is parsed as kind %d, not %d", route.Name, route.Template, c.Kind, route.Kind)
		}
	}
	for template, allowed := range methods {
		slices.Sort(allowed)
		for _, method := range all {
			req := &origin.Request{}
			r := request(method, fill.Replace(template), "")
			w, err := ask(h, r.WithContext(origin.WithRequest(r.Context(), req)))
			if err != nil {
				t.Fatalf("%s %s: %v", method, template, err)
			}
			if req.Route != template {
				t.Errorf("%s %s is labelled %q", method, template, req.Route)
			}
			if w.Header().Get("Docker-Distribution-API-Version") != "registry/2.0" {
				t.Errorf("%s %s: no version", method, template)
			}
			known := slices.Contains(allowed, method)
			allow := w.Header().Get("Allow")
			if (w.Code == http.StatusMethodNotAllowed && allow != "") == known || !known && allow != strings.Join(allowed, ", ") {
				t.Errorf("%s %s: status %d, Allow %q", method, template, w.Code, allow)
			}
			switch {
			case method == "HEAD":
				if w.Body.Len() > 0 {
					t.Errorf("HEAD %s has a body", template)
				}
			case w.Code >= 400:
				checkError(t, w.Code, w.Header(), w.Body.Bytes())
			}
		}
	}
}

// checkError checks the form of an error's answer, and gives its code.
func checkError(t testing.TB, status int, h http.Header, b []byte) origin.Code {
	t.Helper()
	var e struct {
		Errors []struct {
			Code    origin.Code     `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
	}
	err := json.Unmarshal(b, &e)
	if err != nil || len(e.Errors) != 1 || e.Errors[0].Code == "" || e.Errors[0].Message == "" || h.Get("Content-Type") != "application/json" {
		t.Errorf("status %d, %s: %q is no OCI error: %v", status, h.Get("Content-Type"), b, err)
		return ""
	}
	return e.Errors[0].Code
}

// names is a Namer of one upstream.
type names struct{}

func (names) Name(prefix, ns string, repo origin.Repo) (origin.Repo, error) {
	if prefix+ns == "" {
		return repo, nil
	}
	if prefix+ns != "docker.io" {
		return origin.Repo{}, origin.ErrNameUnknown
	}
	return repo.Under("docker.io")
}

// TestNames: all ways to name a repository lead to one, and the answer keeps the
// client's spelling.
func TestNames(t *testing.T) {
	var asked []string
	external, err := url.Parse("https://weir.corp:8443")
	if err != nil {
		t.Fatal(err)
	}
	h := serve.New(fake{manifest: func(repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
		asked = append(asked, repo.String()+":"+ref.String())
		return manifestOf([]byte("{}"), origin.Source{}), nil
	}}, serve.Options{Names: names{}, ExternalURL: external})
	for _, c := range []struct {
		target, repo, namespace string
		status                  int
	}{
		{"/v2/library/nginx/manifests/1", "docker.io/library/nginx:1", "docker.io", 0},
		{"/v2/library/nginx/manifests/1?ns=docker.io", "docker.io/library/nginx:1", "docker.io", 200},
		{"/docker.io/v2/library/nginx/manifests/1", "docker.io/library/nginx:1", "", 200},
		{"/v2/docker.io/library/nginx/manifests/1", "docker.io/library/nginx:1", "", 200},
		{"/v2/team/app/manifests/1?ns=weir.corp:8443", "team/app:1", "weir.corp:8443", 200},
		{"/v2/team/app/manifests/1?ns=evil.example", "", "", 404},
		{"/v2/team/app/manifests/1?ns=169.254.169.254", "", "", 404},
		{"/evil.example/v2/team/app/manifests/1", "", "", 404},
		{"/docker.io/v2/", "", "", 200},
	} {
		if c.status == 0 { // a name alone is what it is
			c.repo, c.namespace, c.status = "library/nginx:1", "", 200
		}
		asked = nil
		w := get(t, h, "GET", c.target, "")
		if got := strings.Join(asked, " "); w.Code != c.status || got != c.repo || w.Header().Get("OCI-Namespace") != c.namespace {
			t.Errorf("%s: %d, asked for %q, namespace %q", c.target, w.Code, got, w.Header().Get("OCI-Namespace"))
		}
	}
}

// TestLocation: absolute below the external URL, else a path; the client's
// spelling of the name is kept, so that the next request finds the same one.
func TestLocation(t *testing.T) {
	proxy, err := url.Parse("https://weir.corp/hub/")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		external *url.URL
		target   string
		want     string
	}{
		{nil, "/v2/app/blobs/uploads/", "/v2/app/blobs/uploads/" + uploadID},
		{nil, "/v2/app/blobs/uploads/?ns=docker.io", "/v2/app/blobs/uploads/" + uploadID + "?ns=docker.io"},
		{nil, "/docker.io/v2/app/blobs/uploads/", "/docker.io/v2/app/blobs/uploads/" + uploadID},
		{proxy, "/v2/app/blobs/uploads/?ns=docker.io", "https://weir.corp/hub/v2/app/blobs/uploads/" + uploadID + "?ns=docker.io"},
	} {
		h := serve.New(fake{upload: func(string) (store.Ingest, error) { return &ingest{}, nil }}, serve.Options{Names: names{}, ExternalURL: c.external})
		if w := get(t, h, "POST", c.target, ""); w.Code != 202 || w.Header().Get("Location") != c.want {
			t.Errorf("%s: %d, %s; want %s", c.target, w.Code, w.Header().Get("Location"), c.want)
		}
	}
}

// TestSource: how a mirror came by an answer is said in its header, to the layers
// that count, and to clients that show warnings.
func TestSource(t *testing.T) {
	long := strings.Repeat(`"`, 5000)
	for _, c := range []struct {
		src                      origin.Source
		cache, upstream, warning string
	}{
		{origin.Source{}, "", "", ""},
		{origin.Source{Cache: origin.Hit}, "hit", "", ""},
		{origin.Source{Cache: origin.Filled, Upstream: "r.example:5000"}, "fill", "r.example:5000", ""},
		{origin.Source{Cache: origin.Stale, Upstream: "r.example", Stale: "said \"no\" \\\r\nX-Evil: 1 ü"}, "stale", "r.example", `299 - "stale: said \"no\" \\??X-Evil: 1 ?"`},
		{origin.Source{Cache: origin.Stale, Stale: long}, "stale", "", `299 - "stale: ` + strings.Repeat(`\"`, 2040) + `"`},
	} {
		h := serve.New(fake{manifest: func(origin.Repo, origin.Ref) (origin.Manifest, error) { return manifestOf([]byte("{}"), c.src), nil }}, serve.Options{})
		req := &origin.Request{}
		r := request("GET", "/v2/app/manifests/x", "")
		w, err := ask(h, r.WithContext(origin.WithRequest(r.Context(), req)))
		if err != nil {
			t.Fatal(err)
		}
		header := w.Header()
		if header.Get("Weir-Cache") != c.cache || string(req.Cache) != c.cache || header.Get("Weir-Upstream") != c.upstream || header.Get("Warning") != c.warning {
			t.Errorf("%+.80v: %v, %q", c.src, header, req.Cache)
		}
		if len(header.Get("Warning")) > 4096 {
			t.Errorf("a warning of %d bytes", len(header.Get("Warning")))
		}
	}
}

// TestFailures: what a client is told of an error, what the log is told, and what
// neither is.
func TestFailures(t *testing.T) {
	const secret = "/var/lib/weir: password=hunter2"
	cause := errors.New(secret)
	for _, c := range []struct {
		name   string
		err    error
		status int
		body   string
		logged bool
	}{
		{"unknown", origin.Wrap(origin.ErrManifestUnknown, cause), 404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry"}]}`, false},
		{"wrapped", fmt.Errorf("at %s: %w", secret, origin.ErrDenied.WithDetail(map[string]int{"a": 1})), 403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":{"a":1}}]}`, false},
		{"not an Error", cause, 500, `{"errors":[{"code":"UNKNOWN","message":"internal error","detail":{"request_id":"4bf9"}}]}`, true},
		{"outage", origin.Outage(false, "upstream does not answer", cause), 502, `{"errors":[{"code":"UNAVAILABLE","message":"upstream does not answer","detail":{"request_id":"4bf9"}}]}`, true},
		{"timeout", origin.Outage(true, "upstream does not answer in time", cause), 504, `{"errors":[{"code":"UNAVAILABLE","message":"upstream does not answer in time","detail":{"request_id":"4bf9"}}]}`, true},
		{"full disk", fmt.Errorf("%s: %w", secret, syscall.ENOSPC), 507, `{"errors":[{"code":"UNAVAILABLE","message":"no space is left","detail":{"request_id":"4bf9"}}]}`, true},
		{"no JSON", origin.ErrDenied.WithDetail(func() {}), 403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, false},
	} {
		var log bytes.Buffer
		h := serve.New(fake{manifest: func(origin.Repo, origin.Ref) (origin.Manifest, error) { return origin.Manifest{}, c.err }},
			serve.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		req := &origin.Request{ID: "4bf9", Cache: origin.Miss}
		r := request("GET", "/v2/app/manifests/x", "")
		w, err := ask(h, r.WithContext(origin.WithRequest(r.Context(), req)))
		if err != nil {
			t.Fatal(err)
		}
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if id := w.Header().Get("X-Request-Id"); (id == "4bf9") != (c.status >= 500) {
			t.Errorf("%s: X-Request-Id %q", c.name, id)
		}
		if w.Header().Get("Weir-Cache") != "miss" {
			t.Errorf("%s: the answer does not say how the mirror came by it", c.name)
		}
		if got := strings.Count(log.String(), "\n"); got > 1 || (got == 1) != c.logged || c.logged && !strings.Contains(log.String(), "4bf9") {
			t.Errorf("%s: logged %q", c.name, log.String())
		}
		if c.logged && !strings.Contains(log.String(), "hunter2") {
			t.Errorf("%s: the log does not say why: %q", c.name, log.String())
		}
	}
}

// TestClientGone: nobody is answered who is not there, and nothing is logged as a
// failure.
func TestClientGone(t *testing.T) {
	var log bytes.Buffer
	ctx, leave := context.WithCancel(t.Context())
	h := serve.New(fake{manifest: func(origin.Repo, origin.Ref) (origin.Manifest, error) {
		leave()
		return origin.Manifest{}, fmt.Errorf("read: %w", context.Canceled)
	}}, serve.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	w, err := ask(h, request("GET", "/v2/app/manifests/x", "").WithContext(ctx))
	if !errors.Is(err, errCut) || w.Body.Len() > 0 || log.Len() > 0 {
		t.Errorf("%v, %q, logged %q", err, w.Body, log.String())
	}
}

func TestError(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			serve.Error(w, r, origin.Errorf(origin.ErrUnavailable, "too many requests at once"))
		})
		w := get(t, h, method, "/v2/", "")
		want := `{"errors":[{"code":"UNAVAILABLE","message":"too many requests at once"}]}`
		if method == "HEAD" {
			want = ""
		}
		if w.Code != 503 || w.Body.String() != want || w.Header().Get("Docker-Distribution-API-Version") == "" {
			t.Errorf("%s: %d %q %v", method, w.Code, w.Body, w.Header())
		}
	}
}

// TestErrorsRoute: what is refused before it is routed is known by its route all the same.
func TestErrorsRoute(t *testing.T) {
	for target, want := range map[string]string{
		"GET /v2/":                          "/v2/",
		"GET /v2/a/b/manifests/x":           "/v2/{name}/manifests/{reference}",
		"POST /v2/a/manifests/x":            "/v2/{name}/manifests/{reference}",
		"GET /v2/A/manifests/x":             "/v2/{name}/manifests/{reference}",
		"GET /docker.io/v2/a/blobs/x":       "/v2/{name}/blobs/{digest}",
		"DELETE /v2/a/blobs/uploads/1":      "/v2/{name}/blobs/uploads/{id}",
		"GET /v2/_ext/x":                    "/v2/_ext/{extension}",
		"GET /metrics":                      "",
		"GET /v2/a/%2e%2e/manifests/x":      "",
		"GET /v2/a/manifests/x?n=1&route=x": "/v2/{name}/manifests/{reference}",
	} {
		method, path, _ := strings.Cut(target, " ")
		r, known := request(method, path, ""), &origin.Request{}
		r = r.WithContext(origin.WithRequest(r.Context(), known))
		serve.Error(httptest.NewRecorder(), r, origin.ErrDenied)
		if known.Route != want {
			t.Errorf("%s: %q, want %q", target, known.Route, want)
		}
	}
	known := &origin.Request{Route: "/token"}
	r := request("GET", "/v2/", "")
	serve.Error(httptest.NewRecorder(), r.WithContext(origin.WithRequest(r.Context(), known)), origin.ErrDenied)
	if known.Route != "/token" {
		t.Errorf("another route was taken: %q", known.Route)
	}
}

func TestExtensions(t *testing.T) {
	type question = serve.Question
	h := serve.New(fake{}, serve.Options{Ext: map[string]serve.Extension{
		"explain": {Params: []string{"image"}, Answer: func(_ context.Context, q question) (any, string, error) {
			return map[string]string{"image": q.Get("image")}, "", nil
		}},
		"fills":  {Answer: func(context.Context, question) (any, string, error) { return nil, "", origin.ErrDenied }},
		"broken": {Answer: func(context.Context, question) (any, string, error) { return func() {}, "", nil }},
		"tags": {Params: []string{"repository"}, Paged: true, Answer: func(_ context.Context, q question) (any, string, error) {
			return []any{q.Page.N, q.Page.After}, map[string]string{"": "a&b"}[q.Page.After], nil
		}},
	}})
	refused := func(message string) string {
		return `{"errors":[{"code":"UNSUPPORTED","message":` + strconv.Quote(message) + `}]}`
	}
	for _, c := range []struct {
		target string
		status int
		body   string
		link   string
	}{
		{"/v2/_ext/explain?image=docker.io/library/nginx:1", 200, `{"image":"docker.io/library/nginx:1"}`, ""},
		{"/v2/_ext/explain?image=a&image=b", 400, refused("image is given more than once"), ""},
		{"/v2/_ext/explain?image=a&n=1", 400, refused("parameter \"n\" is not known here"), ""},
		{"/v2/_ext/fills", 403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, ""},
		{"/v2/_ext/broken", 500, `{"errors":[{"code":"UNKNOWN","message":"internal error"}]}`, ""},
		{"/v2/_ext/upstreams", 404, `{"errors":[{"code":"UNSUPPORTED","message":"no such resource"}]}`, ""},
		{"/v2/_ext/tags?repository=a", 200, `[1000,""]`, `</v2/_ext/tags?last=a%26b&n=1000&repository=a>; rel="next"`},
		{"/v2/_ext/tags?last=a%26b&n=7", 200, `[7,"a\u0026b"]`, ""},
		{"/v2/_ext/tags?n=x", 400, refused(`n "x" is not a number of items`), ""},
		{"/v2/_ext/tags?last=" + strings.Repeat("x", 1025), 400, refused("last is longer than 1024 bytes"), ""},
		{"/v2/_ext/tags?owner=me", 400, refused(`parameter "owner" is not known here`), ""},
	} {
		w := get(t, h, "GET", c.target, "")
		if link := w.Header().Get("Link"); w.Code != c.status || w.Body.String() != c.body || link != c.link {
			t.Errorf("%s: %d %s %s", c.target, w.Code, w.Body, link)
		}
	}
}

// TestReferrersPages: pages end where they grow too heavy, and the links lead
// through all of them once.
func TestReferrersPages(t *testing.T) {
	const many, heavy = 250, 40_000
	var all []origin.Descriptor
	for i := range many {
		var d origin.Descriptor
		d.Descriptor = v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 1, Annotations: map[string]string{"a": strings.Repeat("x", heavy)}}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b origin.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	h := serve.New(fake{referrers: func(p origin.Page) (origin.List[origin.Descriptor], error) {
		from, found := slices.BinarySearchFunc(all, p.After, func(d origin.Descriptor, after string) int { return strings.Compare(d.Digest.String(), after) })
		if found {
			from++
		}
		to := min(from+p.N, many)
		return origin.List[origin.Descriptor]{Items: all[from:to], More: to < many}, nil
	}}, serve.Options{Names: names{}})
	target := "/v2/app/referrers/" + string(sha256A) + "?artifactType=a%2Fb&ns=docker.io"
	var got []digest.Digest
	for pages := 0; target != ""; pages++ {
		if pages > 10 {
			t.Fatal("the pages do not end")
		}
		w := get(t, h, "GET", target, "")
		if w.Body.Len() > 4<<20 || w.Code != 200 {
			t.Fatalf("%d, %d bytes", w.Code, w.Body.Len())
		}
		var index v1.Index
		if err := json.Unmarshal(w.Body.Bytes(), &index); err != nil {
			t.Fatal(err)
		}
		for _, d := range index.Manifests {
			got = append(got, d.Digest)
		}
		target, _, _ = strings.Cut(strings.TrimPrefix(w.Header().Get("Link"), "<"), ">")
		if target != "" && (!strings.Contains(target, "artifactType=a%2Fb") || !strings.Contains(target, "ns=docker.io")) {
			t.Fatalf("the link forgets what was asked: %s", target)
		}
	}
	if len(got) != many || !slices.IsSorted(got) || len(slices.Compact(got)) != many {
		t.Errorf("%d of %d referrers", len(got), many)
	}
}

// TestBodyFails: a body that ends too early, or in an error, ends in a cut
// connection and never as if it were complete.
func TestBodyFails(t *testing.T) {
	d := digest.FromString("0123456789")
	for name, c := range map[string]struct {
		r      io.Reader
		length int64
	}{
		"too short":          {strings.NewReader("01234"), 10},
		"an error":           {io.MultiReader(strings.NewReader("01234"), iotestErr{}), 10},
		"an error, unsized":  {io.MultiReader(strings.NewReader("01234"), iotestErr{}), -1},
		"an error, at once":  {iotestErr{}, 10},
		"writes itself, bad": {writerTo{}, 10},
	} {
		closed := 0
		var log bytes.Buffer
		h := serve.New(fake{blob: blobs(func(store.Range) (origin.Blob, error) {
			b := origin.Blob{Length: c.length, Body: body{c.r, &closed}}
			if wt, ok := c.r.(writerTo); ok {
				wt.closed = &closed
				b.Body = wt
			}
			b.Descriptor.Descriptor = v1.Descriptor{Digest: d, Size: c.length}
			return b, nil
		})}, serve.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		w, err := ask(h, request("GET", "/v2/app/blobs/"+string(d), ""))
		if !errors.Is(err, errCut) || closed != 1 || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%s: %v, %q, closed %d times, logged %q", name, err, w.Body, closed, log.String())
		}
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("upstream is gone") }

type writerTo struct{ closed *int }

func (writerTo) Read([]byte) (int, error) { panic("it writes itself") }

func (writerTo) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write([]byte("0123"))
	return int64(n), errors.Join(err, errors.New("digest does not match"))
}
func (w writerTo) Close() error { *w.closed++; return nil }

// What an upstream sends as a drawing with scripts acts for nobody: the pages for people
// have the same origin.
func TestContentRunsNothing(t *testing.T) {
	svg := []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)
	h := serve.New(fake{
		manifest: func(origin.Repo, origin.Ref) (origin.Manifest, error) {
			return origin.Manifest{Bytes: svg, Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{
				MediaType: "image/svg+xml", Digest: digest.FromBytes(svg), Size: int64(len(svg)),
			}}}, nil
		},
		blob: blobs(func(store.Range) (origin.Blob, error) {
			return origin.Blob{Length: int64(len(svg)), Body: io.NopCloser(bytes.NewReader(svg))}, nil
		}),
	}, serve.Options{})
	for _, path := range []string{"manifests/v1", "manifests/" + digest.FromBytes(svg).String(), "blobs/" + digest.FromBytes(svg).String()} {
		w := get(t, h, "GET", "/v2/a/"+path, "")
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != http.StatusOK || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "sandbox") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}
