package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

// An endpoint is there if it says anything but that it cannot, and is asked without
// credentials, with a single request.
func TestPing(t *testing.T) {
	for _, x := range []struct {
		status int
		there  bool
	}{{200, true}, {401, true}, {403, true}, {404, true}, {429, false}, {500, false}, {503, false}} {
		u := remotetest.New(t)
		if x.status != 200 {
			u.Fault("GET /v2/", remotetest.Status(x.status))
		}
		err := open(t, u.URL(), as("user", "canary")).Ping(t.Context())
		if (err == nil) != x.there {
			t.Errorf("%d: %v", x.status, err)
		}
		if !x.there && upstreamError(t, err).Silent {
			t.Errorf("%d is silence", x.status)
		}
		equal(t, u.Requests(), []string{fmt.Sprintf("GET /v2/ %d", x.status)})
		if got := u.Log()[0].Header.Get("Authorization"); got != "" {
			t.Errorf("a probe has credentials: %s", got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, remotetest.New(t).URL()).Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// mute accepts connections, and says nothing on them.
func mute(t *testing.T, scheme string) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &url.URL{Scheme: scheme, Host: l.Addr().String()}
}

// Silence is what comes of an endpoint, or of its token server, that gives no answer:
// not an answer that is wrong or breaks off, nor what is wrong with another host.
func TestSilence(t *testing.T) {
	closed := mute(t, "http")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Host = l.Addr().String()
	_ = l.Close()
	within := func(each time.Duration) func(*remote.Options) {
		return func(o *remote.Options) { o.Timeouts = remote.Timeouts{Connect: each, Header: each, Stall: each} }
	}
	d := remotetest.New(t).AddBlob("x", []byte("0123456789")).Digest
	with := func(match string, f remotetest.Fault) *url.URL {
		u := remotetest.New(t)
		u.AddBlob("x", []byte("0123456789"))
		u.Fault(match, f)
		return u.URL()
	}
	tokens := remotetest.New(t)
	tokens.Bearer(remotetest.Bearer{})
	tokens.Fault("token", remotetest.Hang())
	cdn := remotetest.New(t)
	cdn.AddBlob("x", []byte("0123456789"))
	cdn.CDN()
	cdn.Fault("cdn:", remotetest.Hang())
	for name, x := range map[string]struct {
		at     *url.URL
		silent bool
	}{
		"refused":            {closed, true},
		"mute":               {mute(t, "http"), true},
		"mute, TLS":          {mute(t, "https"), true},
		"plain, TLS":         {&url.URL{Scheme: "https", Host: remotetest.New(t).Host()}, true},
		"unknown authority":  {remotetest.NewTLS(t).URL(), true},
		"hanging":            {with("/blobs/", remotetest.Hang()), true},
		"token server hangs": {tokens.URL(), true},
		"CDN hangs":          {cdn.URL(), false},
		"to nowhere":         {with("/blobs/", remotetest.Redirect(closed.String())), false},
		"503":                {with("/blobs/", remotetest.Status(503)), false},
		"HTML":               {with("/blobs/", remotetest.HTML()), false},
		"cut":                {with("/blobs/", remotetest.Cut(5)), false},
		"stalls":             {with("/blobs/", remotetest.HangAt(5)), false},
	} {
		patience := 100 * time.Millisecond
		if !x.silent {
			patience = 5 * time.Second // in which a busy machine answers
		}
		b, err := open(t, x.at, within(patience)).Blob(t.Context(), repo(t, "x"), d, store.Range{})
		if err == nil {
			for err == nil {
				_, err = b.Body.Read(make([]byte, 16))
			}
			_ = b.Body.Close()
		}
		if e := upstreamError(t, err); e.Silent != x.silent || !e.Outage() {
			t.Errorf("%s: silent is %t: %v", name, e.Silent, err)
		}
	}
}

// What an endpoint says of its limits is told of every answer, a refusal too; what a
// CDN says of its own is not.
func TestLimitsAreTold(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	img := u.AddImage("x", "1", []byte("layer"))
	says := func(match, limit, remaining string) func() {
		undo := u.Fault(match, remotetest.Header("Ratelimit-Limit", limit))
		u.Fault(match, remotetest.Header("Ratelimit-Remaining", remaining))
		return undo
	}
	var mu sync.Mutex
	var told []string
	r := open(t, u.URL(), func(o *remote.Options) {
		o.OnLimit = func(limit, remaining int, window time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprintf("%d of %d in %v", remaining, limit, window))
		}
	})
	if _, err := r.Manifest(t.Context(), repo(t, "x"), ref(t, "1")); err != nil { // says nothing
		t.Fatal(err)
	}
	says("HEAD /v2/x/manifests", "100;w=21600", "76;w=21600")
	says("GET /v2/x/manifests", "100;w=21600", "75;w=21600")
	says("cdn:", "5;w=1", "1;w=1")
	if _, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), repo(t, "x"), ref(t, "1")); err != nil {
		t.Fatal(err)
	}
	readBlob(t, r, repo(t, "x"), img.Layers[0].Digest)
	u.Fault("GET /v2/x/manifests", remotetest.Status(429, "Retry-After", "30", "Ratelimit-Limit", "100;w=21600", "Ratelimit-Remaining", "0;w=21600"))
	_, err := r.Manifest(t.Context(), repo(t, "x"), ref(t, "1"))
	if e := upstreamError(t, err); !e.Limited() || e.RetryAfter != 30*time.Second {
		t.Errorf("%v", err)
	}
	want := []string{"76 of 100 in 6h0m0s", "75 of 100 in 6h0m0s", "0 of 100 in 6h0m0s"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
