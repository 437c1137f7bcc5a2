package remotetest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// get follows redirects, and gives the status and what there was of the body.
func get(t *testing.T, url, rng string) (status int, body []byte, err error) {
	t.Helper()
	resp, body, err := ask(t, http.MethodGet, url, rng)
	if resp == nil {
		return 0, nil, err
	}
	return resp.StatusCode, body, err
}

// ask is get with another method, and gives the whole answer.
func ask(t *testing.T, method, url, rng string) (resp *http.Response, body []byte, err error) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	return askBy(t, transport, method, url, rng)
}

func askBy(t *testing.T, transport *http.Transport, method, url, rng string) (resp *http.Response, body []byte, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	resp, err = (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp, body, err
}

func TestLog(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	img := u.AddImage("team/app", "1", []byte("a layer"))
	layer := img.Layers[0].Digest.String()
	base := u.URL().String() + "/v2/team/app/"
	if status, body, err := get(t, base+"manifests/1", ""); status != 200 || !bytes.Equal(body, img.Bytes) || err != nil {
		t.Errorf("manifest: %d %q %v", status, body, err)
	}
	if status, body, err := get(t, base+"blobs/"+layer, "bytes=2-"); status != 206 || string(body) != "layer" || err != nil {
		t.Errorf("blob: %d %q %v", status, body, err)
	}
	if status, _, _ := get(t, base+"blobs/sha256:00", ""); status != 404 {
		t.Errorf("unknown blob: %d", status)
	}
	want := []string{
		"GET /v2/team/app/manifests/1 200",
		"GET /v2/team/app/blobs/" + layer + " bytes=2- 307",
		"GET cdn:/team/app/" + layer + "?signature=s3cr3t bytes=2- 206",
		"GET /v2/team/app/blobs/sha256:00 404",
	}
	if got := u.Take(); !reflect.DeepEqual(got, want) {
		t.Errorf("log\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := u.Requests(); got != nil {
		t.Errorf("left after Take: %q", got)
	}
}

func TestFaults(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789"), 10_000)
	flipped := bytes.Clone(blob)
	flipped[70_000] ^= 0xff
	tests := map[string]struct {
		faults []remotetest.Fault
		status int
		body   []byte
		broken bool
	}{
		"none":          {status: 200, body: blob},
		"cut":           {faults: []remotetest.Fault{remotetest.Cut(50_000)}, status: 200, body: blob[:50_000], broken: true},
		"flip":          {faults: []remotetest.Fault{remotetest.Flip(70_000)}, status: 200, body: flipped},
		"no length":     {faults: []remotetest.Fault{remotetest.NoLength()}, status: 200, body: blob},
		"unmarked end":  {faults: []remotetest.Fault{remotetest.Cut(50_000), remotetest.CloseDelimited()}, status: 200, body: blob[:50_000]},
		"status":        {faults: []remotetest.Fault{remotetest.Status(503)}, status: 503, body: []byte(`{"errors":[{"code":"UNKNOWN","message":"the upstream says no"}]}`)},
		"html":          {faults: []remotetest.Fault{remotetest.HTML()}, status: 200, body: []byte("<!DOCTYPE html><title>Welcome</title>")},
		"no ranges":     {faults: []remotetest.Fault{remotetest.NoRanges()}, status: 200, body: blob},
		"too short":     {faults: []remotetest.Fault{remotetest.LengthBy(-1)}, status: 200, body: blob[:99_999]},
		"too long":      {faults: []remotetest.Fault{remotetest.LengthBy(1)}, status: 200, body: blob, broken: true},
		"last in front": {faults: []remotetest.Fault{remotetest.Status(503), remotetest.HTML()}, status: 200, body: []byte("<!DOCTYPE html><title>Welcome</title>")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			d := u.AddBlob("x", blob).Digest.String()
			for _, f := range test.faults {
				defer u.Fault("GET /v2/x/blobs/", f)()
			}
			status, body, err := get(t, u.URL().String()+"/v2/x/blobs/"+d, "")
			if status != test.status || !bytes.Equal(body, test.body) || (err != nil) != test.broken {
				t.Errorf("%d, %d bytes, %v", status, len(body), err)
			}
		})
	}
}

func TestGateHoldsOnce(t *testing.T) {
	u := remotetest.New(t)
	blob := bytes.Repeat([]byte("x"), 100_000)
	d := u.AddBlob("x", blob).Digest.String()
	g := u.GateAt("/blobs/", 32<<10) // where io.Copy ends a piece
	read := make(chan []byte)
	go func() {
		_, body, err := get(t, u.URL().String()+"/v2/x/blobs/"+d, "")
		if err != nil {
			t.Error(err)
		}
		read <- body
	}()
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-read:
		t.Fatal("an answer passed a closed gate")
	default:
	}
	g.Open()
	if got := <-read; !bytes.Equal(got, blob) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestRanges(t *testing.T) {
	blob := []byte("0123456789")
	tests := map[string]struct {
		fault        remotetest.Fault
		status       int
		body         string
		contentRange string
	}{
		"honest":             {nil, 206, "2345", "bytes 2-5/10"},
		"no ranges":          {remotetest.NoRanges(), 200, "0123456789", ""},
		"another":            {remotetest.AsRange("bytes=3-6"), 206, "3456", "bytes 3-6/10"},
		"less":               {remotetest.AsRange("bytes=2-3"), 206, "23", "bytes 2-3/10"},
		"behind the end":     {remotetest.AsRange("bytes=10-"), 416, "invalid range: failed to overlap\n", "bytes */10"},
		"a header that lies": {remotetest.Header("Content-Range", "bytes 0-3/4"), 206, "2345", "bytes 0-3/4"},
		"no header":          {remotetest.Header("Content-Range", ""), 206, "2345", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			d := u.AddBlob("x", blob).Digest.String()
			if test.fault != nil {
				u.Fault("/blobs/", test.fault)
			}
			resp, body, err := ask(t, http.MethodGet, u.URL().String()+"/v2/x/blobs/"+d, "bytes=2-5")
			if err != nil || resp.StatusCode != test.status || string(body) != test.body || resp.Header.Get("Content-Range") != test.contentRange {
				t.Errorf("%d, %q, %q, %v", resp.StatusCode, body, resp.Header.Get("Content-Range"), err)
			}
			if got := u.Log()[0].Range; got != "bytes=2-5" {
				t.Errorf("the log says %q was asked for", got)
			}
		})
	}
}

