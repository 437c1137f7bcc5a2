package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

// stretch reads n bytes of a blob from off on.
func stretch(t *testing.T, r *remote.Registry, in origin.Repo, d digest.Digest, off, n int64) (string, error) {
	t.Helper()
	b, err := r.Stretch(t.Context(), in, d, store.Range{Off: off, Len: n})
	if err != nil {
		return "", err
	}
	defer b.Body.Close()
	got, err := io.ReadAll(b.Body)
	return string(got), err
}

func wantStretch(t *testing.T, r *remote.Registry, in origin.Repo, d digest.Digest, off, n int64, want string) {
	t.Helper()
	if got, err := stretch(t, r, in, d, off, n); err != nil || got != want {
		t.Errorf("%d bytes at %d: %q, %v", n, off, got, err)
	}
}

// times answers the first n requests with f.
func times(n int, f remotetest.Fault) remotetest.Fault {
	var mu sync.Mutex
	return func(next http.Handler) http.Handler {
		broken := f(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			n--
			h := next
			if n >= 0 {
				h = broken
			}
			mu.Unlock()
			h.ServeHTTP(w, r)
		})
	}
}

// abort closes the connection instead of answering.
func abort() remotetest.Fault {
	return remotetest.Hook(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
}

// The ranges of a blob after the first one cost one request each and no token, and
// the address that they go to is used for nothing else.
func TestPlaceIsKept(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	u.Bearer(remotetest.Bearer{Username: "me", Password: "secret", Own: true})
	d := u.AddBlob("x", []byte("0123456789")).Digest
	u.AddBlob("y", []byte("0123456789"))
	u.Fault("cdn:", remotetest.Hook(func(_ http.ResponseWriter, req *http.Request) bool {
		for _, key := range []string{"Authorization", "Cookie", "Referer"} {
			if s := req.Header.Get(key); s != "" {
				t.Errorf("the CDN is told %s: %s", key, s)
			}
		}
		return false
	}))
	r, x := open(t, u.URL(), as("me", "secret")), repo(t, "x")
	registry, cdn := "GET /v2/x/blobs/"+d.String(), "GET cdn:/x/"+d.String()+"?signature=s3cr3t"

	wantStretch(t, r, x, d, 0, 4, "0123")
	wantStretch(t, r, x, d, 4, 4, "4567")
	u.RevokeTokens()
	wantStretch(t, r, x, d, 8, 4, "89")
	if b, err := r.Blob(t.Context(), x, d, store.Range{Off: 9}); err != nil || b.Source.Upstream != u.Host() {
		t.Errorf("%+v, %v", b, err)
	} else {
		b.Body.Close()
	}
	equal(t, u.Take(), []string{
		"GET /v2/ 401",
		"GET /token?account=me&scope=repository%3Ax%3Apull&service=remotetest 200",
		registry + " bytes=0-3 307", cdn + " bytes=0-3 206",
		cdn + " bytes=4-7 206",
		cdn + " bytes=8-11 206",
		cdn + " bytes=9- 206",
	})
	// The whole begins anew.
	readBlob(t, r, x, d)
	equal(t, u.Take(), []string{
		registry + " 401",
		"GET /token?account=me&scope=repository%3Ax%3Apull&service=remotetest 200",
		registry + " 307", cdn + " 200",
	})
	// Another repository is another right.
	wantStretch(t, r, repo(t, "y"), d, 4, 4, "4567")
	equal(t, u.Take(), []string{
		"GET /token?account=me&scope=repository%3Ay%3Apull&service=remotetest 200",
		"GET /v2/y/blobs/" + d.String() + " bytes=4-7 307", "GET cdn:/y/" + d.String() + "?signature=s3cr3t bytes=4-7 206",
	})
	// So is another digest, and a HEAD is for the endpoint.
	if _, err := stretch(t, r, x, digest.FromString("other"), 4, 4); !errors.Is(err, origin.ErrBlobUnknown) {
		t.Error(err)
	}
	if _, err := r.Stat(t.Context(), x, d); err != nil {
		t.Error(err)
	}
	equal(t, u.Take(), []string{
		"GET /v2/x/blobs/" + digest.FromString("other").String() + " bytes=4-7 404",
		"HEAD /v2/x/blobs/" + d.String() + " 307", "HEAD cdn:/x/" + d.String() + "?signature=s3cr3t 200",
	})
	// Another endpoint of the same upstream, or another identity, learns for itself.
	wantStretch(t, open(t, u.URL(), as("me", "secret")), x, d, 4, 4, "4567")
	if got := u.Count("GET /v2/x/blobs/" + d.String() + " bytes=4-7 307"); got != 1 {
		t.Errorf("asked %d times by another one", got)
	}
}

// Whatever goes wrong at an address that was kept, the endpoint is asked again,
// once, and the caller sees nothing of it.
func TestPlaceThatFails(t *testing.T) {
	tests := map[string]struct {
		fault remotetest.Fault
		lines []string // what the CDN has to say before the endpoint is asked
	}{
		"403":                {remotetest.Status(403), []string{"403"}},
		"404":                {remotetest.Status(404), []string{"404"}},
		"416":                {remotetest.Status(416), []string{"416"}},
		"429":                {remotetest.Status(429, "Retry-After", "100"), []string{"429"}},
		"503":                {remotetest.Status(503), []string{"503"}},
		"304":                {remotetest.Status(304), []string{"304"}},
		"a redirect":         {remotetest.Redirect("/elsewhere"), []string{"307"}},
		"an HTML page":       {remotetest.HTML(), []string{"200"}},
		"gzip":               {remotetest.Gzip(), []string{"206"}},
		"another range":      {remotetest.AsRange("bytes=0-3"), []string{"206"}},
		"no Content-Range":   {remotetest.Header("Content-Range", ""), []string{"206"}},
		"another digest":     {remotetest.WrongDigest(), []string{"206"}},
		"several parts":      {remotetest.AsRange("bytes=0-1,4-5"), []string{"206"}},
		"no answer":          {abort(), []string{"-", "-"}}, // net/http asks once more over a new connection
		"a length that lies": {remotetest.LengthBy(1), []string{"206"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			u.CDN()
			d := u.AddBlob("x", []byte("0123456789")).Digest
			r, x := open(t, u.URL()), repo(t, "x")
			wantStretch(t, r, x, d, 0, 4, "0123")
			u.Take()
			u.Fault("cdn:", times(len(test.lines), test.fault))
			wantStretch(t, r, x, d, 4, 4, "4567")
			cdn := "GET cdn:/x/" + d.String() + "?signature=s3cr3t bytes=4-7 "
			var want []string
			for _, line := range test.lines {
				want = append(want, cdn+line)
			}
			equal(t, u.Take(), append(want, "GET /v2/x/blobs/"+d.String()+" bytes=4-7 307", cdn+"206"))
			wantStretch(t, r, x, d, 8, 4, "89")
			equal(t, u.Take(), []string{"GET cdn:/x/" + d.String() + "?signature=s3cr3t bytes=8-11 206"})
		})
	}
}

func TestPlaceWhoseSignatureExpires(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	d := u.AddBlob("x", []byte("0123456789")).Digest
	r, x := open(t, u.URL()), repo(t, "x")
	wantStretch(t, r, x, d, 0, 4, "0123")
	u.ExpireSignatures()
	u.Take()
	wantStretch(t, r, x, d, 4, 4, "4567")
	wantStretch(t, r, x, d, 8, 4, "89")
	cdn := "GET cdn:/x/" + d.String() + "?signature="
	equal(t, u.Take(), []string{
		cdn + "s3cr3t bytes=4-7 403",
		"GET /v2/x/blobs/" + d.String() + " bytes=4-7 307", cdn + "s3cr3t2 bytes=4-7 206",
		cdn + "s3cr3t2 bytes=8-11 206",
	})
}

// What is wrong for good is asked for twice and no more, and is the endpoint's
// failure then.
func TestPlaceThatFailsForGood(t *testing.T) {
	for name, test := range map[string]struct {
		match  string
		fault  remotetest.Fault
		status int
		lines  int
	}{
		"at the CDN":        {"cdn:", remotetest.Status(403), 0, 3},
		"at the CDN, busy":  {"cdn:", remotetest.Status(429), 429, 3},
		"at both":           {"GET ", remotetest.Status(404), 404, 2},
		"at both, outage":   {"GET ", remotetest.Status(500), 500, 2},
		"at the CDN, range": {"cdn:", remotetest.AsRange("bytes=0-1"), 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			u.CDN()
			d := u.AddBlob("x", []byte("0123456789")).Digest
			r, x := open(t, u.URL()), repo(t, "x")
			wantStretch(t, r, x, d, 0, 4, "0123")
			u.Take()
			undo := u.Fault(test.match, test.fault)
			_, err := stretch(t, r, x, d, 4, 4)
			if e := upstreamError(t, err); e.Status != test.status || e.Timeout {
				t.Error(err)
			}
			if lines := u.Take(); len(lines) != test.lines {
				t.Errorf("%q", lines)
			}
			said := fmt.Sprintf("%v %+v %#v", err, r, r)
			var logged bytes.Buffer
			slog.New(slog.NewTextHandler(&logged, nil)).Info("it", "error", err, "registry", r)
			if said += logged.String(); strings.Contains(said, "s3cr3t") || strings.Contains(said, "signature") {
				t.Errorf("a signature is in %s", said)
			}
			undo()
			// Nothing is kept: it begins anew.
			wantStretch(t, r, x, d, 4, 4, "4567")
			if lines := u.Take(); len(lines) != 2 {
				t.Errorf("%q", lines)
			}
		})
	}
}

