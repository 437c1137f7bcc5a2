package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// What manifests name is held in memory only where that is little.
func TestNamedIsBounded(t *testing.T) {
	s := newState(mem.NewRecords(), slog.New(slog.DiscardHandler))
	defer s.close()
	for layers, held := range map[int]bool{3: true, naming - 1: true, naming: false, 9000: false} {
		var list bytes.Buffer
		for i := range layers {
			fmt.Fprintf(&list, `,{"mediaType":"application/octet-stream","digest":%q,"size":1}`, digest.FromString(fmt.Sprint(i)))
		}
		m := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
			`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[%s]}`,
			digest.FromString("{}"), list.Bytes()[1:]))
		s.hold(contentKey{origintest.Repo(t, "docker.io/library/nginx"), m.Digest}, m)
		if names, ok := s.named.get(m.Digest); ok != held || ok && len(names) != layers+1 {
			t.Errorf("%d layers: held %v, %d names", layers, ok, len(names))
		}
	}
}

// watched is records that count how often one is read.
type watched struct {
	store.Records
	reads int
}

func (r *watched) Get(ctx context.Context, key string) (store.Record, error) {
	r.reads++
	return r.Records.Get(ctx, key)
}

// What is held is bounded by its bytes, however long upstreams make it; what many pull
// comes from memory.
func TestMemoryIsBounded(t *testing.T) {
	const many = 4096
	repo := origintest.Repo(t, "docker.io/library/nginx")
	key := func(i int) contentKey { return contentKey{repo, digest.FromString(fmt.Sprint(i))} }
	// hold gives what has come to the heap for what the calls hold, and a state has.
	hold := func(t *testing.T, n int, one func(s *state, i int)) (*state, *watched, int64) {
		t.Helper()
		records := &watched{Records: mem.NewRecords()}
		s := newState(records, slog.New(slog.DiscardHandler))
		t.Cleanup(s.close)
		before := heap()
		for i := range n {
			one(s, i)
		}
		return s, records, heap() - before
	}
	within := func(t *testing.T, cost, heap, most int64) {
		t.Helper()
		if cost > most || cost < most*9/10 || heap > most*5/4 {
			t.Errorf("%d bytes are held for %d, the budget is %d", heap, cost, most)
		}
	}

	t.Run("manifests of 60 KiB", func(t *testing.T) {
		s, records, heap := hold(t, many, func(s *state, i int) {
			s.hold(key(i), origin.Manifest{Bytes: make([]byte, 60<<10)})
		})
		within(t, s.manifests.cost, heap, manifestBudget)
		for i := many - 500; i < many; i++ {
			if _, err := s.manifest(t.Context(), key(i)); err != nil || records.reads > 0 {
				t.Fatalf("the %dth of %d: %v, %d reads", i, many, err, records.reads)
			}
		}
	})
	t.Run("manifests of 2 to 10 KiB", func(t *testing.T) {
		s, records, heap := hold(t, many, func(s *state, i int) {
			s.hold(key(i), origin.Manifest{Bytes: make([]byte, (2+i%9)<<10)})
			s.tags.add(tagKey{repo, fmt.Sprint(i)}, tag{Digest: key(i).digest}, 500)
		})
		if most := int64(manifestBudget + tagBudget); heap > most {
			t.Errorf("%d bytes are held", heap)
		}
		for i := range many {
			of, err := s.tag(t.Context(), tagKey{repo, fmt.Sprint(i)})
			if err == nil {
				_, err = s.manifest(t.Context(), contentKey{repo, of.Digest})
			}
			if err != nil || records.reads > 0 {
				t.Fatalf("the %dth of %d: %v, %d reads", i, many, err, records.reads)
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		const most = namedBudget / 8 // of lists that are long to read
		s, _, heap := hold(t, 60, func(s *state, i int) {
			s.named.most = most
			var list bytes.Buffer
			for j := range naming - 1 {
				fmt.Fprintf(&list, `,{"digest":"sha256:%064x"}`, i*naming+j)
			}
			m := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
				`{"schemaVersion":2,"config":{"digest":%q},"layers":[%s]}`, digest.FromString("{}"), list.Bytes()[1:]))
			s.hold(contentKey{repo, m.Digest}, m)
			s.sizes.Purge()
			s.manifests.remove(contentKey{repo, m.Digest})
		})
		within(t, s.named.cost, heap, most)
	})
	t.Run("tags with a long type", func(t *testing.T) {
		s, _, heap := hold(t, many, func(s *state, i int) {
			s.putTag(tagKey{repo, fmt.Sprint(i)}, tag{MediaType: strings.Repeat("x", 8<<10)})
			if err := s.now(t.Context(), tagKey{repo, fmt.Sprint(i)}.String(), func(ctx context.Context) error {
				return s.records.Delete(ctx, tagKey{repo, fmt.Sprint(i)}.String(), store.Always())
			}); err != nil {
				t.Fatal(err)
			}
		})
		within(t, s.tags.cost, heap, tagBudget)
	})
	t.Run("referrers", func(t *testing.T) {
		s, _, _ := hold(t, many, func(s *state, i int) {
			s.referrers.held.add(key(i), referrers{}, 100<<10)
		})
		if s.referrers.held.cost > referrerBudget {
			t.Errorf("%d bytes are held", s.referrers.held.cost)
		}
	})
}

// heap is what is in use of it.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fading is records of which each is deleted once it is read, and in which nothing is
// written until it may be.
type fading struct {
	store.Records
	state *state
	puts  chan struct{}
}

func (r *fading) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := r.Records.Get(ctx, key)
	err = errors.Join(err, r.Records.Delete(ctx, key, store.Always()))
	r.state.changes.Add(1)
	return rec, err
}

func (r *fading) Put(ctx context.Context, key string, data []byte, c store.Condition) (string, error) {
	<-r.puts
	return r.Records.Put(ctx, key, data, c)
}

// Who takes out of memory again what he has read, since it was deleted meanwhile, leaves what
// was put in the instant between.
func TestReadMeetsAPut(t *testing.T) {
	records := &fading{Records: mem.NewRecords(), puts: make(chan struct{})}
	s := newState(records, slog.New(slog.DiscardHandler))
	defer s.close()
	defer close(records.puts)
	records.state = s
	repo := origintest.Repo(t, "library/nginx")
	then := func(context.Context) error { return nil }
	record := func(key string, data ...[]byte) {
		if _, err := records.Records.Put(t.Context(), key, bytes.Join(data, []byte("\n")), store.Always()); err != nil {
			t.Fatal(err)
		}
	}

	// What is read comes to memory, and then this is put.
	name := tagKey{repo, "1"}
	first, second := tag{Digest: digest.FromString("1")}, tag{Digest: digest.FromString("2")}
	s.tags.after = func() {
		s.tags.after = func() {}
		s.putTag(name, second)
	}
	record(name.String(), fmt.Appendf(nil, `{"digest":%q}`, first.Digest))
	for _, want := range []tag{first, second} {
		if is, err := s.tag(t.Context(), name); err != nil || is != want {
			t.Errorf("the tag is %v, %v; want %v", is, err, want)
		}
	}

	m := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", []byte("{}"))
	content := contentKey{repo, m.Digest}
	s.manifests.after = func() {
		s.manifests.after = func() {}
		s.putManifest(content, m, then)
	}
	record(content.String(), []byte("{}"), m.Bytes)
	for range 2 {
		if is, err := s.manifest(t.Context(), content); err != nil || is.Digest != m.Digest {
			t.Errorf("the manifest is %v, %v", is, err)
		}
	}
}
