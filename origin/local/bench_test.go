package local_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// flatRecords are records whose own cost does not depend on how many there are:
// what grows in a benchmark over them is the registry. They take no conditions but
// Absent and Always, and list in no order.
type flatRecords struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (f *flatRecords) Get(_ context.Context, key string) (store.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.m[key]
	if !ok {
		return store.Record{}, store.ErrNotFound
	}
	return store.Record{Data: data, Version: "1"}, nil
}

func (f *flatRecords) Put(_ context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.m[key]; !if_.Allows(ok, "1") {
		return "", store.ErrConflict
	}
	f.m[key] = data
	return "1", nil
}

func (f *flatRecords) Delete(_ context.Context, key string, _ store.Condition) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, key)
	return nil
}

func (f *flatRecords) List(_ context.Context, prefix, _ string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		f.mu.Lock()
		keys := slices.Collect(maps.Keys(f.m))
		f.mu.Unlock()
		for _, key := range keys {
			if strings.HasPrefix(key, prefix+"/") && !yield(store.Entry{Key: key}, nil) {
				return
			}
		}
	}
}

func benchRegistry(b *testing.B) *local.Registry {
	b.Helper()
	reg, err := local.New(mem.NewBlobs(), &flatRecords{m: map[string][]byte{}}, local.Options{Delete: true})
	if err != nil {
		b.Fatal(err)
	}
	return reg
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkTags times what must cost the same however many tags there are.
func BenchmarkTags(b *testing.B) {
	for _, n := range []int{500, 100_000} {
		reg := benchRegistry(b)
		repo := origintest.Repo(b, "a")
		tree := origintest.Image([]byte("{}"), []byte("layer"))
		tree.Push(b, reg, "a")
		_, err := reg.Tags(b.Context(), repo, origin.Page{N: 1}) // the listing is kept by the writes
		must(b, err)
		for i := range n {
			origintest.PushManifest(b, reg, "a", tree.Manifest, fmt.Sprintf("t%06d", i*7919%n))
		}
		next := 0
		b.Run(fmt.Sprintf("push/%d", n), func(b *testing.B) {
			for b.Loop() {
				next++
				origintest.PushManifest(b, reg, "a", tree.Manifest, fmt.Sprintf("t%06d-%d", next*7919%n, next))
			}
		})
		b.Run(fmt.Sprintf("page/%d", n), func(b *testing.B) {
			for b.Loop() {
				_, err := reg.Tags(b.Context(), repo, origin.Page{After: fmt.Sprintf("t%06d", n/2), N: 100})
				must(b, err)
			}
		})
		b.Run(fmt.Sprintf("head/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				_, err := reg.Resolve(b.Context(), repo, origintest.Ref(b, fmt.Sprintf("t%06d", i%n)))
				must(b, err)
			}
		})
	}
}

// BenchmarkReferrers times what must cost the same however many referrers there
// are.
func BenchmarkReferrers(b *testing.B) {
	for _, n := range []int{250, 10_000} {
		reg := benchRegistry(b)
		repo := origintest.Repo(b, "a")
		subject := origintest.Image([]byte("{}"), []byte("layer")).Manifest.Descriptor.Descriptor
		sbom := func(i int) origintest.Tree {
			return origintest.Artifact(subject, "application/x", map[string]string{"n": fmt.Sprint(i)}, []byte("payload"))
		}
		sbom(0).Push(b, reg, "a")
		_, err := reg.Referrers(b.Context(), repo, subject.Digest, "", origin.Page{N: 1})
		must(b, err)
		for i := range n {
			origintest.PushManifest(b, reg, "a", sbom(i).Manifest)
		}
		next := n
		b.Run(fmt.Sprintf("push/%d", n), func(b *testing.B) {
			for b.Loop() {
				next++
				origintest.PushManifest(b, reg, "a", sbom(next).Manifest)
			}
		})
		b.Run(fmt.Sprintf("page/%d", n), func(b *testing.B) {
			for b.Loop() {
				_, err := reg.Referrers(b.Context(), repo, subject.Digest, "", origin.Page{N: 100})
				must(b, err)
			}
		})
		b.Run(fmt.Sprintf("filtered/%d", n), func(b *testing.B) {
			for b.Loop() {
				_, err := reg.Referrers(b.Context(), repo, subject.Digest, "application/x", origin.Page{N: 100})
				must(b, err)
			}
		})
	}
}

// BenchmarkPull times the hot path of one client: a manifest by tag and by digest,
// and the HEAD of a blob.
func BenchmarkPull(b *testing.B) {
	reg := benchRegistry(b)
	repo := origintest.Repo(b, "a")
	tree := origintest.Image([]byte("{}"), []byte("layer"))
	tree.Push(b, reg, "a", "latest")
	tag, d := origintest.Ref(b, "latest"), origin.ByDigest(tree.Digest())
	b.Run("tag", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := reg.Manifest(b.Context(), repo, tag)
			must(b, err)
		}
	})
	b.Run("digest", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := reg.Manifest(b.Context(), repo, d)
			must(b, err)
		}
	})
	b.Run("blob", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := reg.Stat(b.Context(), repo, tree.Blobs[1].Digest)
			must(b, err)
		}
	})
}