// A body that breaks off is the caller's to resume; where from is the endpoint's
// to say.
func TestPlaceWhoseBodyBreaksOff(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	content := strings.Repeat("0123456789", 10_000)
	d := u.AddBlob("x", []byte(content)).Digest
	r, x := open(t, u.URL()), repo(t, "x")
	undo := u.Fault("cdn:", remotetest.Cut(40_000))
	got, err := stretch(t, r, x, d, 0, 90_000)
	if e := upstreamError(t, err); !e.Outage() || !errors.Is(err, io.ErrUnexpectedEOF) || got != content[:40_000] {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	undo()
	u.Take()
	wantStretch(t, r, x, d, 40_000, 50_000, content[40_000:90_000])
	wantStretch(t, r, x, d, 90_000, 50_000, content[90_000:])
	cdn := "GET cdn:/x/" + d.String() + "?signature=s3cr3t"
	equal(t, u.Take(), []string{
		"GET /v2/x/blobs/" + d.String() + " bytes=40000-89999 307", cdn + " bytes=40000-89999 206",
		cdn + " bytes=90000-139999 206",
	})
}

// Whoever leaves has not found out anything about the address.
func TestLeaverAtAPlace(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	d := u.AddBlob("x", []byte("0123456789")).Digest
	r, x := open(t, u.URL()), repo(t, "x")
	wantStretch(t, r, x, d, 0, 4, "0123")
	g := u.Gate("cdn:")
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		if err := g.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		leave()
	}()
	if _, err := r.Stretch(ctx, x, d, store.Range{Off: 4}); err != context.Canceled {
		t.Error(err)
	}
	g.Open()
	u.Take()
	wantStretch(t, r, x, d, 4, 4, "4567")
	equal(t, u.Take(), []string{"GET cdn:/x/" + d.String() + "?signature=s3cr3t bytes=4-7 206"})
}

