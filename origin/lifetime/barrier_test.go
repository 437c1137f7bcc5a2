package lifetime_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// hooked is a store whose every call is told before and after it is made, with its context.
type hooked struct {
	blobs   store.Blobs
	records store.Records
	hook    func(context.Context)
}

func unhooked(context.Context) {}

func (h *hooked) call(ctx context.Context, do func()) {
	h.hook(ctx)
	do()
	h.hook(ctx)
}

type hookedRecords struct{ *hooked }

func (h hookedRecords) Get(ctx context.Context, key string) (rec store.Record, err error) {
	h.call(ctx, func() { rec, err = h.records.Get(ctx, key) })
	return rec, err
}

func (h hookedRecords) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (v string, err error) {
	h.call(ctx, func() { v, err = h.records.Put(ctx, key, data, if_) })
	return v, err
}

func (h hookedRecords) Delete(ctx context.Context, key string, if_ store.Condition) (err error) {
	h.call(ctx, func() { err = h.records.Delete(ctx, key, if_) })
	return err
}

func (h hookedRecords) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		h.hook(ctx)
		for e, err := range h.records.List(ctx, prefix, after) {
			if !yield(e, err) {
				return
			}
			h.hook(ctx)
		}
	}
}

type hookedBlobs struct{ *hooked }

func (h hookedBlobs) Stat(ctx context.Context, d digest.Digest) (i store.Info, err error) {
	h.call(ctx, func() { i, err = h.blobs.Stat(ctx, d) })
	return i, err
}

func (h hookedBlobs) Open(ctx context.Context, d digest.Digest, r store.Range) (b store.Blob, err error) {
	h.call(ctx, func() { b, err = h.blobs.Open(ctx, d, r) })
	return b, err
}

func (h hookedBlobs) Delete(ctx context.Context, d digest.Digest) (err error) {
	h.call(ctx, func() { err = h.blobs.Delete(ctx, d) })
	return err
}

func (h hookedBlobs) Ingest(ctx context.Context, id string, alg digest.Algorithm) (store.Ingest, error) {
	in, err := h.blobs.Ingest(ctx, id, alg)
	return hookedIngest{in, h}, err
}

func (h hookedBlobs) Ingests(ctx context.Context) iter.Seq2[store.IngestInfo, error] {
	return h.blobs.Ingests(ctx)
}

func (h hookedBlobs) All(ctx context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for i, err := range h.blobs.All(ctx) {
			h.hook(ctx)
			if !yield(i, err) {
				return
			}
		}
	}
}

// Adopt takes the bytes over as a disk does.
func (h hookedBlobs) Adopt(ctx context.Context, f *os.File, d digest.Digest) (info store.Info, err error) {
	in, err := h.blobs.Ingest(ctx, "", d.Algorithm())
	if err != nil {
		return info, err
	}
	if _, err := io.Copy(in, io.NewSectionReader(f, 0, 1<<40)); err != nil {
		return info, err
	}
	h.call(ctx, func() { info, err = in.Commit(ctx, d) })
	return info, err
}

type hookedIngest struct {
	store.Ingest
	h hookedBlobs
}

func (i hookedIngest) Commit(ctx context.Context, d digest.Digest) (info store.Info, err error) {
	i.h.call(ctx, func() { info, err = i.Ingest.Commit(ctx, d) })
	return info, err
}

// another is a process of its own on the same store, which collects garbage.
func another(t *testing.T, blobs store.Blobs, records store.Records) *lifetime.Collector {
	reg := open(t, blobs, records, false)
	// Nothing lags behind in this store: what is condemned may go at once.
	return lifetime.NewCollector(reg, reg, lifetime.CollectOptions{Grace: grace})
}

