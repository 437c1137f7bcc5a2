package egress_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
)

func parsed(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A request arrives as it is, whatever its method, with the client's own headers.
func TestRequestsWithBodies(t *testing.T) {
	for _, method := range []string{"POST", "PATCH", "PUT", "DELETE", "GET", "HEAD"} {
		for _, length := range []int64{-1, 0, 5} {
			var got string
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				got = fmt.Sprintf("%s %s %q %d %s %s %s %v", r.Method, r.URL, b, r.ContentLength,
					r.Header.Get("Content-Type"), r.Header.Get("Authorization"), r.UserAgent(), err)
			}))
			c := egress.New(egress.Options{URL: parsed(t, s.URL), UserAgent: "weir/test"})
			q := egress.Request{
				Method: method, URL: parsed(t, s.URL+"/x?a=b"), Bulk: length > 0,
				Header: http.Header{"Content-Type": {"a/b"}, "Authorization": {"forged"}, "User-Agent": {"forged"}},
			}
			want := fmt.Sprintf("%s /x?a=b %q %d a/b Basic x weir/test <nil>", method, "", 0)
			if length != 0 {
				if method == "GET" || method == "HEAD" {
					s.Close()
					continue
				}
				q.Body, q.Length = io.NopCloser(strings.NewReader("hello")), length
				want = fmt.Sprintf("%s /x?a=b %q %d a/b Basic x weir/test <nil>", method, "hello", length)
			}
			a, err := c.Send(t.Context(), q, egress.Conceal("Basic x"))
			if err != nil {
				t.Fatal(err)
			}
			a.Discard()
			if got != want {
				t.Errorf("%s, length %d: got\n\t%s\nwant\n\t%s", method, length, got, want)
			}
			c.Close()
			s.Close()
		}
	}
}

// What a redirect may do with a request that has a body, or changes something.
func TestRedirectsOfBodies(t *testing.T) {
	const gone = "is redirected with status"
	tests := []struct {
		method string
		body   string // "none", "once", "again"
		status int
		want   []string // what the server was sent
		err    string
	}{
		{"GET", "none", 301, []string{"GET /a ", "GET /b "}, ""},
		{"HEAD", "none", 303, []string{"HEAD /a ", "HEAD /b "}, ""},
		{"POST", "none", 307, []string{"POST /a ", "POST /b "}, ""},
		{"POST", "none", 302, []string{"POST /a "}, gone},
		{"DELETE", "none", 308, []string{"DELETE /a ", "DELETE /b "}, ""},
		{"DELETE", "none", 301, []string{"DELETE /a "}, gone},
		{"PUT", "again", 307, []string{"PUT /a body", "PUT /b body"}, ""},
		{"PATCH", "again", 308, []string{"PATCH /a body", "PATCH /b body"}, ""},
		{"PUT", "again", 301, []string{"PUT /a body"}, gone},
		{"PUT", "again", 303, []string{"PUT /a body"}, gone},
		{"PATCH", "once", 307, []string{"PATCH /a body"}, egress.ErrReplay.Error()},
		{"PATCH", "once", 302, []string{"PATCH /a body"}, gone},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.method, " ", test.body, " ", test.status), func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				mu.Lock()
				got = append(got, fmt.Sprintf("%s %s %s", r.Method, r.URL, b))
				mu.Unlock()
				if auth := r.Header.Get("Authorization"); (auth != "") != (r.URL.Path == "/a") {
					t.Errorf("%s came with %q", r.URL, auth)
				}
				if r.URL.Path == "/a" {
					w.Header().Set("Location", "/b")
					w.WriteHeader(test.status)
				}
			}))
			defer s.Close()
			c := egress.New(egress.Options{URL: parsed(t, s.URL)})
			defer c.Close()
			q := egress.Request{Method: test.method, URL: parsed(t, s.URL+"/a"), Length: 4}
			opened, closed := 0, 0
			again := func() (io.ReadCloser, error) {
				opened++
				return &noting{Reader: strings.NewReader("body"), closed: func() { mu.Lock(); closed++; mu.Unlock() }}, nil
			}
			switch test.body {
			case "once":
				q.Body, _ = again()
			case "again":
				q.GetBody = again
			}
			a, err := c.Follow(t.Context(), q, egress.Conceal("Basic x"))
			if err == nil {
				if !a.Led || a.StatusCode != http.StatusOK || a.At.Path != "/b" {
					t.Errorf("%v from %s", a.Status, a.At)
				}
				a.Discard()
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, test.want) {
				t.Errorf("sent %q, want %q", got, test.want)
			}
			if closed != opened {
				t.Errorf("%d bodies opened, %d closed", opened, closed)
			}
		})
	}
}

// noting tells when it is closed for the first time.
type noting struct {
	io.Reader
	closed func()
}

func (n *noting) Close() error {
	if n.closed != nil {
		n.closed()
		n.closed = nil
	}
	return nil
}

