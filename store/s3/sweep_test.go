package s3_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
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
	// With the state of an upload goes what kept its bytes.
	if err := r.direct.Sweep(ctx, future); err != nil {
		t.Fatal(err)
	}
	if _, err := r.direct.Blobs().Stat(ctx, gone); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("stat: %v", err)
	}
	wantObjects(t, server, r.o, want)
}

// A listing that is older than what was acknowledged since costs nothing of it.
func TestStaleListing(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server, smallParts)
	ctx, future := t.Context(), time.Now().Add(time.Hour)
	late := s3test.NewFaults(t, server)
	o := r.o
	o.Endpoint = late.URL
	stale := open(t, o)
	late.Set(func(req *http.Request) s3test.Fault {
		if q := req.URL.Query(); req.Method == http.MethodGet && (q.Has("list-type") || q.Has("uploads")) {
			return s3test.Stale
		}
		return s3test.None
	})
	list := func() (records []store.Entry, ingests []string) {
		t.Helper()
		for e, err := range stale.Records().List(ctx, "", "") {
			if err != nil {
				t.Error(err)
			}
			records = append(records, e)
		}
		for info, err := range stale.Blobs().Ingests(ctx) {
			if err != nil {
				t.Error(err)
			}
			ingests = append(ingests, info.ID)
		}
		return records, ingests
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := r.direct.Records().Put(ctx, key, []byte(value), store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	refuse := func(method, match string) {
		r.faults.Set(func(req *http.Request) s3test.Fault {
			if req.Method == method && strings.Contains(req.URL.Path, match) {
				return s3test.Answer(403, "AccessDenied") // not repeated
			}
			return s3test.None
		})
	}
	begin := func(data []byte) store.Ingest {
		t.Helper()
		in, err := r.Blobs().Ingest(ctx, "", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(data); err != nil {
			t.Fatal(err)
		}
		return in
	}
	var blobs [][]byte
	commit := func(in store.Ingest, data []byte) {
		t.Helper()
		if _, err := in.Commit(ctx, digest.FromBytes(data)); err != nil {
			t.Errorf("commit: %v", err)
		}
		blobs = append(blobs, data)
	}

	put("a/old", "one")
	again := []byte("deleted, and pushed again")
	if _, err := push(t, r.Blobs(), again); err != nil {
		t.Fatal(err)
	}
	// A record's tombstone.
	put("a/again", "one")
	refuse(http.MethodDelete, "/records/")
	if err := r.Records().Delete(ctx, "a/again", store.Always()); err != nil {
		t.Fatal(err)
	}
	// An upload in parts, and two that are there but for the name: one is still held, the
	// other one is resumed by another process.
	parts := begin(large)
	unnamed := [][]byte{bytes.Repeat([]byte("held "), 2<<20), bytes.Repeat([]byte("other"), 2<<20)}
	refuse(http.MethodPut, "/blobs/")
	var held [2]store.Ingest
	for i, data := range unnamed {
		held[i] = begin(data)
		if _, err := held[i].Commit(ctx, digest.FromBytes(data)); err == nil {
			t.Fatal("committed without a name")
		}
	}
	if err := held[1].Close(); err != nil {
		t.Fatal(err)
	}
	// What is listed has the bytes of this one, and no name.
	listed := false
	r.faults.Set(func(req *http.Request) s3test.Fault {
		if !listed && req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/") {
			listed = true
			if err := stale.Sweep(ctx, time.Now().Add(-time.Hour)); err != nil {
				t.Error(err)
			}
			if records, ingests := list(); len(records) != 1 || len(ingests) != 3 {
				t.Errorf("listed %d records and %d ingests, want 1 and 3", len(records), len(ingests))
			}
		}
		return s3test.None
	})
	commit(begin(small), small)

	put("a/old", "two")
	// The tombstone goes as if whoever left it were late.
	if err := os.Remove(filepath.Join(server.Dir, o.Bucket, o.Prefix, "records", "a", "again")); err != nil {
		t.Fatal(err)
	}
	put("a/again", "two")
	if err := r.Blobs().Delete(ctx, digest.FromBytes(again)); err != nil {
		t.Fatal(err)
	}
	commit(begin(again), again)
	if err := stale.Sweep(ctx, future); err != nil {
		t.Error(err)
	}
	commit(parts, large)
	commit(held[0], unnamed[0])
	resumed, err := r.direct.Blobs().Ingest(ctx, held[1].ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	commit(resumed, unnamed[1])
	if err := stale.Sweep(ctx, future); err != nil {
		t.Error(err)
	}

	records, ingests := list()
	if len(records) != 1 || len(ingests) != 0 {
		t.Errorf("listed %d records, want the old 1; ingests that have ended: %q", len(records), ingests)
	}
	for _, e := range records {
		if _, err := r.direct.Records().Put(ctx, e.Key, nil, store.Version(e.Version)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("put over a version of an old listing: %v", err)
		}
	}
	for _, key := range []string{"a/old", "a/again"} {
		if got, err := r.direct.Records().Get(ctx, key); err != nil || string(got.Data) != "two" {
			t.Errorf("acknowledged, and lost: %s is %q, %v", key, got.Data, err)
		}
	}
	for _, data := range blobs {
		if got, err := pull(t, r.direct.Blobs(), digest.FromBytes(data)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("acknowledged, and lost: a blob of %d bytes: %d, %v", len(data), len(got), err)
		}
	}
}
