package serve_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// socket is a ResponseWriter that writes down what is done to it. It takes no
// deadline for granted: a step without one is noted.
type socket struct {
	header http.Header
	events []string
	took   time.Duration // how long a step lasts
	until  time.Time     // the write deadline
	bytes  int64
}

func (s *socket) Header() http.Header     { return s.header }
func (s *socket) WriteHeader(code int)    { s.note("status %d", code) }
func (s *socket) note(f string, a ...any) { s.events = append(s.events, fmt.Sprintf(f, a...)) }

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.until = t
	return nil
}

func (s *socket) step(what string, n int64) {
	time.Sleep(s.took)
	switch {
	case s.until.IsZero():
		what += " without a deadline"
	case s.until.Before(time.Now()):
		what += " after its deadline"
	}
	s.note("%s %d", what, n)
	s.bytes += n
}

func (s *socket) Write(b []byte) (int, error) {
	s.step("write", int64(len(b)))
	return len(b), nil
}

func (s *socket) ReadFrom(r io.Reader) (int64, error) {
	what := "read"
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			what = "sendfile"
		}
	}
	n, err := io.Copy(io.Discard, r)
	s.step(what, n)
	return n, err
}

func (s *socket) FlushError() error {
	s.note("flush")
	return nil
}

const (
	stride  = 256 << 10
	minutes = 59 * time.Second // a step of a slow client: just within the limit
)

// serveTo serves one blob to a socket.
func serveTo(t *testing.T, s *socket, b origin.Blob, proto int) {
	t.Helper()
	b.Descriptor.Descriptor = v1.Descriptor{Digest: sha256A, Size: b.Length}
	h := serve.New(fake{blob: blobs(func(store.Range) (origin.Blob, error) { return b, nil })}, serve.Options{Stall: time.Minute})
	r := request("GET", "/v2/app/blobs/"+string(sha256A), "")
	r.ProtoMajor = proto
	h.ServeHTTP(s, r)
}

// TestSlowClient: a client that takes each step just in time is served to the end,
// though the whole lasts hours; files go to where the kernel can send them.
func TestSlowClient(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blob")
	const size = 2<<20 + 100
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		s := &socket{header: http.Header{}, took: minutes}
		serveTo(t, s, origin.Blob{Length: size, Body: store.FileBody(f, size)}, 1)
		want := []string{"status 200"}
		for range size / stride {
			want = append(want, fmt.Sprintf("sendfile %d", stride))
		}
		want = append(want, "sendfile 100")
		if !slices.Equal(s.events, want) {
			t.Errorf("events %q, want %q", s.events, want)
		}
		if took := time.Since(start); took != 9*minutes {
			t.Errorf("took %s", took)
		}
	})
}

// pipe gives what it is told, one read each, and pauses before.
type pipe struct {
	reads []string
	pause time.Duration
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.reads) == 0 {
		return 0, io.EOF
	}
	time.Sleep(p.pause)
	n := copy(b, p.reads[0])
	p.reads = p.reads[1:]
	return n, nil
}

func (*pipe) Close() error { return nil }

// TestSlowUpstream: what came is passed on at once, and the time that an upstream
// needs is not held against the client. HTTP/2 ends a stream at its deadline,
// whoever waits: none stands while nothing is written.
func TestSlowUpstream(t *testing.T) {
	for _, proto := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			s := &socket{header: http.Header{}, took: minutes}
			waiting := func() {
				if proto == 2 && !s.until.IsZero() {
					t.Error("a deadline stands while the upstream is waited for")
				}
			}
			p := &pipe{[]string{"first", "second"}, time.Hour}
			serveTo(t, s, origin.Blob{Length: 11, Body: struct {
				io.Reader
				io.Closer
			}{readerFunc(func(b []byte) (int, error) { waiting(); return p.Read(b) }), p}}, proto)
			if want := []string{"status 200", "write 5", "flush", "write 6", "flush"}; !slices.Equal(s.events, want) {
				t.Errorf("HTTP/%d: events %q, want %q", proto, s.events, want)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestLargeManifest: what is written from memory is written in steps too.
func TestLargeManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &socket{header: http.Header{}, took: minutes}
		h := serve.New(fake{manifest: func(origin.Repo, origin.Ref) (origin.Manifest, error) {
			return manifestOf(make([]byte, stride+1), origin.Source{}), nil
		}}, serve.Options{Stall: time.Minute})
		h.ServeHTTP(s, request("GET", "/v2/app/manifests/x", ""))
		if want := []string{fmt.Sprintf("write %d", stride), "write 1"}; !slices.Equal(s.events, want) {
			t.Errorf("events %q, want %q", s.events, want)
		}
	})
}