// What is kept is the end of a chain, unless that is the endpoint itself, where
// only who is let in gets an answer.
func TestPlaceIsTheEndOfAChain(t *testing.T) {
	registry, between, end := remotetest.New(t), remotetest.New(t), remotetest.New(t)
	content := []byte("0123456789")
	d := registry.AddBlob("x", content).Digest
	end.AddBlob("z", content)
	at := func(u *remotetest.Upstream, in string) string { return "/v2/" + in + "/blobs/" + d.String() }
	between.Fault("GET", remotetest.Redirect(end.URL().String()+at(end, "z")))
	undo := registry.Fault("/v2/x/blobs/", remotetest.Redirect(between.URL().String()+"/between"))
	r, x := open(t, registry.URL()), repo(t, "x")
	wantStretch(t, r, x, d, 0, 4, "0123")
	wantStretch(t, r, x, d, 4, 4, "4567")
	equal(t, registry.Take(), []string{"GET /v2/ 200", "GET " + at(registry, "x") + " bytes=0-3 307"})
	equal(t, between.Take(), []string{"GET /between bytes=0-3 307"})
	equal(t, end.Take(), []string{"GET " + at(end, "z") + " bytes=0-3 206", "GET " + at(end, "z") + " bytes=4-7 206"})

	undo()
	registry.AddBlob("y", content)
	registry.Fault("/v2/x/blobs/", remotetest.Redirect(at(registry, "y")))
	r = open(t, registry.URL())
	wantStretch(t, r, x, d, 0, 4, "0123")
	wantStretch(t, r, x, d, 4, 4, "4567")
	equal(t, registry.Take(), []string{
		"GET /v2/ 200",
		"GET " + at(registry, "x") + " bytes=0-3 307", "GET " + at(registry, "y") + " bytes=0-3 206",
		"GET " + at(registry, "x") + " bytes=4-7 307", "GET " + at(registry, "y") + " bytes=4-7 206",
	})
}

// A CDN that has no ranges is no failure.
func TestPlaceWithoutRanges(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	d := u.AddBlob("x", []byte("0123456789")).Digest
	u.Fault("cdn:", remotetest.NoRanges())
	r, x := open(t, u.URL()), repo(t, "x")
	wantStretch(t, r, x, d, 0, 4, "0123456789")
	wantStretch(t, r, x, d, 4, 4, "0123456789")
	cdn := "GET cdn:/x/" + d.String() + "?signature=s3cr3t"
	equal(t, u.Take(), []string{
		"GET /v2/ 200", "GET /v2/x/blobs/" + d.String() + " bytes=0-3 307", cdn + " bytes=0-3 200", cdn + " bytes=4-7 200",
	})
}

// Ranges at the same time, all of which find that the signature has run out: each
// byte comes once, whoever asks the endpoint again.
func TestPlacesAtTheSameTime(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	content := strings.Repeat("0123456789", 10_000)
	d := u.AddBlob("x", []byte(content)).Digest
	r, x := open(t, u.URL()), repo(t, "x")
	const n, together = 5_000, 5
	for first := int64(0); first < int64(len(content)); first += together * n {
		var all sync.WaitGroup
		for off := first; off < first+together*n; off += n {
			all.Go(func() { wantStretch(t, r, x, d, off, n, content[off:off+n]) })
		}
		all.Wait()
		u.ExpireSignatures()
	}
	if got := u.Sent("cdn:"); got != int64(len(content)) {
		t.Errorf("%d bytes were sent", got)
	}
	if got := u.Count("cdn:"); got <= len(content)/n {
		t.Errorf("%d requests: no signature ran out", got)
	}
}