// acts are what clients do to what has been there for long, each with what it promises.
// An act fails as clients may, or it keeps its promise.
var acts = map[string]struct {
	before func(r *rig)
	do     func(ctx context.Context, reg *local.Registry, repo origin.Repo) error
}{
	"push of what lies there": {
		func(r *rig) {
			for _, b := range one.Blobs {
				r.blob("a", b.Bytes)
			}
		},
		pushTree,
	},
	"push of what another repository has": {
		func(r *rig) {
			for _, b := range one.Blobs {
				r.blob("b", b.Bytes)
			}
		},
		func(ctx context.Context, reg *local.Registry, to origin.Repo) error {
			from, err := origin.ParseRepo("b")
			if err != nil {
				return err
			}
			for _, b := range one.Blobs {
				if _, err := reg.Mount(ctx, from, to, b.Digest); err != nil && !origin.Unknown(err) {
					return err
				} else if err == nil {
					continue
				}
				if err := uploadBlob(ctx, reg, to, b.Bytes); err != nil {
					return err
				}
			}
			return pushManifest(ctx, reg, to)
		},
	},
	"upload of what is condemned": {
		func(r *rig) {
			for _, b := range one.Blobs {
				r.blob("b", b.Bytes)
				if err := r.reg.DeleteBlob(r.t.Context(), repo(r.t, "b"), b.Digest); err != nil {
					r.t.Fatal(err)
				}
				if err := r.reg.Condemn(r.t.Context(), b.Digest); err != nil {
					r.t.Fatal(err)
				}
			}
		},
		pushTree,
	},
	"push of what was deleted": {
		func(r *rig) {
			r.push("a", one)
			r.deleteManifest("a", one)
		},
		pushTree,
	},
	"push of what is not there": {func(*rig) {}, pushTree},
}

// pushTree pushes the first image.
func pushTree(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
	return pushes(ctx, reg, repo, one)
}

// pushes pushes an image as clients do: what is there is not pushed.
func pushes(ctx context.Context, reg *local.Registry, repo origin.Repo, image origintest.Tree, tags ...origin.Ref) error {
	for _, b := range image.Blobs {
		_, err := reg.Stat(ctx, repo, b.Digest)
		if origin.Unknown(err) {
			err = uploadBlob(ctx, reg, repo, b.Bytes)
		}
		if err != nil {
			return err
		}
	}
	_, err := reg.Push(ctx, repo, image.Manifest, origin.PushOptions{Tags: tags})
	return err
}

func pushManifest(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
	_, err := reg.Push(ctx, repo, one.Manifest, origin.PushOptions{})
	return err
}

func uploadBlob(ctx context.Context, w origin.Writer, repo origin.Repo, b []byte) error {
	in, err := w.Upload(ctx, repo, "", digest.SHA256)
	if err != nil {
		return err
	}
	if _, err := in.Write(b); err != nil {
		return err
	}
	_, err = in.Commit(ctx, digestOf(b))
	return err
}

func digestOf(b []byte) digest.Digest { return digest.FromBytes(b) }

// Another process collects all garbage before and after each single call that a push
// makes to the store. The push succeeds, and all of it is there; or it is told to try
// again, before anything was promised, and then succeeds.
func TestCollectionAtEveryCall(t *testing.T) {
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			refused := 0
			for n := 0; ; n++ {
				done := false
				synctest.Test(t, func(t *testing.T) {
					h := &hooked{blobs: mem.NewBlobs(), records: mem.NewRecords(), hook: unhooked}
					r := &rig{t: t, blobs: hookedBlobs{h}, records: hookedRecords{h}, age: time.Sleep}
					r.reg = open(t, r.blobs, r.records, false)
					act.before(r)
					r.age(long)
					collector, calls := another(t, h.blobs, h.records), 0
					h.hook = func(context.Context) {
						if calls++; calls == n+1 {
							if _, err := collector.Run(t.Context(), false); err != nil {
								t.Error(err)
							}
						}
					}
					err := act.do(t.Context(), r.reg, repo(t, "a"))
					done = calls <= n
					h.hook = unhooked
					if err != nil {
						refused++
						if !errors.Is(err, origin.ErrUnavailable) {
							t.Errorf("collected at call %d: %v", n, err)
						}
						if err := act.do(t.Context(), r.reg, repo(t, "a")); err != nil {
							t.Errorf("collected at call %d: again: %v", n, err)
						}
					}
					for range 2 {
						if err := pulls(t.Context(), open(t, h.blobs, h.records, false), repo(t, "a"), one); err != nil {
							t.Errorf("collected at call %d: %v", n, err)
						}
						r.age(long)
						if _, err := collector.Run(t.Context(), false); err != nil {
							t.Error(err)
						}
					}
				})
				if done || t.Failed() {
					t.Logf("%d calls, %d told to try again", n, refused)
					break
				}
			}
		})
	}
}

