package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	lru "github.com/hashicorp/golang-lru/v2"
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
		if names, ok := s.named.Peek(m.Digest); ok != held || ok && len(names) != layers+1 {
			t.Errorf("%d layers: held %v, %d names", layers, ok, len(names))
		}
	}
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

	// What is read comes to memory in the place of another one, and then this is put.
	name, other := tagKey{repo, "1"}, tagKey{repo, "2"}
	first, second := tag{Digest: digest.FromString("1")}, tag{Digest: digest.FromString("2")}
	s.tags, _ = lru.NewWithEvict(1, func(was tagKey, _ tag) {
		if was == other {
			s.putTag(name, second)
		}
	})
	s.tags.Add(other, first)
	record(name.String(), fmt.Appendf(nil, `{"digest":%q}`, first.Digest))
	for _, want := range []tag{first, second} {
		if is, err := s.tag(t.Context(), name); err != nil || is != want {
			t.Errorf("the tag is %v, %v; want %v", is, err, want)
		}
	}

	m := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", []byte("{}"))
	content, another := contentKey{repo, m.Digest}, contentKey{repo, digest.FromString("other")}
	s.manifests, _ = lru.NewWithEvict(1, func(was contentKey, _ origin.Manifest) {
		if was == another {
			s.putManifest(content, m, then)
		}
	})
	s.manifests.Add(another, m)
	record(content.String(), []byte("{}"), m.Bytes)
	for range 2 {
		if is, err := s.manifest(t.Context(), content); err != nil || is.Digest != m.Digest {
			t.Errorf("the manifest is %v, %v", is, err)
		}
	}
}
