package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// rig is a store behind a network that goes wrong, and another one over the same bucket
// that nothing stands before.
type rig struct {
	*s3.Store
	direct *s3.Store
	faults *s3test.Faults
	server *s3test.Server
	o      s3.Options // of direct
}

func newRig(t *testing.T, server *s3test.Server, change ...func(*s3.Options)) *rig {
	t.Helper()
	o := options(t, server)
	for _, c := range change {
		c(&o)
	}
	r := &rig{faults: s3test.NewFaults(t, server), server: server, o: o}
	r.direct = open(t, o)
	o.Endpoint = r.faults.URL
	r.Store = open(t, o)
	return r
}

// nth lets those requests go wrong that match, from the first one on, in turn; what comes
// after these is let through.
func (r *rig) nth(match string, faults ...s3test.Fault) {
	r.faults.Set(func(req *http.Request) s3test.Fault {
		if !strings.Contains(line(req), match) || len(faults) == 0 {
			return s3test.None
		}
		f := faults[0]
		faults = faults[1:]
		return f
	})
}

func line(r *http.Request) string { return r.Method + " " + r.URL.Path + "?" + r.URL.RawQuery }

// attempts counts the requests that match.
func (r *rig) attempts(match string) (n int) {
	for _, seen := range r.faults.Seen() {
		if strings.Contains(seen, match) {
			n++
		}
	}
	return n
}

// faultsOf are those that another attempt gets over.
var transient = map[string]s3test.Fault{
	"500": s3test.Answer(500, "InternalError"), "503": s3test.Answer(503, "SlowDown"), "reset": s3test.Reset, "lost": s3test.Lost,
}

func TestRecordsGetOverFaults(t *testing.T) {
	server := s3test.Start(t)
	conflict := s3test.Answer(409, "ConditionalRequestConflict")
	all := map[string]s3test.Fault{"409": conflict}
	maps.Copy(all, transient)
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, server)
			rec, ctx := r.Records(), t.Context()
			storm := func(match string) { r.nth(match, f, f, f, f) }
			want := func(key, data, version string) {
				t.Helper()
				got, err := r.direct.Records().Get(ctx, key)
				if err != nil || string(got.Data) != data || got.Version != version {
					t.Errorf("%s is %q in version %s, %v; want %q in version %s", key, got.Data, got.Version, err, data, version)
				}
			}
			storm("PUT")
			one, err := rec.Put(ctx, "a/b", []byte("one"), store.Absent())
			if err != nil {
				t.Fatalf("create: %v", err)
			}
			want("a/b", "one", one)
			storm("PUT")
			two, err := rec.Put(ctx, "a/b", []byte("two"), store.Version(one))
			if err != nil {
				t.Fatalf("replace: %v", err)
			}
			want("a/b", "two", two)
			storm("PUT")
			three, err := rec.Put(ctx, "a/b", []byte("three"), store.Always())
			if err != nil {
				t.Fatalf("overwrite: %v", err)
			}
			want("a/b", "three", three)
			storm("GET")
			if got, err := rec.Get(ctx, "a/b"); err != nil || string(got.Data) != "three" {
				t.Errorf("get: %q, %v", got.Data, err)
			}
			storm("GET")
			for e, err := range rec.List(ctx, "", "") {
				if err != nil || e.Key != "a/b" {
					t.Errorf("list: %+v, %v", e, err)
				}
			}
			storm("PUT")
			if err := rec.Delete(ctx, "a/b", store.Version(three)); err != nil {
				t.Errorf("delete: %v", err)
			}
			if _, err := r.direct.Records().Get(ctx, "a/b"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("after delete: %v", err)
			}
		})
	}
}

// A fifth attempt is the last one.
func TestRetriesAreBounded(t *testing.T) {
	server := s3test.Start(t)
	for name, f := range transient {
		if name == "lost" {
			continue // one that is repeated is not lost any more
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, server)
			r.faults.Set(func(*http.Request) s3test.Fault { return f })
			d := digest.FromString("x")
			for what, do := range map[string]func() error{
				"GET": func() error { _, err := r.Records().Get(t.Context(), "a"); return err },
				"PUT": func() error { _, err := r.Records().Put(t.Context(), "a", nil, store.Absent()); return err },
				"GET ": func() error {
					_, err := r.Blobs().Open(t.Context(), d, store.Range{})
					return err
				},
			} {
				r.faults.Set(func(*http.Request) s3test.Fault { return f })
				err := do()
				if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
					t.Errorf("%s: %v", what, err)
				}
				if n := r.attempts(strings.TrimSpace(what)); n != 5 && !(name == "reset" && n == 6) { // net/http repeats what met a connection that was closed
					t.Errorf("%s: %d attempts, want 5: %q", what, n, r.faults.Seen())
				}
			}
		})
	}
}

