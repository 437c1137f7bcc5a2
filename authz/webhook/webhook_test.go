package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a webhook over HTTP, and counts what it is asked.
type server struct {
	*httptest.Server
	asked atomic.Int32
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func transport(t *testing.T) *http.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func open(t *testing.T, address string, o webhook.Options) *webhook.Webhook {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	o.Name, o.URL = "opa", u
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Transport == nil {
		o.Transport = transport(t)
	}
	w, err := webhook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var (
	ann  = authz.Identity{ID: "basic:ann", Username: "ann", Method: authz.MethodBasic, Client: authz.Client{IP: netip.MustParseAddr("192.0.2.7")}}
	pull = authz.Access{Action: authz.Pull, Operation: "get-manifest", Repository: "team/app", Tag: "v1"}
)

// outcome is an answer as a test writes it: yes, no, or fault.
func outcome(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return "yes"
	}
	d, ok := errors.AsType[*authz.Denial](err)
	switch {
	case !ok || d.By != "webhook opa":
		t.Errorf("the error is %v", err)
		return "none"
	case d.Cause != nil:
		return "fault"
	}
	return "no"
}

// TestAnswers is S-8's part of webhooks: each way in which one can answer, what that
// means, and that an answer is kept and a fault is not.
func TestAnswers(t *testing.T) {
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) {})
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	redirect := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, code) }
	}
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, text)
		}
	}
	body := func(code, size int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			block := bytes.Repeat([]byte("x"), 1<<10)
			for n := 0; n < size; n += len(block) {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	}
	for _, test := range []struct {
		name  string
		serve http.HandlerFunc
		want  string
	}{
		{"200", status(200), "yes"},
		{"201", status(201), "yes"},
		{"204", status(204), "yes"},
		{"299", status(299), "yes"},
		{"200 that says no in its body", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"allow":false}`) }, "yes"},
		{"64 KiB", body(200, 64<<10), "yes"},
		{"401", status(401), "no"},
		{"403", status(403), "no"},
		{"400", status(400), "fault"},
		{"404", status(404), "fault"},
		{"407", status(407), "fault"},
		{"408", status(408), "fault"},
		{"429", status(429), "fault"},
		{"500", status(500), "fault"},
		{"502", status(502), "fault"},
		{"503", status(503), "fault"},
		{"504", status(504), "fault"},
		{"304", status(304), "fault"},
		{"300", status(300), "fault"},
		{"301 to a yes", redirect(301), "fault"},
		{"302 to a yes", redirect(302), "fault"},
		{"303 to a yes", redirect(303), "fault"},
		{"307 to a yes", redirect(307), "fault"},
		{"308 to a yes", redirect(308), "fault"},
		{"65 KiB", body(200, 65<<10), "fault"},
		{"65 KiB of no", body(403, 65<<10), "fault"},
		{"1 GiB", body(200, 1<<30), "fault"},
		{"garbage", raw("\x00\xffthis is no HTTP\r\n\r\n"), "fault"},
		{"nothing", raw(""), "fault"},
		{"a cut header", raw("HTTP/1.1 200 OK\r\nContent-Len"), "fault"},
		{"a cut body", raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"), "fault"},
		{"a cut chunk", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"), "fault"},
		{"a status of 4 digits", raw("HTTP/1.1 2000 OK\r\n\r\n"), "fault"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, test.serve)
			var results []webhook.Result
			w := open(t, s.URL, webhook.Options{TTL: time.Hour, Asked: func(r webhook.Result, _ time.Duration) { results = append(results, r) }})
			for range 2 {
				if got := outcome(t, w.Authorize(t.Context(), ann, pull)); got != test.want {
					t.Errorf("means %s, want %s", got, test.want)
				}
			}
			asked, result := int32(1), map[string]webhook.Result{"yes": webhook.Allowed, "no": webhook.Denied}[test.want]
			if test.want == "fault" {
				asked, result = 2, webhook.Failed
			}
			if s.asked.Load() != asked {
				t.Errorf("asked %d times, want %d", s.asked.Load(), asked)
			}
			if !slices.Equal(results, slices.Repeat([]webhook.Result{result}, int(asked))) {
				t.Errorf("counted as %q", results)
			}
		})
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

// TestSilence: what does not come in time denies, when the timeout has passed: silence
// before the header, within the body, and a drip that never ends.
func TestSilence(t *testing.T) {
	const timeout = 200 * time.Millisecond
	for name, h := range map[string]http.HandlerFunc{
		"no header": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"no end of the body": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"a drip": func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-r.Context().Done():
					return
				case <-tick.C:
					_, _ = io.WriteString(w, ".")
					_ = http.NewResponseController(w).Flush()
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, h)
			w := open(t, s.URL, webhook.Options{Timeout: timeout, TTL: time.Hour})
			begun := time.Now()
			err := w.Authorize(t.Context(), ann, pull)
			took := time.Since(begun)
			if got := outcome(t, err); got != "fault" {
				t.Errorf("means %s", got)
			}
			if took < timeout {
				t.Errorf("took %s", took)
			}
			if !strings.Contains(err.Error(), "no answer in time: 200ms") {
				t.Errorf("the error is %v", err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		s := serve(t, func(http.ResponseWriter, *http.Request) {})
		s.Close()
		err := open(t, s.URL, webhook.Options{}).Authorize(t.Context(), ann, pull)
		if got := outcome(t, err); got != "fault" || strings.Contains(err.Error(), "http://") {
			t.Errorf("means %s: %v", got, err)
		}
	})
}

// TestQuestion is what a webhook gets to see.
func TestQuestion(t *testing.T) {
	var got struct {
		method, kind, authorization string
		body                        map[string]map[string]any
	}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got.method, got.kind, got.authorization = r.Method, r.Header.Get("Content-Type"), r.Header.Get("Authorization")
		if err := json.NewDecoder(r.Body).Decode(&got.body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	w := open(t, s.URL+"/decide", webhook.Options{Authorization: func() (string, error) { return "Bearer t0ken", nil }})
	what := pull
	what.Time = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	if err := w.Authorize(t.Context(), ann, what); err != nil {
		t.Fatal(err)
	}
	if got.method != "POST" || got.kind != "application/json" || got.authorization != "Bearer t0ken" {
		t.Errorf("%s of %s by %q", got.method, got.kind, got.authorization)
	}
	if id, at := got.body["identity"]["id"], got.body["request"]["time"]; id != "basic:ann" || at != "2026-11-27T00:00:00Z" || len(got.body) != 2 {
		t.Errorf("the question is %v", got.body)
	}

	failing := open(t, s.URL, webhook.Options{Authorization: func() (string, error) { return "", errors.New("its file is gone") }})
	if got := outcome(t, failing.Authorize(t.Context(), ann, pull)); got != "fault" {
		t.Errorf("without its credential it means %s", got)
	}
}

// roundTrip is a transport that needs no network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answering(status *int, asked *int) roundTrip {
	return func(*http.Request) (*http.Response, error) {
		*asked++
		return &http.Response{StatusCode: *status, Body: http.NoBody}, nil
	}
}

// TestKept: both answers hold for the TTL, under all of the question but its time.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status, asked := 200, 0
		w := open(t, "http://opa", webhook.Options{TTL: time.Minute, Transport: answering(&status, &asked)})
		ask := func(who authz.Identity, what authz.Access, want string, times int) {
			t.Helper()
			what.Time = time.Now()
			if got := outcome(t, w.Authorize(t.Context(), who, what)); got != want || asked != times {
				t.Errorf("%s after %d requests, want %s after %d", got, asked, want, times)
			}
		}
		ask(ann, pull, "yes", 1)
		status = 403
		time.Sleep(time.Minute - 1)
		ask(ann, pull, "yes", 1)
		time.Sleep(time.Nanosecond)
		ask(ann, pull, "no", 2)
		status = 200
		time.Sleep(time.Minute - 1)
		ask(ann, pull, "no", 2)
		time.Sleep(time.Nanosecond)
		ask(ann, pull, "yes", 3)
		status = 503
		time.Sleep(time.Minute)
		ask(ann, pull, "fault", 4)
		ask(ann, pull, "fault", 5)
		status = 200
		ask(ann, pull, "yes", 6)
		ask(ann, pull, "yes", 6)

		// Whatever else is asked, or whoever asks, is another question.
		others := []func(*authz.Identity, *authz.Access){
			func(i *authz.Identity, _ *authz.Access) { i.ID = "basic:bob" },
			func(i *authz.Identity, _ *authz.Access) { i.Username = "bob" },
			func(i *authz.Identity, _ *authz.Access) { i.Groups = []string{"admins"} },
			func(i *authz.Identity, _ *authz.Access) { i.Method = authz.MethodToken },
			func(i *authz.Identity, _ *authz.Access) { i.Client.IP = netip.MustParseAddr("192.0.2.8") },
			func(i *authz.Identity, _ *authz.Access) { i.Certificate = &authz.Certificate{CommonName: "n"} },
			func(i *authz.Identity, _ *authz.Access) { i.OIDC = &authz.OIDC{Claims: map[string]any{"ref": "a"}} },
			func(i *authz.Identity, _ *authz.Access) { i.OIDC = &authz.OIDC{Claims: map[string]any{"ref": "b"}} },
			func(_ *authz.Identity, a *authz.Access) { a.Action = authz.Push },
			func(_ *authz.Identity, a *authz.Access) { a.Operation = "get-blob" },
			func(_ *authz.Identity, a *authz.Access) { a.Repository = "team/other" },
			func(_ *authz.Identity, a *authz.Access) { a.Upstream = "docker.io" },
			func(_ *authz.Identity, a *authz.Access) { a.Tag = "v2" },
			func(_ *authz.Identity, a *authz.Access) { a.Digest = "sha256:0" },
			func(_ *authz.Identity, a *authz.Access) { a.From = "team/from" },
			func(_ *authz.Identity, a *authz.Access) { a.ArtifactType = "sbom" },
			func(_ *authz.Identity, a *authz.Access) { a.MediaType = "index" },
			func(_ *authz.Identity, a *authz.Access) { a.Size = 7 },
		}
		for i, other := range others {
			who, what := ann, pull
			other(&who, &what)
			ask(who, what, "yes", 7+i)
			ask(who, what, "yes", 7+i)
		}
		ask(ann, pull, "yes", 6+len(others))
	})
}

// TestNotKept: with a TTL of 0 each question is asked.
func TestNotKept(t *testing.T) {
	status, asked := 200, 0
	w := open(t, "http://opa", webhook.Options{Transport: answering(&status, &asked)})
	for range 3 {
		if err := w.Authorize(t.Context(), ann, pull); err != nil {
			t.Error(err)
		}
	}
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}

// TestAskedOnce: a hundred ask the same while the first request is on its way: it
// serves them all, also when who asked first has left by then.
func TestAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, let := 0, make(chan struct{})
		w := open(t, "http://opa", webhook.Options{TTL: time.Minute, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked++
			select {
			case <-let:
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})})
		ctx, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if err := w.Authorize(ctx, ann, pull); !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait() // the first is asking
		for range 100 {
			waiting.Go(func() {
				if err := w.Authorize(t.Context(), ann, pull); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // the others wait for it
		leave()
		synctest.Wait()
		close(let)
		waiting.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}
