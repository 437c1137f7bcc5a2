package s3_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
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

// Two who resume the same upload at once: each has its own bytes, and no mixture of them
// is stored.
func TestIngestHeldTwice(t *testing.T) {
	server := s3test.Start(t)
	o := options(t, server)
	o.PartSize = s3.MinPartSize
	one, two := open(t, o).Blobs(), open(t, o).Blobs()
	in, err := one.Ingest(t.Context(), "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	base := bytes.Repeat([]byte("base"), (6<<20)/4)
	if _, err := in.Write(base); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	resume := func(b store.Blobs, more byte) (store.Ingest, digest.Digest) {
		t.Helper()
		in, err := b.Ingest(t.Context(), in.ID(), "")
		if err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte{more}, 6<<20)
		if _, err := in.Write(data); err != nil {
			t.Fatal(err)
		}
		return in, digest.FromBytes(append(bytes.Clone(base), data...))
	}
	a, dA := resume(one, 'a')
	b, dB := resume(two, 'b')
	_, errA := a.Commit(t.Context(), dA)
	_, errB := b.Commit(t.Context(), dB)
	if errA == nil && errB == nil {
		t.Error("both are committed, of one upload")
	}
	for _, d := range []digest.Digest{dA, dB} {
		got, err := pull(t, one, d)
		if err == nil && digest.FromBytes(got) != d {
			t.Errorf("%s is stored with other bytes", d)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
	}
	_ = a.Cancel()
	_ = b.Cancel()
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