// TestSendfile: over a real connection, a file arrives whole, by range and whole,
// and the connection can be used again.
func TestSendfile(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	d := digest.FromBytes(content)
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	srv := newServer(t, fake{blob: blobs(func(r store.Range) (origin.Blob, error) {
		off, n, err := r.Resolve(int64(len(content)))
		if err != nil {
			return origin.Blob{}, err
		}
		f, err := os.Open(name)
		if err != nil {
			return origin.Blob{}, err
		}
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return origin.Blob{}, err
		}
		b := origin.Blob{Offset: off, Length: n, Body: store.FileBody(f, n)}
		b.Descriptor.Descriptor = v1.Descriptor{Digest: d, Size: int64(len(content))}
		return b, nil
	})}, serve.Options{Stall: time.Minute})
	for _, c := range []struct {
		asked string
		want  []byte
	}{{"", content}, {"bytes=1000000-", content[1_000_000:]}, {"bytes=5-9", content[5:10]}} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/v2/app/blobs/"+string(d), nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.asked != "" {
			r.Header.Set("Range", c.asked)
		}
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil || !bytes.Equal(got, c.want) || res.ContentLength != int64(len(c.want)) {
			t.Errorf("%q: %d bytes of %d, Content-Length %d, %v", c.asked, len(got), len(c.want), res.ContentLength, err)
		}
	}
}

// TestHTTP2: deadlines of a stream are renewed and taken back, and a refusal does
// not end the connection.
func TestHTTP2(t *testing.T) {
	srv := httptest.NewUnstartedServer(serve.New(newLocal(t), serve.Options{Stall: time.Minute}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	content := strings.Repeat("0123456789abcdef", 100_000)
	d := digest.FromString(content)
	for _, c := range []struct {
		method, target, content, answer string
		status                          int
	}{
		{"PUT", "/v2/app/blobs/uploads/" + uploadID + "?digest=" + string(d), content, "", 404},
		{"POST", "/v2/app/blobs/uploads/?digest=" + string(d), content, "", 201},
		{"GET", "/v2/app/blobs/" + string(d), "", content, 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, srv.URL+c.target, strings.NewReader(c.content))
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.target, err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != c.status || res.ProtoMajor != 2 || c.answer != "" && string(got) != c.answer {
			t.Errorf("%s: %s, status %d, %d bytes, %v", c.method, res.Proto, res.StatusCode, len(got), err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCutLooksCut: over a real connection, a body that fails within is an error to
// the client, with a length and without.
func TestCutLooksCut(t *testing.T) {
	for _, length := range []int64{10, -1} {
		closed := 0
		srv := newServer(t, fake{blob: blobs(func(store.Range) (origin.Blob, error) {
			b := origin.Blob{Length: length, Body: body{io.MultiReader(strings.NewReader("01234"), iotestErr{}), &closed}}
			b.Descriptor.Descriptor = v1.Descriptor{Digest: sha256A, Size: length}
			return b, nil
		})}, serve.Options{})
		res, err := srv.Client().Get(srv.URL + "/v2/app/blobs/" + string(sha256A))
		if err != nil {
			continue // cut before the header left: that looks cut, too
		}
		got, err := io.ReadAll(res.Body)
		if err == nil {
			t.Errorf("length %d: %q looks complete", length, got)
		}
		_ = res.Body.Close()
	}
}

// TestStalledUpload: a client that announces bytes and gives none is cut, whether
// its request is served or was refused, and what it gave is kept.
func TestStalledUpload(t *testing.T) {
	in := &ingest{}
	srv := newServer(t, fake{upload: func(id string) (store.Ingest, error) {
		if id != uploadID {
			return nil, origin.ErrUploadUnknown
		}
		return in, nil
	}}, serve.Options{Stall: 20 * time.Millisecond})
	for _, id := range []string{uploadID, strings.Repeat("f", 32)} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PATCH /v2/app/blobs/uploads/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", id)
		// Without a limit of its own this ends only if the server lets go.
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Logf("%s: %v", id, err) // reset: let go, too
		}
		if served := id == uploadID; served == (len(answer) > 0) {
			t.Errorf("%s: answered %q", id, answer)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	srv.Close()
	if in.String() != "half" || in.closed != 1 || in.cancelled != 0 {
		t.Errorf("kept %q, closed %d times, cancelled %d times", in.String(), in.closed, in.cancelled)
	}
}
