package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// An upload that breaks off is over: what the endpoint has of it is not known.
func TestUploadBreaksOff(t *testing.T) {
	f := newFar(t)
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		_, _ = io.CopyN(io.Discard, r.Body, 100<<10)
		panic(http.ErrAbortHandler)
	})
	f.Config.ErrorLog = nil
	o := f.origin()
	in, err := o.Upload(t.Context(), repo(t, "a"), "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err = in.Write(origintest.Bytes(1, 64<<10)); err != nil {
			break
		}
	}
	if upstreamError(t, err).Status != 0 || !errors.Is(err, origin.ErrUnavailable) {
		t.Errorf("told %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, err := o.Upload(t.Context(), repo(t, "a"), in.ID(), ""); !errors.Is(err, origin.ErrUploadUnknown) {
		t.Errorf("resumed: %v", err)
	}
}

// An endpoint that has less of an upload than was sent has lost some.
func TestUploadLosesBytes(t *testing.T) {
	f := newFar(t)
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", r.URL.Path)
		w.Header().Set("Range", "0-99")
		w.WriteHeader(http.StatusAccepted)
		return true
	})
	o := f.origin()
	in, err := o.Upload(t.Context(), repo(t, "a"), "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b := origintest.Bytes(1, 200<<10)
	if _, err := in.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Commit(t.Context(), digest.FromBytes(b)); !errors.Is(err, origin.ErrUnavailable) {
		t.Errorf("told %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, err := o.Upload(t.Context(), repo(t, "a"), in.ID(), ""); !errors.Is(err, origin.ErrUploadUnknown) {
		t.Errorf("it goes on: %v", err)
	}
}

// Uploads that nobody has written to for a day go when another one begins, and that one
// does not wait for the endpoint to say goodbye to them.
func TestUploadsThatAreLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Int32
		o := inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/a/blobs/uploads/x")
			if r.Method == http.MethodDelete {
				time.Sleep(9 * time.Second)
				gone.Add(1)
			}
			w.WriteHeader(http.StatusAccepted)
		})
		begin := func() string {
			in, err := o.Upload(t.Context(), repo(t, "a"), "", digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Close(); err != nil {
				t.Error(err)
			}
			return in.ID()
		}
		old := []string{begin(), begin(), begin()}
		time.Sleep(25 * time.Hour)
		began := time.Now()
		begin()
		if waited := time.Since(began); waited > 0 {
			t.Errorf("another one waited %v for them", waited)
		}
		for _, id := range old {
			if _, err := o.Upload(t.Context(), repo(t, "a"), id, ""); !errors.Is(err, origin.ErrUploadUnknown) {
				t.Errorf("is still there: %v", err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := gone.Load(); n != 3 {
			t.Errorf("%d are ended at the endpoint", n)
		}
		o.Close()
	})
}

// A request that sends bytes is ended when nobody writes to it for a while, and the
// upload goes on after it.
func TestUploadPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var patches int
		o := inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/a/blobs/uploads/x")
			n, _ := io.Copy(io.Discard, r.Body)
			switch r.Method {
			case http.MethodPatch:
				if patches++; n != 100<<10 {
					t.Errorf("request %d has %d bytes", patches, n)
				}
				w.Header().Set("Range", fmt.Sprintf("0-%d", patches*100<<10-1))
				w.WriteHeader(http.StatusAccepted)
			case http.MethodPost:
				w.WriteHeader(http.StatusAccepted)
			case http.MethodPut:
				w.WriteHeader(http.StatusCreated)
			}
		})
		b := origintest.Bytes(1, 300<<10)
		id := ""
		for i := range 3 {
			in, err := o.Upload(t.Context(), repo(t, "a"), id, digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write(b[i*100<<10 : (i+1)*100<<10]); err != nil {
				t.Fatal(err)
			}
			id = in.ID()
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(11 * time.Second)
			synctest.Wait()
			if patches != i+1 {
				t.Errorf("%d requests have ended after the pause", patches)
			}
		}
		in, err := o.Upload(t.Context(), repo(t, "a"), id, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Commit(t.Context(), digest.FromBytes(b)); err != nil {
			t.Error(err)
		}
		o.Close()
	})
}

// An upload belongs to whoever began it: to others its id is unknown.
func TestUploadsBelongToSomebody(t *testing.T) {
	o := newFar(t).origin()
	as := func(id string) context.Context {
		return origin.WithRequest(t.Context(), &origin.Request{Principal: principal(id)})
	}
	in, err := o.Upload(as("basic:ann"), repo(t, "a"), "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ctx := range []context.Context{as("basic:eve"), as(""), t.Context()} {
		if _, err := o.Upload(ctx, repo(t, "a"), in.ID(), ""); !errors.Is(err, origin.ErrUploadUnknown) {
			t.Errorf("somebody else: %v", err)
		}
	}
	again, err := o.Upload(as("basic:ann"), repo(t, "a"), in.ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Cancel(); err != nil {
		t.Error(err)
	}
}

type principal string

func (p principal) String() string { return string(p) }
