package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// An upload moves from process to process, also in the middle of a part.
func TestIngestMoves(t *testing.T) {
	server := s3test.Start(t)
	o := options(t, server)
	o.PartSize = s3.MinPartSize
	stores := []*s3.Store{open(t, o), open(t, o), open(t, o)}
	data := bytes.Repeat([]byte("0123456789abcdef"), (19<<20)/16)
	d := digest.FromBytes(data)
	id, at := "", 0
	for i, n := range []int{0, 1, 4 << 20, 6 << 20, 70_000, 3, 8 << 20, len(data)} {
		in, err := stores[i%3].Blobs().Ingest(t.Context(), id, digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if id = in.ID(); in.Size() != int64(at) {
			t.Fatalf("step %d is at %d, want %d", i, in.Size(), at)
		}
		to := min(at+n, len(data))
		if _, err := in.Write(data[at:to]); err != nil {
			t.Fatal(err)
		}
		if at = to; at == len(data) {
			if _, err := in.Commit(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range stores {
		if got, err := pull(t, s.Blobs(), d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	wantObjects(t, server, o, 3) // name, bytes, index
}

// wantObjects wants that a bucket has that many objects, and no parts.
func wantObjects(t *testing.T, server *s3test.Server, o s3.Options, n int) {
	t.Helper()
	if got := server.Objects(t, o.Bucket, o.Prefix); len(got) != n {
		t.Errorf("%d objects, want %d: %v", len(got), n, got)
	}
	if got := server.Objects(t, o.Bucket, ".sgwtmp/multipart"); len(got) != 0 {
		t.Errorf("parts are left: %v", got)
	}
}

// Two who resume the same upload at once: each has its own bytes, and what one was told of
// stays, whatever the other does. Of an upload in parts there is one blob.
func TestIngestHeldTwice(t *testing.T) {
	server := s3test.Start(t)
	const mib = 1 << 20
	for name, c := range map[string]struct {
		base, more int
		other      digest.Algorithm // that the second one commits
		short      bool             // he does so without another byte
		both       bool             // both are committed
		clash      bool             // of one number there are two parts: the first one may be refused too
	}{
		"in one piece":                  {base: mib, more: mib, other: digest.SHA256, both: true},
		"in parts":                      {base: 6 * mib, more: 6 * mib, other: digest.SHA256, clash: true},
		"in parts, nothing more":        {base: 5 * mib, more: 5 * mib, other: digest.SHA256, short: true},
		"in parts, a wrong sha512":      {base: 5 * mib, more: 5 * mib, other: digest.SHA512, short: true},
		"from one piece into parts":     {base: mib, more: 6 * mib, other: digest.SHA256},
		"one piece, the other in parts": {base: mib, more: 6 * mib, other: digest.SHA256, short: true, both: true},
	} {
		for _, locked := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " locked=", locked), func(t *testing.T) {
				t.Parallel()
				o := options(t, server)
				if locked {
					o = without(t, server, "PUT", "DELETE")
					o.Locker = new(locks)
				}
				o.PartSize = s3.MinPartSize
				one, two := open(t, o).Blobs(), open(t, o).Blobs()
				in, err := one.Ingest(t.Context(), "", digest.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				base := bytes.Repeat([]byte("base"), c.base/4)
				if _, err := in.Write(base); err != nil {
					t.Fatal(err)
				}
				if err := in.Close(); err != nil {
					t.Fatal(err)
				}
				resume := func(b store.Blobs) store.Ingest {
					t.Helper()
					in, err := b.Ingest(t.Context(), in.ID(), "")
					if err != nil {
						t.Fatal(err)
					}
					return in
				}
				a, b := resume(one), resume(two)
				more := bytes.Repeat([]byte("a"), c.more)
				dataA := append(bytes.Clone(base), more...)
				if _, err := a.Write(more); err != nil {
					t.Fatal(err)
				}
				var errB error
				dataB := base
				if !c.short {
					more = bytes.Repeat([]byte("b"), c.more)
					dataB = append(bytes.Clone(base), more...)
					_, errB = b.Write(more)
				}
				dA, dB := digest.FromBytes(dataA), c.other.FromBytes(dataB)
				if c.other == digest.SHA512 {
					dB = c.other.FromString("other")
				}
				_, errA := a.Commit(t.Context(), dA)
				if errA != nil && !c.clash {
					t.Fatal(errA)
				}
				if errB == nil {
					_, errB = b.Commit(t.Context(), dB)
				}
				if c.both && errB != nil || !c.both && !errors.Is(errB, store.ErrBusy) {
					t.Errorf("the other one: %v", errB)
				}
				_ = b.Close()
				sweep := open(t, o)
				if err := sweep.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
				got, err := pull(t, sweep.Blobs(), dA)
				if errA == nil && (err != nil || !bytes.Equal(got, dataA)) || errA != nil && !errors.Is(err, store.ErrNotFound) {
					t.Errorf("the first one, committed with %v: %d bytes, %v", errA, len(got), err)
				}
				got, err = pull(t, sweep.Blobs(), dB)
				if c.both && (err != nil || !bytes.Equal(got, dataB)) || !c.both && !errors.Is(err, store.ErrNotFound) {
					t.Errorf("the other one: %d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// An upload whose blob has its name by a request that was not answered is resumed: what it
// becomes then takes nothing from that blob.
func TestResumedBehindItsName(t *testing.T) {
	server := s3test.Start(t)
	for name, data := range map[string][]byte{"in one piece": small, "in parts": large} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, server, smallParts)
			in, err := r.Blobs().Ingest(t.Context(), "", digest.SHA256)
			if err == nil {
				_, err = in.Write(data)
			}
			if err == nil {
				err = in.Close()
			}
			if err == nil {
				in, err = r.Blobs().Ingest(t.Context(), in.ID(), "")
			}
			if err != nil {
				t.Fatal(err)
			}
			away := s3test.Answer(500, "InternalError")
			r.nth("PUT /"+r.o.Bucket+"/some/prefix/blobs/", s3test.Lost, away, away, away, away)
			d := digest.FromBytes(data)
			if _, err := in.Commit(t.Context(), d); err == nil {
				t.Fatal("committed without an answer")
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := r.direct.Blobs().Ingest(t.Context(), in.ID(), "")
			if err != nil {
				t.Fatal(err)
			}
			more := append(bytes.Clone(data), "more"...)
			longer := digest.FromBytes(more)
			_, errWrite := again.Write([]byte("more"))
			_, errCommit := again.Commit(t.Context(), longer)
			if name == "in parts" {
				if errWrite == nil || !errors.Is(errCommit, store.ErrBusy) {
					t.Errorf("another blob of it: %v, %v", errWrite, errCommit)
				}
				if err := again.Close(); err != nil {
					t.Error(err)
				}
				if again, err = r.Blobs().Ingest(t.Context(), in.ID(), ""); err != nil {
					t.Fatal(err)
				}
				if _, err := again.Commit(t.Context(), d); err != nil {
					t.Errorf("the blob that it is: %v", err)
				}
			} else if errWrite != nil || errCommit != nil {
				t.Errorf("a longer blob of it: %v, %v", errWrite, errCommit)
			} else if got, err := pull(t, r.direct.Blobs(), longer); err != nil || !bytes.Equal(got, more) {
				t.Errorf("pull of it: %d bytes, %v", len(got), err)
			}
			if got, err := pull(t, r.direct.Blobs(), d); err != nil || !bytes.Equal(got, data) {
				t.Errorf("pull: %d bytes, %v", len(got), err)
			}
		})
	}
}

// An upload is sealed, and its last part was not sent, since one before it could not be:
// whoever resumes it sends that too.
func TestSealedWithoutItsLastPart(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server, smallParts)
	data := bytes.Repeat([]byte("largely "), 2<<20)
	d := digest.FromBytes(data)
	r.faults.Set(func(req *http.Request) s3test.Fault {
		if strings.Contains(line(req), "partNumber=2") {
			return s3test.Answer(403, "AccessDenied") // not repeated
		}
		return s3test.None
	})
	in, err := r.Blobs().Ingest(t.Context(), "", digest.SHA256)
	if err == nil {
		_, err = in.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Commit(t.Context(), d); err == nil {
		t.Fatal("committed without its end")
	}
	r.nth("none")
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	// Whoever does gets as far as the name, and is resumed once more.
	last, err := r.Blobs().Ingest(t.Context(), in.ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	away := s3test.Answer(500, "InternalError")
	r.nth("PUT /"+r.o.Bucket+"/some/prefix/blobs/", away, away, away, away, away)
	if _, err := last.Commit(t.Context(), d); err == nil {
		t.Fatal("committed without a name")
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := r.direct.Blobs().Ingest(t.Context(), in.ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got, err := pull(t, r.Blobs(), d); err != nil || !bytes.Equal(got, data) {
		t.Errorf("pull: %d bytes, %v", len(got), err)
	}
}

// What a push of three requests (begin, bytes, commit) asks of the bucket.
func TestRequestsOfAPush(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server, smallParts)
	for _, c := range []struct {
		data  []byte
		bytes []string // asked while they come
		last  []string // asked by the commit
	}{
		{small, []string{"GET ingest", "PUT ingest"}, []string{"GET ingest", "GET blobs", "PUT index", "PUT data", "PUT blobs", "DELETE ingest"}},
		{large, []string{"GET ingest", "POST data", "PUT data", "PUT ingest", "PUT data", "PUT ingest"}, []string{"GET ingest", "GET blobs", "PUT data", "PUT ingest", "PUT index", "POST data", "PUT blobs", "DELETE ingest"}},
	} {
		asked := func() (kinds []string) {
			for _, seen := range r.faults.Seen() {
				method, key, _ := strings.Cut(seen, " ")
				kind, _, _ := strings.Cut(strings.TrimPrefix(key, "some/prefix/"), "/")
				kinds = append(kinds, method+" "+kind)
			}
			r.nth("none")
			return kinds
		}
		want := func(what string, want ...string) {
			t.Helper()
			if got := asked(); !slices.Equal(got, want) {
				t.Errorf("%s of %d bytes asked %q, want %q", what, len(c.data), got, want)
			}
		}
		asked()
		in, err := r.Blobs().Ingest(t.Context(), "", digest.SHA256)
		if err == nil {
			err = in.Close()
		}
		want("the begin", "PUT ingest")
		if err == nil {
			in, err = r.Blobs().Ingest(t.Context(), in.ID(), "")
		}
		if err == nil {
			_, err = in.Write(c.data)
		}
		if err == nil {
			err = in.Close()
		}
		want("the bytes", c.bytes...)
		if err == nil {
			in, err = r.Blobs().Ingest(t.Context(), in.ID(), "")
		}
		if err == nil {
			_, err = in.Commit(t.Context(), digest.FromBytes(c.data))
		}
		want("the commit", c.last...)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A pointer that a process remembers leads to its bytes, or to what took their place.
func TestDeletedElsewhere(t *testing.T) {
	server := s3test.Start(t)
	o := options(t, server)
	one, two := open(t, o).Blobs(), open(t, o).Blobs()
	d, err := push(t, one, small)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, one, d); err != nil {
		t.Fatal(err)
	}
	if err := two.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Open(t.Context(), d, store.Range{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("open of what was deleted elsewhere: %v", err)
	}
	for range 2 {
		if _, err := push(t, two, small); err != nil {
			t.Fatal(err)
		}
		if got, err := pull(t, one, d); err != nil || !bytes.Equal(got, small) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := two.Delete(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if _, err := push(t, two, small); err != nil {
			t.Fatal(err)
		}
		if got, err := pull(t, one, d); err != nil || !bytes.Equal(got, small) {
			t.Errorf("put there anew: %d bytes, %v", len(got), err)
		}
	}
	wantObjects(t, server, o, 3)
}

// A hit is one request, and a listing is none for each blob.
func TestRequests(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server)
	digests := map[digest.Digest]int64{}
	for i := range 20 {
		d, err := push(t, r.Blobs(), bytes.Repeat([]byte{'x'}, i*1000))
		if err != nil {
			t.Fatal(err)
		}
		digests[d] = int64(i * 1000)
	}
	r.nth("none")
	for info, err := range r.Blobs().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if size, ok := digests[info.Digest]; !ok || size != info.Size || info.Modified.IsZero() {
			t.Errorf("%+v", info)
		}
		delete(digests, info.Digest)
	}
	if len(digests) > 0 {
		t.Errorf("not listed: %v", digests)
	}
	if seen := r.faults.Seen(); len(seen) != 2 {
		t.Errorf("a listing asked %q", seen)
	}
	d := digest.FromBytes(bytes.Repeat([]byte{'x'}, 1000))
	for range 2 {
		r.nth("none")
		if _, err := pull(t, r.Blobs(), d); err != nil {
			t.Fatal(err)
		}
	}
	if seen := r.faults.Seen(); len(seen) != 1 || !strings.Contains(seen[0], "/data/") {
		t.Errorf("a hit asked %q", seen)
	}
}

func TestPresign(t *testing.T) {
	server := s3test.Start(t)
	o := options(t, server)
	o.Endpoint, o.PublicEndpoint = s3test.NewFaults(t, server).URL, server.URL
	s := open(t, o)
	d, err := push(t, s.Blobs(), small)
	if err != nil {
		t.Fatal(err)
	}
	url, err := s.Blobs().Presign(t.Context(), d, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(url, server.URL+"/") {
		t.Errorf("leads to %s, want the public endpoint", url)
	}
	get := func(method, url, span string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if span != "" {
			req.Header.Set("Range", span)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	if status, body := get("GET", url, ""); status != 200 || !bytes.Equal(body, small) {
		t.Errorf("GET: %d with %d bytes", status, len(body))
	}
	if status, body := get("GET", url, "bytes=10-19"); status != 206 || !bytes.Equal(body, small[10:20]) {
		t.Errorf("a range: %d with %d bytes", status, len(body))
	}
	for _, method := range []string{"DELETE", "PUT"} {
		if status, _ := get(method, url, ""); status != 403 {
			t.Errorf("%s: %d, want 403", method, status)
		}
	}
	if status, _ := get("GET", url[:len(url)-1], ""); status/100 != 4 {
		t.Errorf("with another signature: %d", status)
	}
	if _, err := s.Blobs().Presign(t.Context(), digest.FromString("none"), time.Minute); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}
