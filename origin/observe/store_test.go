package observe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/mem"
	"github.com/weir-registry/weir/store/storetest"
)

// disks opens a store on disk that counts.
func disks(t *testing.T, m *observe.Metrics, dir string) (store.Blobs, store.Records) {
	t.Helper()
	s, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return m.Blobs("filesystem", s.Blobs()), m.Records("filesystem", s.Records())
}

// TestStoreExam: a store that is counted is the same store to who uses it.
func TestStoreExam(t *testing.T) {
	m := observe.NewMetrics(prometheus.NewRegistry())
	storetest.Blobs(t, func(t *testing.T) store.Blobs {
		b, _ := disks(t, m, t.TempDir())
		return b
	})
	storetest.Records(t, func(t *testing.T) store.Records {
		_, r := disks(t, m, t.TempDir())
		return r
	})
}

// onlyBlobs and onlyRecords can do nothing but what they must.
type (
	onlyBlobs   struct{ store.Blobs }
	onlyRecords struct{ store.Records }
)

// TestStoreKeepsItsKind: what a store can do beyond the necessary it can do when it is
// counted, and nothing else; and its files stay files for the kernel.
func TestStoreKeepsItsKind(t *testing.T) {
	m := observe.NewMetrics(prometheus.NewRegistry())
	b, r := disks(t, m, t.TempDir())
	if _, ok := b.(store.Adopter); !ok {
		t.Error("cannot adopt any more")
	}
	if _, ok := r.(store.Batcher); !ok {
		t.Error("has no batches any more")
	}
	if _, ok := m.Blobs("x", onlyBlobs{b}).(store.Adopter); ok {
		t.Error("adopts, and what it wraps does not")
	}
	if _, ok := m.Records("x", onlyRecords{r}).(store.Batcher); ok {
		t.Error("has batches, and what it wraps has none")
	}
	d := commit(t, b, "bytes")
	blob, err := b.Open(t.Context(), d, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Body.Close()
	k := &kernel{}
	if _, err := blob.Body.(io.WriterTo).WriteTo(takes{k}); err != nil || !k.file {
		t.Errorf("the file does not arrive as one: %v", err)
	}
}

// takes is a writer that only wants to know what it is given.
type takes struct{ *kernel }

func (takes) Write(p []byte) (int, error) { return len(p), nil }

func (w takes) ReadFrom(r io.Reader) (int64, error) {
	limited := r.(*io.LimitedReader)
	_, w.file = limited.R.(*os.File)
	return io.Copy(io.Discard, r)
}

// commit writes a blob.
func commit(t *testing.T, b store.Blobs, text string) digest.Digest {
	t.Helper()
	in, err := b.Ingest(t.Context(), "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, text); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString(text)
	if _, err := in.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestStoreOperations: each operation is counted once, under what became of it.
func TestStoreOperations(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := observe.NewMetrics(reg)
	dir := t.TempDir()
	b, r := disks(t, m, dir)
	d := commit(t, b, "bytes")
	ctx := t.Context()
	gone, cancel := context.WithCancel(ctx)
	cancel()

	_, _ = b.Stat(ctx, d)
	_, _ = b.Stat(ctx, digest.FromString("none"))
	_, _ = b.Stat(gone, d)
	if blob, err := b.Open(ctx, d, store.Range{Off: 1}); err == nil {
		_ = blob.Body.Close()
	}
	_, _ = b.Open(ctx, d, store.Range{Off: 5})
	in, err := b.Ingest(ctx, "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = b.Ingest(ctx, in.ID(), "")
	_, _ = in.Commit(ctx, d)
	spool, err := os.Create(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	_, _ = b.(store.Adopter).Adopt(ctx, spool, digest.FromString(""))
	for range b.All(ctx) {
		break
	}
	for range b.Ingests(ctx) {
	}
	_ = b.Delete(ctx, d)
	_ = b.(store.Quarantiner).Quarantine(ctx, commit(t, b, "bad"))
	// One that has no place for it.
	plain := mem.NewBlobs()
	_ = m.Blobs("filesystem", plain).(store.Quarantiner).Quarantine(ctx, commit(t, plain, "bad"))
	_, _ = r.Put(ctx, "a/b", nil, store.Always())
	_, _ = r.Put(ctx, "a/b", nil, store.Absent())
	_, _ = r.Put(ctx, "../b", nil, store.Always())
	_ = r.(store.Batcher).PutAll(ctx, []store.Write{{Key: "a/c"}, {Key: "a/d"}})
	_, _ = r.Get(ctx, "a/b")
	_, _ = r.Get(ctx, "a/x")
	for range r.List(ctx, "a", "") {
	}
	_ = r.Delete(ctx, "a/b", store.Always())

	for _, want := range []string{
		"stat-blob ok 1", "stat-blob not_found 1", "stat-blob canceled 1",
		"open-blob ok 1", "open-blob refused 1",
		"begin-ingest ok 3", "resume-ingest refused 1", "commit-ingest ok 2", "commit-ingest refused 1",
		"adopt-blob ok 1", "list-blobs ok 1", "list-ingests ok 1", "delete-blob ok 1", "quarantine-blob ok 2",
		"put-record ok 1", "put-record refused 2", "put-records ok 1",
		"get-record ok 1", "get-record not_found 1", "list-records ok 1", "delete-record ok 1",
	} {
		var operation, result string
		var n float64
		if _, err := fmt.Sscan(want, &operation, &result, &n); err != nil {
			t.Fatal(err)
		}
		if got := counter(t, reg, operation, result); got != n {
			t.Errorf("%s %s: %v, want %v", operation, result, got, n)
		}
	}
	if n, err := testutil.GatherAndCount(reg, "weir_store_operation_duration_seconds"); err != nil || n != 15 {
		t.Errorf("%d operations are timed, %v", n, err)
	}
}

// counter reads one series of weir_store_operations_total.
func counter(t *testing.T, reg *prometheus.Registry, operation, result string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "weir_store_operations_total" {
			continue
		}
		for _, series := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range series.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["backend"] == "filesystem" && labels["operation"] == operation && labels["result"] == result {
				return series.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestStoreFails: what is neither there nor refused has failed, in a listing as well.
func TestStoreFails(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := observe.NewMetrics(reg)
	broken := errors.New("disk on fire")
	r := m.Records("filesystem", failing{mem.NewRecords(), broken})
	_, _ = r.Get(t.Context(), "a")
	for range r.List(t.Context(), "", "") {
	}
	for _, operation := range []string{"get-record", "list-records"} {
		if got := counter(t, reg, operation, "error"); got != 1 {
			t.Errorf("%s: %v errors", operation, got)
		}
	}
}

type failing struct {
	store.Records
	err error
}

func (f failing) Get(context.Context, string) (store.Record, error) { return store.Record{}, f.err }

func (f failing) List(context.Context, string, string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, f.err) }
}
