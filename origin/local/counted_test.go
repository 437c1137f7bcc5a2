package local_test

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// counted counts the calls of a store: what a request costs, whatever the machine.
type counted struct {
	store.Blobs
	store.Records
	reads, writes, lists, entries, stats atomic.Int64
}

func (c *counted) Stat(ctx context.Context, d digest.Digest) (store.Info, error) {
	c.stats.Add(1)
	return c.Blobs.Stat(ctx, d)
}

func (c *counted) Get(ctx context.Context, key string) (store.Record, error) {
	c.reads.Add(1)
	return c.Records.Get(ctx, key)
}

func (c *counted) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	c.writes.Add(1)
	return c.Records.Put(ctx, key, data, if_)
}

func (c *counted) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	c.lists.Add(1)
	return func(yield func(store.Entry, error) bool) {
		for e, err := range c.Records.List(ctx, prefix, after) {
			c.entries.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// blobs and records give the two stores apart, since both have a Delete.
type countedBlobs struct{ *counted }

func (c countedBlobs) Delete(ctx context.Context, d digest.Digest) error {
	return c.Blobs.Delete(ctx, d)
}

type countedRecords struct{ *counted }

func (c countedRecords) Delete(ctx context.Context, key string, if_ store.Condition) error {
	c.writes.Add(1)
	return c.Records.Delete(ctx, key, if_)
}

// cost is what a request costs.
type cost struct{ reads, writes, lists, entries, stats int64 }

// of gives what f costs.
func (c *counted) of(f func()) cost {
	now := func() cost {
		return cost{c.reads.Load(), c.writes.Load(), c.lists.Load(), c.entries.Load(), c.stats.Load()}
	}
	before := now()
	f()
	after := now()
	return cost{
		after.reads - before.reads, after.writes - before.writes, after.lists - before.lists,
		after.entries - before.entries, after.stats - before.stats,
	}
}

func newCounted() *counted { return &counted{Blobs: mem.NewBlobs(), Records: mem.NewRecords()} }

func (c *counted) open(t testing.TB) *local.Registry {
	t.Helper()
	r, err := local.New(countedBlobs{c}, countedRecords{c}, local.Options{Delete: true, Sole: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// request is what must cost the same however much there is.
type request struct {
	name string
	do   func(reg *local.Registry)
}

// grow fills a registry step by step, and fails the test where a request costs
// other calls at one size than at another, or more than three reads of the store.
func grow(t *testing.T, sizes []int, add func(reg *local.Registry, i int), requests func(n int) []request) {
	c := newCounted()
	warm := c.open(t)
	costs := map[string]cost{}
	i := 0
	for _, n := range sizes {
		for ; i < n; i++ {
			add(warm, i)
		}
		for _, q := range requests(n) {
			q.do(warm) // so that what is built once is built
			got := c.of(func() { q.do(warm) })
			want, ok := costs[q.name]
			if !ok {
				costs[q.name], want = got, got
			}
			if got != want {
				t.Errorf("%s costs %+v at %d and %+v at %d", q.name, got, n, want, sizes[0])
			}
			if got.reads+got.lists > 3 || got.entries > 0 {
				t.Errorf("%s costs %+v at %d", q.name, got, n)
			}
		}
	}
}

func TestCostOfTags(t *testing.T) {
	tree := origintest.Image([]byte("{}"), []byte("layer"))
	repo := origintest.Repo(t, "a")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	grow(t, []int{500, 10_000}, func(reg *local.Registry, i int) {
		if i == 0 {
			tree.Push(t, reg, "a")
		}
		origintest.PushManifest(t, reg, "a", tree.Manifest, fmt.Sprintf("t%06d", i))
	}, func(n int) []request {
		next := n * 10
		return []request{
			{"push of a new tag", func(reg *local.Registry) {
				next++
				origintest.PushManifest(t, reg, "a", tree.Manifest, fmt.Sprintf("next%d", next))
			}},
			{"push of the same tag", func(reg *local.Registry) {
				origintest.PushManifest(t, reg, "a", tree.Manifest, "t000007")
			}},
			{"page of 100", func(reg *local.Registry) {
				l, err := reg.Tags(t.Context(), repo, origin.Page{After: fmt.Sprintf("t%06d", n/2), N: 100})
				must(err)
				if len(l.Items) != 100 || !l.More {
					t.Errorf("%d items, more: %v", len(l.Items), l.More)
				}
			}},
			{"HEAD by tag", func(reg *local.Registry) {
				_, err := reg.Resolve(t.Context(), repo, origintest.Ref(t, fmt.Sprintf("t%06d", n/2)))
				must(err)
			}},
			{"GET by tag", func(reg *local.Registry) {
				_, err := reg.Manifest(t.Context(), repo, origintest.Ref(t, fmt.Sprintf("t%06d", n/2)))
				must(err)
			}},
			{"deletion of a tag", func(reg *local.Registry) {
				next++
				tag := fmt.Sprintf("gone%d", next)
				origintest.PushManifest(t, reg, "a", tree.Manifest, tag)
				must(reg.DeleteManifest(t.Context(), repo, origintest.Ref(t, tag)))
			}},
			{"existence", func(reg *local.Registry) {
				_, err := reg.Tags(t.Context(), repo, origin.Page{})
				must(err)
			}},
		}
	})
}

func TestCostOfReferrers(t *testing.T) {
	subject := origintest.Image([]byte("{}"))
	repo := origintest.Repo(t, "a")
	sbom := func(i int) origintest.Tree {
		return origintest.Artifact(subject.Manifest.Descriptor.Descriptor, "application/x",
			map[string]string{"n": fmt.Sprint(i)}, []byte("payload"))
	}
	grow(t, []int{250, 5_000}, func(reg *local.Registry, i int) {
		if i == 0 {
			sbom(0).Push(t, reg, "a")
		}
		origintest.PushManifest(t, reg, "a", sbom(i).Manifest)
	}, func(n int) []request {
		next := n * 10
		return []request{
			{"push of a referrer", func(reg *local.Registry) {
				next++
				origintest.PushManifest(t, reg, "a", sbom(next).Manifest)
			}},
			{"page of 100", func(reg *local.Registry) {
				l, err := reg.Referrers(t.Context(), repo, subject.Digest(), "", origin.Page{N: 100})
				if err != nil || len(l.Items) != 100 || !l.More {
					t.Errorf("%d items, more: %v, %v", len(l.Items), l.More, err)
				}
			}},
		}
	})
}

// The first requests after a start read no more than what they answer with, and
// nothing that grows, but for the one listing that pages are cut from.
func TestCostOfColdRequests(t *testing.T) {
	c := newCounted()
	tree := origintest.Image([]byte("{}"), []byte("layer"))
	full := c.open(t)
	for i := range 2000 {
		if i == 0 {
			tree.Push(t, full, "a")
		}
		origintest.PushManifest(t, full, "a", tree.Manifest, fmt.Sprintf("t%06d", i))
	}
	repo, tag := origintest.Repo(t, "a"), origintest.Ref(t, "t000100")
	for _, x := range []struct {
		name string
		do   func(reg *local.Registry) error
		want cost
	}{
		{"HEAD by tag", func(reg *local.Registry) error {
			_, err := reg.Resolve(t.Context(), repo, tag)
			return err
		}, cost{reads: 2}}, // tag, manifest: one that is damaged is not there
		{"GET by tag", func(reg *local.Registry) error {
			_, err := reg.Manifest(t.Context(), repo, tag)
			return err
		}, cost{reads: 2}},
		{"HEAD of a blob", func(reg *local.Registry) error {
			_, err := reg.Stat(t.Context(), repo, tree.Blobs[0].Digest)
			return err
		}, cost{reads: 1, stats: 1}},
		{"push", func(reg *local.Registry) error {
			_, err := reg.Push(t.Context(), repo, tree.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "new")}})
			return err
		}, cost{reads: 4, writes: 3, stats: 2}}, // reads: two links, manifest, tag; writes: repository, note, tag
		{"existence", func(reg *local.Registry) error {
			_, err := reg.Tags(t.Context(), repo, origin.Page{})
			return err
		}, cost{reads: 1}},
		{"page", func(reg *local.Registry) error {
			_, err := reg.Tags(t.Context(), repo, origin.Page{N: 10})
			return err
		}, cost{reads: 1, lists: 1, entries: 2001}},
	} {
		reg := c.open(t)
		if got := c.of(func() {
			if err := x.do(reg); err != nil {
				t.Errorf("%s: %v", x.name, err)
			}
		}); got != x.want {
			t.Errorf("%s costs %+v, want %+v", x.name, got, x.want)
		}
	}
}

// A new image costs two records beside those of its blobs: its manifest, its tag.
func TestCostOfNewImage(t *testing.T) {
	c := newCounted()
	reg := c.open(t)
	origintest.Image([]byte("{}")).Push(t, reg, "a")
	tree := origintest.Image([]byte("{}"), nil)
	origintest.PushBlob(t, reg, "a", nil)
	if got := c.of(func() { origintest.PushManifest(t, reg, "a", tree.Manifest, "v1") }); got.writes != 2 || got.lists != 0 {
		t.Errorf("a push costs %+v", got)
	}
	if got := c.of(func() { origintest.PushManifest(t, reg, "a", tree.Manifest, "v1") }); got.writes != 0 || got.reads != 0 {
		t.Errorf("the same again costs %+v", got)
	}
}
