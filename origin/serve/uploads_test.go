package serve_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// TestUploadsKeepApart is a thousand attempts on other clients' uploads: by
// another repository, by replay, out of order, by two at once, by a digest of
// another algorithm or of other content, by nothing at all. Each is refused, and
// each victim ends with exactly the bytes that it sent.
func TestUploadsKeepApart(t *testing.T) {
	h := serve.New(newLocal(t), serve.Options{})
	rnd := rand.New(rand.NewPCG(1, 2))
	tries := 0
	expect := func(status int, method, target, content string, headers ...string) *httptest.ResponseRecorder {
		t.Helper()
		tries++
		w := get(t, h, method, target, content, headers...)
		if w.Code != status {
			t.Fatalf("%s %s %v: status %d, want %d: %s", method, target, headers, w.Code, status, w.Body)
		}
		return w
	}
	for round := range 80 {
		content := string(origintest.Bytes(uint64(round), 10+rnd.IntN(5000)))
		cut := 1 + rnd.IntN(len(content)-1)
		evil := fmt.Sprintf("evil %d", round)
		d := digest.FromString(content)
		mine := expect(202, "POST", "/v2/mine/blobs/uploads/", "").Header().Get("Location")
		theirs := strings.Replace(mine, "/mine/", "/theirs/", 1)

		// Nobody continues, reads, ends or drops it from another repository.
		for _, method := range []string{"PATCH", "GET", "DELETE"} {
			expect(404, method, theirs, evil)
		}
		expect(404, "PUT", theirs+"?digest="+string(digest.FromString(evil)), evil)
		// Not with an id that is nearly this one.
		flipped := mine[:len(mine)-1] + map[bool]string{true: "0", false: "1"}[mine[len(mine)-1] != '0']
		expect(404, "PATCH", flipped, evil)

		// Before the first chunk comes no second; nothing is a chunk too.
		expect(416, "PATCH", mine, evil, "Content-Range", fmt.Sprintf("%d-%d", cut, cut+len(evil)-1))
		expect(202, "PATCH", mine, "")
		expect(202, "PATCH", mine, content[:cut], "Content-Range", fmt.Sprintf("0-%d", cut-1))
		// The same chunk again, and one beyond the next.
		expect(416, "PATCH", mine, content[:cut], "Content-Range", fmt.Sprintf("0-%d", cut-1))
		expect(416, "PUT", mine+"?digest="+string(d), evil, "Content-Range", fmt.Sprintf("%d-%d", cut+1, cut+len(evil)))

		// While one request writes, no other does.
		body, write := io.Pipe()
		var running sync.WaitGroup
		running.Go(func() {
			w, err := ask(h, httptest.NewRequest("PATCH", mine, body))
			if err != nil || w.Code != 202 {
				t.Errorf("PATCH beside others: %v, status %d", err, w.Code)
			}
		})
		if _, err := io.WriteString(write, content[cut:]); err != nil {
			t.Fatal(err)
		}
		expect(416, "PATCH", mine, evil)
		expect(416, "DELETE", mine, "")
		expect(416, "PUT", mine+"?digest="+string(d), evil)
		if err := write.Close(); err != nil {
			t.Fatal(err)
		}
		running.Wait()

		// The end: by a digest of either algorithm, or by a wrong one, which ends all.
		switch round % 3 {
		case 0:
			expect(201, "PUT", mine+"?digest="+string(d), "")
		case 1:
			d = digest.SHA512.FromString(content)
			expect(201, "PUT", mine+"?digest="+string(d), "")
		case 2:
			expect(400, "PUT", mine+"?digest="+string(digest.SHA512.FromString(evil)), "")
			expect(404, "PUT", mine+"?digest="+string(d), content)
			expect(201, "POST", "/v2/mine/blobs/uploads/?digest="+string(d), content)
		}
		// What has ended goes on no more, and can be read where it belongs.
		expect(404, "PATCH", mine, evil)
		expect(404, "PUT", mine+"?digest="+string(d), "")
		if got := expect(200, "GET", "/v2/mine/blobs/"+string(d), "").Body.String(); got != content {
			t.Fatalf("round %d: %d bytes, want %d", round, len(got), len(content))
		}
		expect(404, "GET", "/v2/theirs/blobs/"+string(d), "")
		expect(404, "GET", "/v2/mine/blobs/"+string(digest.FromString(evil)), "")
	}
	empty := digest.FromString("")
	loc := expect(202, "POST", "/v2/mine/blobs/uploads/", "").Header().Get("Location")
	expect(201, "PUT", loc+"?digest="+string(empty), "")
	if w := expect(200, "GET", "/v2/mine/blobs/"+string(empty), "", "Range", "bytes=0-"); w.Body.Len() != 0 || w.Header().Get("Content-Length") != "0" {
		t.Errorf("the empty blob: %v", w.Header())
	}
	if tries < 1000 {
		t.Errorf("only %d tries", tries)
	}
}