// And the other way round: a push comes before and after each single call that a
// collection makes.
func TestPushAtEveryCall(t *testing.T) {
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			refused := 0
			for n := 0; ; n++ {
				done := false
				synctest.Test(t, func(t *testing.T) {
					h := &hooked{blobs: mem.NewBlobs(), records: mem.NewRecords(), hook: unhooked}
					r := &rig{t: t, blobs: h.blobs, records: h.records, age: time.Sleep}
					r.reg = open(t, r.blobs, r.records, false)
					act.before(r)
					garbage := r.blob("garbage", []byte("garbage"))
					r.age(long)
					collector, calls := another(t, hookedBlobs{h}, hookedRecords{h}), make(chan int, 1)
					calls <- 0
					var pushed error
					h.hook = func(context.Context) {
						c := <-calls
						calls <- c + 1
						if c == n {
							pushed = act.do(t.Context(), r.reg, repo(t, "a"))
						}
					}
					if _, err := collector.Run(t.Context(), false); err != nil {
						t.Errorf("push at call %d: %v", n, err)
					}
					h.hook = unhooked
					if done = <-calls <= n; done {
						pushed = act.do(t.Context(), r.reg, repo(t, "a"))
					}
					if pushed != nil {
						refused++
						if !errors.Is(pushed, origin.ErrUnavailable) {
							t.Errorf("push at call %d: %v", n, pushed)
						}
						if err := act.do(t.Context(), r.reg, repo(t, "a")); err != nil {
							t.Errorf("push at call %d: again: %v", n, err)
						}
					}
					for range 2 {
						if err := pulls(t.Context(), open(t, h.blobs, h.records, false), repo(t, "a"), one); err != nil {
							t.Errorf("push at call %d: %v", n, err)
						}
						r.age(long)
						if _, err := collector.Run(t.Context(), false); err != nil {
							t.Error(err)
						}
					}
					if r.stored(garbage) {
						t.Errorf("push at call %d: garbage is there", n)
					}
				})
				if done || t.Failed() {
					t.Logf("%d calls, %d told to try again", n, refused)
					break
				}
			}
		})
	}
}

// A blob is spared and condemned again while one process lists all links, since somebody
// linked it and another process did not see that. The first one does not take the new
// condemnation for the one that it has looked into.
func TestCondemnedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hooked{blobs: mem.NewBlobs(), records: mem.NewRecords(), hook: unhooked}
		r := &rig{t: t, blobs: h.blobs, records: h.records, age: time.Sleep}
		r.reg = open(t, r.blobs, r.records, false)
		d := r.blob("a", []byte("blob"))
		r.age(long)
		if err := errors.Join(r.reg.DeleteBlob(t.Context(), repo(t, "a"), d), r.reg.Condemn(t.Context(), d)); err != nil {
			t.Fatal(err)
		}
		last := &afterItems{Registry: r.reg, then: func() {
			r.blob("a", []byte("blob"))
			if err := r.reg.Condemn(t.Context(), d); err != nil {
				t.Error(err)
			}
		}}
		if _, err := lifetime.NewCollector(last, last, lifetime.CollectOptions{Grace: grace}).Run(t.Context(), false); err != nil {
			t.Error(err)
		}
		if !r.stored(d) {
			t.Error("a blob that is linked is gone")
		}
		if last.lists != 2 {
			t.Errorf("%d listings, want 2", last.lists)
		}
	})
}

// afterItems does something after the second listing of all links.
type afterItems struct {
	*local.Registry
	lists int
	then  func()
}

func (a *afterItems) Items(ctx context.Context) iter.Seq2[origin.Item, error] {
	return func(yield func(origin.Item, error) bool) {
		a.Registry.Items(ctx)(yield)
		if a.lists++; a.lists == 2 {
			a.then()
		}
	}
}
