package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

// wire answers without a network.
type wire func(*http.Request) (*http.Response, error)

func (f wire) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(r *http.Request, status int, body io.Reader, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(body), Request: r, ContentLength: -1}
}

// without is a registry whose requests f answers.
func without(t *testing.T, f wire) *Registry {
	t.Helper()
	r, err := New(Options{URL: &url.URL{Scheme: "https", Host: "h"}, Network: egress.Network{RoundTripper: f}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var timeBlob = digest.FromString("blob")

func parsed(t *testing.T, name string) origin.Repo {
	t.Helper()
	r, err := origin.ParseRepo(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pipe answers with a body whose bytes come when they are written; closing the
// request's context breaks it off, as net/http does.
func pipe(r *http.Request) (*http.Response, *io.PipeWriter) {
	pr, pw := io.Pipe()
	context.AfterFunc(r.Context(), func() { pr.CloseWithError(r.Context().Err()) })
	resp := reply(r, http.StatusOK, nil)
	resp.Body = pr
	return resp, pw
}

func TestStall(t *testing.T) {
	const stall = 30 * time.Second
	tests := map[string]struct {
		gaps    []time.Duration // before each byte
		pauses  time.Duration   // of the reader, before each read
		stalled bool
	}{
		"steady":        {gaps: []time.Duration{0, 0, 0}},
		"slow":          {gaps: []time.Duration{stall - 1, stall - 1, stall - 1, stall - 1}},
		"stuck":         {gaps: []time.Duration{0, stall + 1}, stalled: true},
		"silent":        {gaps: []time.Duration{stall + 1}, stalled: true},
		"a slow reader": {gaps: []time.Duration{0, 0, 0}, pauses: 10 * stall},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := without(t, func(req *http.Request) (*http.Response, error) {
					if req.URL.Path == "/v2/" {
						return reply(req, http.StatusOK, http.NoBody), nil
					}
					resp, w := pipe(req)
					go func() {
						for _, gap := range test.gaps {
							time.Sleep(gap)
							if _, err := w.Write([]byte("x")); err != nil {
								return
							}
						}
						w.Close()
					}()
					return resp, nil
				})
				b, err := r.Blob(t.Context(), parsed(t, "x"), timeBlob, store.Range{})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					b.Body.Close()
					time.Sleep(2 * stall) // the upstream notices
				}()
				began, n := time.Now(), 0
				for err == nil {
					time.Sleep(test.pauses)
					var k int
					k, err = b.Body.Read(make([]byte, 8))
					n += k
				}
				if !test.stalled {
					if err != io.EOF || n != len(test.gaps) {
						t.Errorf("%d bytes, %v", n, err)
					}
					return
				}
				e, ok := errors.AsType[*origin.UpstreamError](err)
				if !ok || !e.Outage() || !e.Timeout || n != len(test.gaps)-1 || time.Since(began) != stall {
					t.Errorf("%d bytes in %s, %v", n, time.Since(began), err)
				}
				if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
					t.Errorf("taken for the caller's own: %v", err)
				}
			})
		})
	}
}

// A caller that leaves while a body is read has its own error, and the request is
// given up.
func TestLeaverOfABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent *http.Request
		r := without(t, func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/v2/" {
				return reply(req, http.StatusOK, http.NoBody), nil
			}
			sent = req
			resp, _ := pipe(req)
			return resp, nil
		})
		ctx, leave := context.WithCancel(t.Context())
		b, err := r.Blob(ctx, parsed(t, "x"), timeBlob, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, leave)
		if _, err := b.Body.Read(make([]byte, 1)); err != context.Canceled {
			t.Error(err)
		}
		if sent.Context().Err() == nil {
			t.Error("the request goes on")
		}
		b.Body.Close()
	})
}

// tokens is an upstream that wants tokens of some life, and counts.
func tokens(life int, pings, tokens *int) wire {
	return func(req *http.Request) (*http.Response, error) {
		switch {
		case req.URL.Path == "/token":
			*tokens++
			return reply(req, http.StatusOK, strings.NewReader(fmt.Sprintf(`{"token":"t","expires_in":%d}`, life))), nil
		case req.URL.Path == "/v2/":
			*pings++
		case req.Header.Get("Authorization") == "Bearer t":
			return reply(req, http.StatusOK, http.NoBody), nil
		}
		return reply(req, http.StatusUnauthorized, http.NoBody, "WWW-Authenticate", `Bearer realm="https://h/token"`), nil
	}
}

func TestTokenIsKeptAndHadAgainEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nPings, nTokens int
		r := without(t, tokens(300, &nPings, &nTokens))
		for _, step := range []struct {
			at   time.Duration
			want int
		}{{0, 1}, {time.Second, 1}, {269 * time.Second, 1}, {270 * time.Second, 2}, {500 * time.Second, 2}, {24 * time.Hour, 3}} {
			time.Sleep(step.at - time.Since(start()))
			if _, err := r.Stat(t.Context(), parsed(t, "x"), timeBlob); err != nil {
				t.Fatal(err)
			}
			if nTokens != step.want {
				t.Errorf("after %s: %d tokens, want %d", step.at, nTokens, step.want)
			}
		}
		if nPings != 1 {
			t.Errorf("%d pings", nPings)
		}
	})
}

// The token server of an endpoint moves while no token is kept, and where it was is
// something that fails, for good: the endpoint is asked anew. One that refuses may be right,
// so for that it is asked once in a minute.
func TestTokenServerMoves(t *testing.T) {
	status := func(status int) wire {
		return func(req *http.Request) (*http.Response, error) { return reply(req, status, http.NoBody), nil }
	}
	for name, test := range map[string]struct {
		left   wire // what is where it was
		denies bool
	}{
		"404": {left: status(http.StatusNotFound)},
		"410": {left: status(http.StatusGone)},
		"500": {left: status(http.StatusInternalServerError)},
		"401": {left: status(http.StatusUnauthorized), denies: true},
		"403": {left: status(http.StatusForbidden), denies: true},
		"nobody": {left: func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}},
		"a page": {left: func(req *http.Request) (*http.Response, error) {
			return reply(req, http.StatusOK, strings.NewReader("<html>"), "Content-Type", "text/html"), nil
		}},
		"elsewhere": {left: func(req *http.Request) (*http.Response, error) {
			return reply(req, http.StatusFound, http.NoBody, "Location", "https://h/portal"), nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []string
				realm := "/old"
				r := without(t, func(req *http.Request) (*http.Response, error) {
					asked = append(asked, req.Method+" "+req.URL.Path)
					switch {
					case req.URL.Path == "/portal":
						return reply(req, http.StatusOK, strings.NewReader("hello")), nil
					case req.URL.Path == "/old" && realm != "/old":
						return test.left(req)
					case req.URL.Path == "/old", req.URL.Path == "/new":
						return reply(req, http.StatusOK, strings.NewReader(`{"token":"t","expires_in":300}`)), nil
					case req.URL.Path != "/v2/" && req.Header.Get("Authorization") == "Bearer t":
						return reply(req, http.StatusOK, http.NoBody), nil
					}
					return reply(req, http.StatusUnauthorized, http.NoBody, "WWW-Authenticate", `Bearer realm="https://h`+realm+`"`), nil
				})
				head := "HEAD /v2/x/blobs/" + timeBlob.String()
				step := func(fails bool, want ...string) {
					t.Helper()
					asked = nil
					_, err := r.Stat(t.Context(), parsed(t, "x"), timeBlob)
					if (err != nil) != fails {
						t.Errorf("%v", err)
					}
					if got := slices.DeleteFunc(asked, func(s string) bool { return s == "GET /portal" }); !slices.Equal(got, want) {
						t.Errorf("asked %q, want %q", got, want)
					}
				}
				step(false, "GET /v2/", "GET /old", head)
				realm = "/new"
				step(false, head) // by the token that is kept
				time.Sleep(300 * time.Second)
				step(true, "GET /old")
				step(false, "GET /v2/", "GET /new", head)
				step(false, head)
			})
		})
		if !test.denies {
			continue
		}
		t.Run(name+", of the right one", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var nPings, nTokens int
				r := without(t, func(req *http.Request) (*http.Response, error) {
					if req.URL.Path == "/token" {
						nTokens++
						return test.left(req)
					}
					return tokens(300, &nPings, new(int))(req)
				})
				for range 120 {
					if _, err := r.Stat(t.Context(), parsed(t, "x"), timeBlob); err == nil {
						t.Error("no error")
					}
					time.Sleep(time.Second)
				}
				if nPings != 2 || nTokens != 120 {
					t.Errorf("in two minutes of 120 requests: %d pings, %d for a token", nPings, nTokens)
				}
			})
		})
	}
}

