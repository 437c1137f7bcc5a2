package serve_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

	// Of files:
	bite  int64     // what a step takes
	stops int64     // after so many bytes no step takes any; 0: never
	next  time.Time // when the step that is running ends
	reads bool      // they are read, and not sent by the kernel
	sum   hash.Hash // of what was taken
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

// ReadFrom takes a file's descriptor, as a TCP connection does, or reads, as all
// others do. A step that would end after the deadline is broken off there.
func (s *socket) ReadFrom(r io.Reader) (total int64, err error) {
	left, ok := r.(*io.LimitedReader)
	if !ok {
		return 0, errors.New("ReadFrom of what has no limit")
	}
	src, isFile := left.R.(syscall.Conn)
	if !isFile {
		return 0, errors.New("ReadFrom of what is no file")
	}
	if s.next.IsZero() {
		s.next = time.Now().Add(s.took)
	}
	for left.N > 0 {
		buf := make([]byte, min(left.N, s.bite))
		if s.reads {
			n, err := left.Read(buf)
			if err != nil {
				return total, err
			}
			buf = buf[:n]
		}
		if s.until.IsZero() {
			return total, errors.New("a step without a deadline")
		}
		if s.next.After(s.until) {
			time.Sleep(time.Until(s.until))
			return total, os.ErrDeadlineExceeded
		}
		time.Sleep(time.Until(s.next))
		s.next = s.next.Add(s.took)
		if s.stops > 0 && s.bytes+int64(len(buf)) >= s.stops {
			s.next = s.next.Add(24 * time.Hour)
		}
		if !s.reads {
			if buf, err = sendfile(src, buf); err != nil {
				return total, err
			}
			left.N -= int64(len(buf))
		}
		total += int64(len(buf))
		s.bytes += int64(len(buf))
		if s.sum != nil {
			s.sum.Write(buf)
		}
	}
	s.note("file")
	return total, nil
}

// sendfile fills buf from where a file's descriptor stands.
func sendfile(src syscall.Conn, buf []byte) ([]byte, error) {
	raw, err := src.SyscallConn()
	if err != nil {
		return nil, err
	}
	var n int
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		n, readErr = syscall.Read(int(fd), buf)
		return true
	})
	return buf[:n], errors.Join(err, readErr)
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
// though the whole lasts hours, and one that takes nothing for longer is cut, not
// before its time and soon after it. Files go to where the kernel can send them,
// in one call.
func TestSlowClient(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blob")
	content := bytes.Repeat([]byte("0123456789abcdef!"), (2<<20+100)/17)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		took  time.Duration
		bite  int64
		reads bool
		whole bool
		stops int64
	}{
		{"just in time", minutes, stride, false, true, 0},
		{"a byte at a time, at the end of each look", time.Second, 1 << 12, false, true, 0},
		{"in no time", 0, 4 << 20, false, true, 0},
		{"too late", 62 * time.Second, stride, false, false, 0},
		{"never", 24 * time.Hour, stride, false, false, 0},
		{"no more, soon after a look", 100 * time.Millisecond, stride, false, false, 4 * stride},
		{"read, just in time", minutes, 32 << 10, true, true, 0},
		{"read, too late", 61 * time.Second, 32 << 10, true, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, err := os.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				s := &socket{header: http.Header{}, took: c.took, bite: c.bite, stops: c.stops, reads: c.reads, sum: sha256.New()}
				size := int64(len(content))
				cut := panics(func() { serveTo(t, s, origin.Blob{Length: size, Body: store.FileBody(f, size)}, 1) })
				took := time.Since(start)
				if !c.whole {
					taken := c.took * time.Duration(c.stops/c.bite)
					if cut != http.ErrAbortHandler || s.bytes != c.stops || took < taken+time.Minute || took > taken+61*time.Second {
						t.Errorf("cut: %v after %s and %d bytes", cut, took, s.bytes)
					}
					return
				}
				if want := []string{"status 200", "flush", "file"}; cut != nil || !slices.Equal(s.events, want) {
					t.Errorf("events %q, want %q; %v", s.events, want, cut)
				}
				if want := c.took * time.Duration((size+c.bite-1)/c.bite); took != want {
					t.Errorf("took %s, want %s", took, want)
				}
				if want := sha256.Sum256(content); !bytes.Equal(s.sum.Sum(nil), want[:]) {
					t.Error("other bytes arrived")
				}
			})
		})
	}
}

// panics gives what f panics with.
func panics(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// lossy is a connection that reads ahead, and loses that when its deadline passes.
type lossy struct{ *socket }

func (l lossy) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.CopyN(io.Discard, r, 100)
	return n - 1, errors.Join(err, os.ErrDeadlineExceeded)
}

// TestNoByteIsSkipped: after a deadline the body goes on only if all that was taken
// from the file went out.
func TestNoByteIsSkipped(t *testing.T) {
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b := origin.Blob{Length: 1000, Body: store.FileBody(f, 1000)}
	b.Descriptor.Descriptor = v1.Descriptor{Digest: sha256A, Size: 1000}
	h := serve.New(fake{blob: blobs(func(store.Range) (origin.Blob, error) { return b, nil })}, serve.Options{Stall: time.Minute})
	if cut := panics(func() {
		h.ServeHTTP(lossy{&socket{header: http.Header{}}}, request("GET", "/v2/app/blobs/"+string(sha256A), ""))
	}); cut != http.ErrAbortHandler {
		t.Errorf("the body went on: %v", cut)
	}
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
