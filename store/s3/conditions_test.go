package s3_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
	"github.com/weir-registry/weir/store/storetest"
)

// locks is a Locker of this process.
type locks struct {
	mu    sync.Mutex
	held  map[string]*sync.Mutex
	token uint64
}

// heldLock is one that its holder never loses.
type heldLock struct {
	*sync.Mutex
	token uint64
}

func (l heldLock) Token() uint64         { return l.token }
func (l heldLock) Until() time.Time      { return time.Now().Add(time.Minute) }
func (l heldLock) Lost() <-chan struct{} { return nil }

func (l *locks) Lock(ctx context.Context, name string) (s3.Lock, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*sync.Mutex{}
	}
	m := l.held[name]
	if m == nil {
		m = new(sync.Mutex)
		l.held[name] = m
	}
	l.token++
	token := l.token
	l.mu.Unlock()
	m.Lock()
	return heldLock{m, token}, nil
}

// without is a bucket that takes no notice of conditions on those methods.
func without(t *testing.T, server *s3test.Server, methods ...string) s3.Options {
	t.Helper()
	o := options(t, server)
	faults := s3test.NewFaults(t, server)
	faults.Set(func(r *http.Request) s3test.Fault {
		if slices.Contains(methods, r.Method) {
			return s3test.Unconditional
		}
		return s3test.None
	})
	o.Endpoint = faults.URL
	return o
}

// A bucket without conditions is refused, unless a lock stands in for them; then it
// passes the exam, and the log says so.
func TestWithoutConditions(t *testing.T) {
	server := s3test.Start(t)
	if _, err := s3.Open(t.Context(), without(t, server, "PUT")); !errors.Is(err, s3.ErrConditions) {
		t.Errorf("opened: %v, want ErrConditions", err)
	}
	locked := func(t *testing.T) *s3.Store {
		o := without(t, server, "PUT", "DELETE")
		o.Locker = new(locks)
		return open(t, o)
	}
	storetest.Records(t, func(t *testing.T) store.Records { return locked(t).Records() })
	b := locked(t).Blobs()
	for range 2 {
		d, err := push(t, b, small)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pull(t, b, d); err != nil || !bytes.Equal(got, small) {
			t.Errorf("pull: %d bytes, %v", len(got), err)
		}
		if err := b.Delete(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	var log bytes.Buffer
	o := without(t, server, "PUT")
	o.Locker, o.Log = new(locks), slog.New(slog.NewTextHandler(&log, nil))
	open(t, o)
	if !strings.Contains(log.String(), "lock of all replicas") {
		t.Errorf("the log says %q", log.String())
	}
}

// Where deletes have no condition nothing is deleted that somebody may have written again:
// tombstones stay, and nobody sees them.
func TestWithoutConditionalDeletes(t *testing.T) {
	server := s3test.Start(t)
	o := without(t, server, "DELETE")
	s := open(t, o)
	rec, ctx := s.Records(), t.Context()
	for range 3 {
		version, err := rec.Put(ctx, "a/b", []byte("value"), store.Absent())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rec.Put(ctx, "a/b", nil, store.Absent()); !errors.Is(err, store.ErrConflict) {
			t.Errorf("created twice: %v", err)
		}
		if err := rec.Delete(ctx, "a/b", store.Version(version)); err != nil {
			t.Fatal(err)
		}
		if err := rec.Delete(ctx, "a/b", store.Always()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		if _, err := rec.Get(ctx, "a/b"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get: %v", err)
		}
		if _, err := rec.Put(ctx, "a/b", nil, store.Version(version)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("put over what is deleted: %v", err)
		}
		for e, err := range rec.List(ctx, "", "") {
			t.Errorf("listed %+v, %v", e, err)
		}
	}
	for range 2 {
		d, err := push(t, s.Blobs(), small)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pull(t, s.Blobs(), d); err != nil || !bytes.Equal(got, small) {
			t.Errorf("pull: %d bytes, %v", len(got), err)
		}
		if err := s.Blobs().Delete(ctx, d); err != nil {
			t.Fatal(err)
		}
		for info, err := range s.Blobs().All(ctx) {
			t.Errorf("listed %+v, %v", info, err)
		}
	}
	wantObjects(t, server, o, 2) // the tombstones of a record and of a blob
}