// A body that is refused before it is sent is closed all the same.
func TestRefusedBodyIsClosed(t *testing.T) {
	c := egress.New(egress.Options{URL: parsed(t, "https://h")})
	for at, authorization := range map[string]egress.Secret{
		"https://h:444/":   egress.Conceal("Basic x"),
		"https://10.0.0.1": {},
		"http://h/":        {},
		"https://u:p@h/":   {},
		"file:///etc":      {},
	} {
		closed := false
		body := &noting{Reader: strings.NewReader("x"), closed: func() { closed = true }}
		_, err := c.Send(t.Context(), egress.Request{Method: http.MethodPut, URL: parsed(t, at), Body: body, Length: 1}, authorization)
		if err == nil || !closed {
			t.Errorf("%s: closed %t, %v", at, closed, err)
		}
	}
}

type wire func(*http.Request) (*http.Response, error)

func (f wire) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A body is cut when it cannot be sent on for the stall time. What its source takes
// to give more of it does not count.
func TestSendingStalls(t *testing.T) {
	const stall = 30 * time.Second
	tests := map[string]struct {
		source, network time.Duration // for each byte
		stalled         bool
	}{
		"steady":          {},
		"a slow source":   {source: 10 * stall},
		"a slow network":  {network: stall - 1},
		"a stuck network": {network: stall + 1, stalled: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := 0
				c := egress.New(egress.Options{
					URL: parsed(t, "https://h"), Timeouts: egress.Timeouts{Stall: stall},
					Network: egress.Network{RoundTripper: wire(func(r *http.Request) (*http.Response, error) {
						defer r.Body.Close()
						for b := make([]byte, 1); ; got++ {
							if _, err := r.Body.Read(b); err == io.EOF {
								return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody}, nil
							} else if err != nil {
								return nil, err
							}
							select {
							case <-time.After(test.network):
							case <-r.Context().Done():
								return nil, r.Context().Err()
							}
						}
					})},
				})
				body := &dripping{left: 5, every: test.source}
				a, err := c.Send(t.Context(), egress.Request{Method: http.MethodPatch, URL: parsed(t, "https://h/"), Body: body, Length: 5}, egress.Secret{})
				if test.stalled {
					if !errors.Is(err, egress.ErrStalled) {
						t.Error(err)
					}
					return
				}
				if err != nil || got != 5 {
					t.Fatal(got, err)
				}
				time.Sleep(2 * stall) // the watch is over: it takes no answer away
				if _, err := io.ReadAll(a.Body); err != nil {
					t.Error(err)
				}
				a.Discard()
			})
		})
	}
}

// dripping gives a byte at a time.
type dripping struct {
	left  int
	every time.Duration
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.every)
	d.left--
	return copy(p, "x"), nil
}

func (*dripping) Close() error { return nil }

// The caller's own end is the caller's own error.
func TestCancelledRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := egress.New(egress.Options{URL: parsed(t, "https://h"), Network: egress.Network{RoundTripper: wire(func(r *http.Request) (*http.Response, error) {
		cancel()
		<-r.Context().Done()
		return nil, errors.New("whatever")
	})}})
	if _, err := c.Send(ctx, egress.Request{URL: parsed(t, "https://h/")}, egress.Secret{}); err != context.Canceled {
		t.Error(err)
	}
}

func TestTrusts(t *testing.T) {
	for _, test := range []struct {
		own   string
		hosts []string
		at    string
		want  bool
	}{
		{"https://h", nil, "https://h/token", true},
		{"https://h", nil, "https://H:443/token", true},
		{"https://h", nil, "https://h:444/token", false},
		{"https://h", nil, "http://h:443/token", false},
		{"https://h", []string{"auth.h"}, "https://auth.h/token", true},
		{"https://h", []string{"Auth.h"}, "https://aUTH.h:443/token", true},
		{"https://h", []string{"auth.h"}, "https://auth.h:444/token", false},
		{"https://h", []string{"auth.h"}, "http://auth.h/token", false},
		{"https://h", []string{"auth.h"}, "http://auth.h:443/token", false},
		{"https://h", []string{"auth.h"}, "https://x.auth.h/token", false},
		{"https://h", []string{"auth.h"}, "https://auth.h.evil/token", false},
		{"https://h", []string{"auth.h:8443"}, "https://auth.h:8443/token", true},
		{"https://h", []string{"auth.h:8443"}, "https://auth.h/token", false},
		{"https://h", []string{"[2606:4700::1]:8443"}, "https://[2606:4700::1]:8443/token", true},
		{"http://h", []string{"auth.h"}, "http://auth.h/token", true},
		{"http://h", []string{"auth.h"}, "https://auth.h/token", true},
		{"http://h", []string{"auth.h"}, "http://auth.h:443/token", false},
		{"http://h", nil, "https://h:80/token", true},
	} {
		c := egress.New(egress.Options{URL: parsed(t, test.own), TokenHosts: test.hosts})
		if got := c.Trusts(parsed(t, test.at)); got != test.want {
			t.Errorf("%s with %q at %s: %t", test.own, test.hosts, test.at, got)
		}
	}
}