// TestBodyCut: what a client sent before it went away is kept, and it goes on from
// there.
func TestBodyCut(t *testing.T) {
	inner := serve.New(newLocal(t), serve.Options{})
	done := make(chan struct{}, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		inner.ServeHTTP(w, r)
	}))
	defer srv.Close()
	// cut sends half a request; to the server, a client that only listens is gone.
	var cut bool
	send := func(request string) (status string, header map[string]string) {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if cut {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			status, header = res.Status[:3], map[string]string{"Location": res.Header.Get("Location"), "Range": res.Header.Get("Range")}
		}
		<-done
		_ = conn.Close()
		return status, header
	}
	status, header := send("POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	if status != "202" {
		t.Fatalf("POST: %s", status)
	}
	loc := header["Location"]
	cut = true
	for _, framing := range []string{"Content-Length: 100\r\n\r\n01234", "Transfer-Encoding: chunked\r\n\r\n5\r\n56789\r\n"} {
		if status, _ := send("PATCH " + loc + " HTTP/1.1\r\nHost: x\r\n" + framing); status != "" {
			t.Errorf("a PATCH cut within is answered with %s", status)
		}
	}
	cut = false
	if status, header = send("GET " + loc + " HTTP/1.1\r\nHost: x\r\n\r\n"); status != "204" || header["Range"] != "0-9" {
		t.Errorf("after the cuts: %s, %v", status, header)
	}
	d := digest.FromString("0123456789ab")
	// A final request that is cut ends nothing either.
	cut = true
	if status, _ = send("PUT " + loc + "?digest=" + string(d) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\na"); status != "" {
		t.Errorf("a PUT cut within is answered with %s", status)
	}
	cut = false
	if status, _ = send("PUT " + loc + "?digest=" + string(d) + " HTTP/1.1\r\nHost: x\r\nContent-Range: 11-11\r\nContent-Length: 1\r\n\r\nb"); status != "201" {
		t.Errorf("the end: %s", status)
	}
}

// TestUploadEnds: what happens to a session in each way that its request can end.
func TestUploadEnds(t *testing.T) {
	full := fmt.Errorf("write: %w", io.ErrShortWrite)
	for _, c := range []struct {
		name, method, target string
		commit               error
		status               int
		closed, cancelled    int
	}{
		{"chunk", "PATCH", uploadID, nil, 202, 1, 0},
		{"status", "GET", uploadID, nil, 204, 1, 0},
		{"cancel", "DELETE", uploadID, nil, 204, 0, 1},
		{"commit", "PUT", uploadID + "?digest=" + string(sha256A), nil, 201, 0, 0},
		{"wrong digest", "PUT", uploadID + "?digest=" + string(sha256A), store.ErrDigest, 400, 0, 1},
		{"wrong digest, as a registry says it", "PUT", uploadID + "?digest=" + string(sha256A), origin.ErrDigestInvalid, 400, 0, 1},
		{"taken by another process", "PUT", uploadID + "?digest=" + string(sha256A), fmt.Errorf("commit: %w", store.ErrBusy), 416, 1, 0},
		{"store fails", "PUT", uploadID + "?digest=" + string(sha256A), full, 500, 1, 0},
		{"store fails in one request", "POST", "?digest=" + string(sha256A), full, 500, 0, 1},
	} {
		in := &ingest{commit: c.commit}
		h := serve.New(fake{upload: func(string) (store.Ingest, error) { return in, nil }}, serve.Options{})
		if w := get(t, h, c.method, "/v2/app/blobs/uploads/"+c.target, "bytes"); w.Code != c.status {
			t.Errorf("%s: status %d", c.name, w.Code)
		}
		if in.closed != c.closed || in.cancelled != c.cancelled {
			t.Errorf("%s: closed %d times, cancelled %d times", c.name, in.closed, in.cancelled)
		}
	}
}

// untouched fails a test that reads it.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body is read before the request is refused")
	return 0, io.EOF
}

// TestRefusedUnread: what can be refused is refused before the client sends it
// (Expect: 100-continue).
func TestRefusedUnread(t *testing.T) {
	h := serve.New(newLocal(t), serve.Options{MaxManifestSize: 1000})
	loc := get(t, h, "POST", "/v2/app/blobs/uploads/", "").Header().Get("Location")
	for _, c := range []struct {
		method, target string
		status         int
		headers        []string
	}{
		{"PUT", "/v2/app/manifests/x", 413, []string{"Content-Type", "application/vnd.oci.image.manifest.v1+json"}},
		{"PUT", "/v2/app/manifests/x", 400, nil},
		{"PUT", "/v2/App/manifests/x", 400, nil},
		{"PATCH", "/v2/app/blobs/uploads/" + uploadID, 404, nil},
		{"PATCH", strings.Replace(loc, "app", "other", 1), 404, nil},
		{"PATCH", loc, 416, []string{"Content-Range", "5-1004"}},
		{"PATCH", loc, 400, []string{"Content-Range", "0-5"}},
		{"PUT", loc, 400, nil},
		{"POST", "/v2/app/manifests/x", 405, nil},
		{"POST", "/v2/app/blobs/uploads/?digest=x", 400, nil},
	} {
		r := request(c.method, c.target, "", c.headers...)
		r.Body, r.ContentLength = io.NopCloser(untouched{t}), 10_000
		w, err := ask(h, r)
		if err != nil || w.Code != c.status {
			t.Errorf("%s %s: %v, status %d, want %d", c.method, c.target, err, w.Code, c.status)
		}
		if w.Header().Get("Connection") != "close" {
			t.Errorf("%s %s: the server would read the rest", c.method, c.target)
		}
	}
}

// TestChunkOfUnknownLength: a chunk says how long it is, and that is checked where
// the request does not say so too.
func TestChunkOfUnknownLength(t *testing.T) {
	for _, c := range []struct {
		content string
		status  int
		kept    string
	}{{"01234", 202, "01234"}, {"0123", 400, "0123"}, {"012345", 400, "01234"}} {
		in := &ingest{}
		h := serve.New(fake{upload: func(string) (store.Ingest, error) { return in, nil }}, serve.Options{})
		r := request("PATCH", "/v2/app/blobs/uploads/"+uploadID, "", "Content-Range", "0-4")
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader([]byte(c.content))), -1
		w, err := ask(h, r)
		if err != nil || w.Code != c.status || in.String() != c.kept || in.closed != 1 {
			t.Errorf("%q: %v, status %d, kept %q, closed %d times", c.content, err, w.Code, in.String(), in.closed)
		}
	}
}
