package s3_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// What processes leave that end in the middle is swept, and nothing of what lives.
func TestSweep(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server, smallParts)
	future := time.Now().Add(time.Hour)
	ctx := t.Context()

	kept, err := push(t, r.Blobs(), large)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Records().Put(ctx, "a/kept", []byte("value"), store.Absent()); err != nil {
		t.Fatal(err)
	}
	want := len(server.Objects(t, r.o.Bucket, r.o.Prefix))
	ingest := func(b store.Blobs, data []byte) store.Ingest {
		t.Helper()
		in, err := b.Ingest(ctx, "", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(data); err != nil {
			t.Fatal(err)
		}
		return in
	}
	// These live: one that is open here, one that is open elsewhere, one that is closed.
	open, elsewhere, closed := ingest(r.Blobs(), large), ingest(r.direct.Blobs(), large), ingest(r.direct.Blobs(), large)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}

	// A process that ends before it says that it has begun an upload in parts.
	r.nth("/ingest/", s3test.Hang)
	lost := func(match string, do func()) {
		t.Helper()
		r.faults.Set(func(req *http.Request) s3test.Fault {
			if strings.Contains(line(req), match) {
				return s3test.Answer(403, "AccessDenied") // not repeated
			}
			return s3test.None
		})
		do()
		r.nth("none")
	}
	lost("/ingest/", func() {
		in, err := r.Blobs().Ingest(ctx, "", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(large); err == nil {
			t.Fatal("written without a state")
		}
		_ = in.Close()
	})
	// One that ends before it gives bytes their name.
	for _, data := range [][]byte{small, bytes.Repeat([]byte("other"), 2<<20)} {
		lost("PUT /"+r.o.Bucket+"/some/prefix/blobs/", func() {
			in := ingest(r.Blobs(), data)
			if _, err := in.Commit(ctx, digest.FromBytes(data)); err == nil {
				t.Fatal("committed without a name")
			}
			// The process has ended: nobody cancels.
		})
	}
	// One that ends before it removes the bytes of what it deleted, and a record's tombstone.
	gone, err := push(t, r.Blobs(), []byte("gone"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Records().Put(ctx, "a/gone", []byte("value"), store.Absent()); err != nil {
		t.Fatal(err)
	}
	lost("DELETE", func() {
		if err := r.Blobs().Delete(ctx, gone); err != nil {
			t.Error(err)
		}
		if err := r.Records().Delete(ctx, "a/gone", store.Always()); err != nil {
			t.Error(err)
		}
	})

	// Nothing of that is old yet.
	before := len(server.Objects(t, r.o.Bucket, ""))
	if err := r.direct.Sweep(ctx, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if after := len(server.Objects(t, r.o.Bucket, "")); after != before {
		t.Errorf("%d objects of %d are left: what is young went", after, before)
	}
	if err := r.direct.Sweep(ctx, future); err != nil {
		t.Fatal(err)
	}
	for info, err := range r.direct.Records().List(ctx, "", "") {
		if err != nil || info.Key != "a/kept" {
			t.Errorf("listed %+v, %v", info, err)
		}
	}
	if got, err := pull(t, r.direct.Blobs(), kept); err != nil || !bytes.Equal(got, large) {
		t.Errorf("the blob that stays: %d bytes, %v", len(got), err)
	}
	for _, in := range []store.Ingest{open, elsewhere} {
		if err := in.Cancel(); err != nil {
			t.Error(err)
		}
	}
	again, err := r.Blobs().Ingest(ctx, closed.ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Commit(ctx, digest.FromBytes(append(bytes.Clone(large), "more"...))); err != nil {
		t.Errorf("a live upload: %v", err)
	}
	if err := r.direct.Blobs().Delete(ctx, digest.FromBytes(append(bytes.Clone(large), "more"...))); err != nil {
		t.Error(err)
	}
	// What expires is cancelled by who knows when it does.
	for info, err := range r.direct.Blobs().Ingests(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		in, err := r.direct.Blobs().Ingest(ctx, info.ID, "")
		if err == nil {
			err = in.Cancel()
		}
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := r.direct.Blobs().Stat(ctx, gone); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("stat: %v", err)
	}
	wantObjects(t, server, r.o, want)
}