// start is when a bubble's time begins.
func start() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// ACR wants another scope for tags than for the rest: it is the one of its
// challenge, unless that asks for more than to read.
func TestScopeOfAChallenge(t *testing.T) {
	for scope, ok := range map[string]bool{"repository:x:metadata_read": true, "repository:x:pull,push": false} {
		var scopes []string
		r := without(t, func(req *http.Request) (*http.Response, error) {
			switch asked := req.URL.Query().Get("scope"); {
			case req.URL.Path == "/token":
				scopes = append(scopes, asked)
				return reply(req, http.StatusOK, strings.NewReader(fmt.Sprintf(`{"token":%q}`, asked))), nil
			case req.Header.Get("Authorization") == "Bearer "+scope:
				return reply(req, http.StatusOK, strings.NewReader(`{"tags":["1"]}`)), nil
			}
			return reply(req, http.StatusUnauthorized, http.NoBody, "WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://h/token",scope=%q`, scope)), nil
		})
		_, err := r.Tags(t.Context(), parsed(t, "x"), origin.Page{N: 1})
		if (err == nil) != ok {
			t.Errorf("%s: %v", scope, err)
		}
		want := []string{"repository:x:pull"}
		if ok {
			want = append(want, scope)
		}
		if !slices.Equal(scopes, want) {
			t.Errorf("%s: tokens for %q", scope, scopes)
		}
	}
}

func TestTokensAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nPings, nTokens int
		r := without(t, tokens(300, &nPings, &nTokens))
		for i := range maxTokens + 10 {
			if _, err := r.Stat(t.Context(), parsed(t, fmt.Sprintf("x%d", i)), timeBlob); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if len(r.keys.tokens) != maxTokens {
			t.Errorf("%d tokens are kept", len(r.keys.tokens))
		}
		before := nTokens
		if _, err := r.Stat(t.Context(), parsed(t, fmt.Sprintf("x%d", maxTokens+9)), timeBlob); err != nil || nTokens != before {
			t.Errorf("the last one is not: %v", err)
		}
	})
}

// A token server that never ends its answer holds those who wait for it no longer
// than it may, and the next one asks again.
func TestTokenHasATimeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var nPings, nTokens int
		answers := tokens(300, &nPings, &nTokens)
		r := without(t, func(req *http.Request) (*http.Response, error) {
			if req.URL.Path != "/token" || asked > 0 {
				return answers(req)
			}
			asked++
			resp, w := pipe(req)
			go func() {
				for {
					time.Sleep(time.Second)
					if _, err := w.Write([]byte(" ")); err != nil {
						return
					}
				}
			}()
			return resp, nil
		})
		_, err := r.Stat(t.Context(), parsed(t, "x"), timeBlob)
		e, ok := errors.AsType[*origin.UpstreamError](err)
		if !ok || !e.Outage() || !e.Timeout || time.Since(start()) != r.keys.patience {
			t.Errorf("after %s: %v", time.Since(start()), err)
		}
		if errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("taken for the caller's own: %v", err)
		}
		if _, err := r.Stat(t.Context(), parsed(t, "x"), timeBlob); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // the upstream notices
	})
}

// The caller's own deadline is the caller's.
func TestDeadlineOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := without(t, func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Stat(ctx, parsed(t, "x"), timeBlob); err != context.DeadlineExceeded {
			t.Error(err)
		}
		synctest.Wait()
		time.Sleep(r.keys.patience) // the ping goes on for others
	})
}

// These two wait for real: it is net/http that keeps the time.
func TestNoHeaderInTime(t *testing.T) {
	u := remotetest.New(t)
	u.Gate("HEAD")
	r, err := New(Options{URL: u.URL(), Timeouts: Timeouts{Header: 50 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Stat(t.Context(), parsed(t, "x"), timeBlob)
	isTimeoutError(t, err)
}

func TestNoHandshakeInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := New(Options{URL: &url.URL{Scheme: "https", Host: l.Addr().String()}, Timeouts: Timeouts{Connect: 50 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Stat(t.Context(), parsed(t, "x"), timeBlob)
	isTimeoutError(t, err)
}

func isTimeoutError(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*origin.UpstreamError](err)
	if !ok || !e.Outage() || !e.Timeout || e.Status != 0 || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	client, ok := errors.AsType[*origin.Error](err)
	if !ok || client.HTTPStatus() != http.StatusGatewayTimeout {
		t.Errorf("the client is told %v", client)
	}
}