func TestLengthOfHEADDiffers(t *testing.T) {
	u := remotetest.New(t)
	d := u.AddBlob("x", []byte("12345")).Digest.String()
	u.Fault("HEAD", remotetest.LengthBy(2))
	for method, want := range map[string]int64{http.MethodHead: 7, http.MethodGet: 5} {
		resp, _, err := ask(t, method, u.URL().String()+"/v2/x/blobs/"+d, "")
		if err != nil || resp.ContentLength != want {
			t.Errorf("%s: %d, %v", method, resp.ContentLength, err)
		}
	}
}

// What hangs comes to no end of its own; it is the client that leaves.
func TestHang(t *testing.T) {
	blob := bytes.Repeat([]byte("x"), 100_000)
	for name, test := range map[string]struct {
		fault  remotetest.Fault
		header bool
		body   int
	}{
		"no header":      {remotetest.Hang(), false, 0},
		"header alone":   {remotetest.HangAt(0), true, 0},
		"some bytes":     {remotetest.HangAt(70_000), true, 70_000},
		"but for a byte": {remotetest.HangAt(99_999), true, 99_999},
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			d := u.AddBlob("x", blob).Digest.String()
			u.Fault("GET", test.fault)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.URL().String()+"/v2/x/blobs/"+d, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !test.header {
				time.AfterFunc(20*time.Millisecond, leave)
			}
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			resp, err := transport.RoundTrip(req)
			if (err == nil) != test.header {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			defer resp.Body.Close()
			if n, err := io.ReadFull(resp.Body, make([]byte, test.body)); err != nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
			time.AfterFunc(20*time.Millisecond, leave)
			if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
				t.Errorf("%d bytes more, %v", n, err)
			}
		})
	}
}

func TestSignaturesExpire(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	d := u.AddBlob("x", []byte("12345")).Digest.String()
	at := u.URL().String() + "/v2/x/blobs/" + d
	resp, _, err := ask(t, http.MethodGet, at, "")
	if err != nil {
		t.Fatal(err)
	}
	signed := resp.Request.URL.String()
	for _, step := range []struct {
		at   string
		want int
	}{{signed, 200}, {signed, 403}, {at, 200}, {signed, 403}} {
		if step.want == 403 {
			u.ExpireSignatures()
		}
		if status, _, err := get(t, step.at, ""); err != nil || status != step.want {
			t.Errorf("%d, want %d, %v", status, step.want, err)
		}
	}
}

func TestCounts(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	d := u.AddBlob("x", []byte("0123456789")).Digest.String()
	at := u.URL().String() + "/v2/x/blobs/"
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for _, r := range []struct{ method, url, rng string }{
		{http.MethodGet, at + d, "bytes=0-3"},
		{http.MethodGet, at + d, "bytes=4-"},
		{http.MethodHead, at + d, ""},
		{http.MethodGet, at + "sha256:00", ""},
	} {
		if _, _, err := askBy(t, transport, r.method, r.url, r.rng); err != nil {
			t.Fatal(err)
		}
	}
	for match, want := range map[string]int64{"": 10, "cdn:": 10, "GET /v2/": 0, "bytes=4-": 6, "HEAD": 0} {
		if got := u.Sent(match); got != want {
			t.Errorf("%q: %d bytes, want %d", match, got, want)
		}
	}
	for match, want := range map[string]int{"": 2, "cdn:": 1, "GET /v2/": 1, "token:": 0} {
		if got := u.Connections(match); got != want {
			t.Errorf("%q: %d connections, want %d", match, got, want)
		}
	}
	ask(t, http.MethodHead, at+d, "")
	if got := u.Connections("HEAD"); got != 4 {
		t.Errorf("%d connections after another client", got)
	}
}

// All streams of an HTTP/2 connection are on one connection, HTTP/1.1's on one each.
func TestTLS(t *testing.T) {
	u := remotetest.NewTLS(t)
	d := u.AddBlob("x", []byte("12345")).Digest.String()
	ca := x509.NewCertPool()
	ca.AddCert(u.Certificate())
	for _, http2 := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca}, ForceAttemptHTTP2: http2}
		defer transport.CloseIdleConnections()
		for range 2 {
			if _, body, err := askBy(t, transport, http.MethodGet, u.URL().String()+"/v2/x/blobs/"+d, ""); err != nil || string(body) != "12345" {
				t.Fatalf("%q, %v", body, err)
			}
		}
	}
	var got []string
	for _, r := range u.Log() {
		got = append(got, fmt.Sprint(r.Proto, " ", r.Conn))
	}
	if want := []string{"HTTP/2.0 1", "HTTP/2.0 1", "HTTP/1.1 2", "HTTP/1.1 2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