// A bucket that says of a cell that it has changed, which has not, is asked again, as often
// as for all else.
func TestRefusedWithoutCause(t *testing.T) {
	r := newRig(t, s3test.Start(t))
	rec, ctx := r.Records(), t.Context()
	refused := s3test.Answer(412, "PreconditionFailed")
	version := ""
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"create", func() (err error) { version, err = rec.Put(ctx, "a", []byte("one"), store.Absent()); return }},
		{"replace", func() (err error) { version, err = rec.Put(ctx, "a", []byte("two"), store.Version(version)); return }},
		{"overwrite", func() (err error) { version, err = rec.Put(ctx, "a", []byte("three"), store.Always()); return }},
		{"delete", func() error { return rec.Delete(ctx, "a", store.Version(version)) }},
	} {
		was := version
		r.nth("PUT", refused, refused, refused, refused, refused)
		if err := c.do(); err == nil || errors.Is(err, store.ErrConflict) || r.attempts("PUT") != 5 {
			t.Errorf("%s: %v after %d attempts, want an error that is no conflict after 5", c.name, err, r.attempts("PUT"))
		}
		version = was
		r.nth("PUT", refused, refused, s3test.Answer(500, "InternalError"), refused)
		if c.name == "create" { // what failed could have been there, and be gone
			r.nth("PUT", refused, refused, refused, s3test.Answer(500, "InternalError"))
		}
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := r.direct.Records().Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}

// Of two who push one blob, the one whose write of its name was not answered takes the
// other's. His own bytes are swept.
func TestNameOfAnother(t *testing.T) {
	server := s3test.Start(t)
	for _, data := range [][]byte{small, large} {
		t.Run(fmt.Sprint(len(data)), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, server, smallParts)
			want := 0
			r.faults.Set(func(req *http.Request) s3test.Fault {
				if req.Method != http.MethodPut || !strings.Contains(req.URL.Path, "/blobs/") || want > 0 {
					return s3test.None
				}
				before := len(server.Objects(t, r.o.Bucket, r.o.Prefix))
				if _, err := push(t, r.direct.Blobs(), data); err != nil {
					t.Error(err)
				}
				want = len(server.Objects(t, r.o.Bucket, r.o.Prefix)) - before
				return s3test.Answer(500, "InternalError")
			})
			d, err := push(t, r.Blobs(), data)
			if err != nil {
				t.Fatalf("push: %v", err)
			}
			if err := r.direct.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if got, err := pull(t, r.direct.Blobs(), d); err != nil || !bytes.Equal(got, data) {
				t.Errorf("pull: %d bytes, %v", len(got), err)
			}
			wantObjects(t, server, r.o, want)
		})
	}
}

// Only NoSuchKey is the bucket's word for absent.
func TestAwayIsNotAbsent(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server)
	d := digest.FromString("x")
	for _, f := range []s3test.Fault{
		s3test.Answer(404, "NoSuchBucket"), s3test.Answer(403, "AccessDenied"), s3test.Answer(404, ""),
		s3test.Answer(400, "ExpiredToken"), s3test.Answer(301, "PermanentRedirect"), s3test.Answer(412, "PreconditionFailed"),
	} {
		r.faults.Set(func(*http.Request) s3test.Fault { return f })
		_, statErr := r.Blobs().Stat(t.Context(), d)
		_, openErr := r.Blobs().Open(t.Context(), d, store.Range{})
		_, getErr := r.Records().Get(t.Context(), "a")
		_, ingestErr := r.Blobs().Ingest(t.Context(), "00000000000000000000000000000000", digest.SHA256)
		_, signErr := r.Blobs().Presign(t.Context(), d, 1)
		for _, err := range []error{
			statErr, openErr, getErr, ingestErr, signErr,
			r.Blobs().Delete(t.Context(), d), r.Records().Delete(t.Context(), "a", store.Always()),
		} {
			if err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%+v: error %v", f, err)
			}
		}
	}
}

// A write whose answer was lost, and over which somebody else has written, may have
// happened: it is an error, and no conflict.
func TestUncertainIsNoConflict(t *testing.T) {
	server := s3test.Start(t)
	for name, if_ := range map[string]func(version string) (key string, c store.Condition){
		"absent":  func(string) (string, store.Condition) { return "new", store.Absent() },
		"version": func(v string) (string, store.Condition) { return "old", store.Version(v) },
		"always":  func(string) (string, store.Condition) { return "new", store.Always() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, server)
			v, err := r.direct.Records().Put(t.Context(), "old", []byte("old"), store.Absent())
			if err != nil {
				t.Fatal(err)
			}
			key, c := if_(v)
			n := 0
			r.faults.Set(func(req *http.Request) s3test.Fault {
				if req.Method != http.MethodPut {
					return s3test.None
				}
				if n++; n == 1 {
					return s3test.Lost
				}
				if n == 2 {
					if _, err := r.direct.Records().Put(t.Context(), key, []byte("theirs"), store.Always()); err != nil {
						t.Error(err)
					}
				}
				return s3test.None
			})
			_, err = r.Records().Put(t.Context(), key, []byte("ours"), c)
			if err == nil || errors.Is(err, store.ErrConflict) {
				t.Errorf("error %v, want one that says nothing", err)
			}
			if got, err := r.direct.Records().Get(t.Context(), key); err != nil || string(got.Data) != "theirs" {
				t.Errorf("%q is there, %v: what was acknowledged is lost", got.Data, err)
			}
		})
	}
}

// small and large are below and above what is sent in one piece.
var (
	small = bytes.Repeat([]byte("small"), 20_000)
	large = bytes.Repeat([]byte("largely "), (11<<20)/8)
)

func push(t *testing.T, b store.Blobs, data []byte) (digest.Digest, error) {
	t.Helper()
	d := digest.FromBytes(data)
	in, err := b.Ingest(t.Context(), "", digest.SHA256)
	if err != nil {
		return d, err
	}
	defer in.Cancel()
	if _, err := in.Write(data); err != nil {
		return d, err
	}
	_, err = in.Commit(t.Context(), d)
	return d, err
}

func pull(t *testing.T, b store.Blobs, d digest.Digest) ([]byte, error) {
	t.Helper()
	blob, err := b.Open(t.Context(), d, store.Range{})
	if err != nil {
		return nil, err
	}
	defer blob.Body.Close()
	return io.ReadAll(blob.Body)
}

func smallParts(o *s3.Options) { o.PartSize = s3.MinPartSize }

func TestBlobsGetOverFaults(t *testing.T) {
	server := s3test.Start(t)
	faults := map[string]s3test.Fault{"200": s3test.OKError("InternalError")}
	maps.Copy(faults, transient)
	for name, f := range faults {
		for _, c := range []struct {
			name, match string
			data        []byte
		}{
			{"small bytes", "PUT /", small},
			{"begin", "uploads=", large},
			{"a part", "partNumber=2", large},
			{"completion", "POST /", large},
			{"name", "/blobs/", large},
			{"index", "/index/", small},
			{"state", "/ingest/", large},
		} {
			switch {
			case name == "200" && c.name != "completion":
				continue // S3 does so there
			case (name == "503" || name == "reset") && c.name != "small bytes":
				continue // what happens to one is what happens to the others
			}
			t.Run(name+" "+c.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, server, smallParts)
				r.nth(c.match, f, f)
				if f == s3test.Lost {
					r.nth(c.match, f)
				}
				d, err := push(t, r.Blobs(), c.data)
				if err != nil {
					t.Fatalf("push: %v", err)
				}
				if got, err := pull(t, r.direct.Blobs(), d); err != nil || !bytes.Equal(got, c.data) {
					t.Errorf("pull: %d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// What cannot be sent is an error, and the same ingest can be committed when the bucket
// is back.
func TestCommitAgain(t *testing.T) {
	server := s3test.Start(t)
	for _, data := range [][]byte{small, large} {
		for _, match := range []string{"/index/", "/data/", "POST /", "/blobs/"} {
			t.Run(fmt.Sprint(len(data), match), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, server, smallParts)
				d := digest.FromBytes(data)
				in, err := r.Blobs().Ingest(t.Context(), "", digest.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := in.Write(data); err != nil {
					t.Fatal(err)
				}
				r.faults.Set(func(req *http.Request) s3test.Fault {
					if strings.Contains(line(req), match) && !strings.Contains(line(req), "GET") {
						return s3test.Answer(500, "InternalError")
					}
					return s3test.None
				})
				_, err = in.Commit(t.Context(), d)
				if len(data) == len(small) && match == "POST /" {
					return // it has none
				}
				if err == nil {
					t.Fatal("committed while the bucket is away")
				}
				if _, err := r.direct.Blobs().Stat(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("stat: %v", err)
				}
				r.nth("none")
				// Another process takes it up.
				if err := in.Close(); err != nil {
					t.Fatal(err)
				}
				again, err := r.direct.Blobs().Ingest(t.Context(), in.ID(), "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := again.Commit(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if got, err := pull(t, r.direct.Blobs(), d); err != nil || !bytes.Equal(got, data) {
					t.Errorf("pull: %d bytes, %v", len(got), err)
				}
			})
		}
	}
}
