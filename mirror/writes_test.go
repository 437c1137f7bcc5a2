package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// Mirrored repositories take no pushes, whatever the push is called.
func TestMirroredTakesNoPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		repo, ctx := origintest.Repo(t, full), t.Context()
		_, push := r.Push(ctx, repo, img.Manifest, origin.PushOptions{})
		_, upload := r.Upload(ctx, repo, "", digest.SHA256)
		_, mount := r.Mount(ctx, origintest.Repo(t, "team/app"), repo, img.Blobs[0].Digest)
		for what, err := range map[string]error{"push": push, "upload": upload, "mount": mount} {
			if !errors.Is(err, origin.ErrUnsupported) {
				t.Errorf("%s: %v", what, err)
			}
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// A name without an upstream is the default upstream's until it is pushed to; from
// then on it is local, also when it was emptied. library is not to be had so.
func TestLocalBeforeDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		theirs.Push(t, r.hub[0].Registry, "team/app", "1")
		r.pull("team/app", "1", theirs)
		ours.Push(t, r, "team/app", "1")
		r.hub[0].took()
		r.pull("team/app", "1", ours)
		r.pull("docker.io/team/app", "1", theirs)
		if err := r.DeleteManifest(t.Context(), origintest.Repo(t, "team/app"), origin.ByDigest(ours.Manifest.Digest)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(t.Context(), origintest.Repo(t, "team/app"), origintest.Ref(t, "1")); !errors.Is(err, origin.ErrManifestUnknown) {
			t.Errorf("emptied: %v", err)
		}
		r.requests(r.hub[0])

		theirs.Push(t, r.hub[0].Registry, name, "1")
		r.pull(name, "1", theirs) // docker's registry-mirrors
		for _, n := range []string{"library/nginx", "library/other"} {
			if _, err := r.Upload(t.Context(), origintest.Repo(t, n), "", digest.SHA256); !errors.Is(err, origin.ErrDenied) {
				t.Errorf("push to %s: %v", n, err)
			}
		}
		r.stop()
	})
}

// Where somebody else decides who may, a push makes a name below library local as it
// does any other.
func TestLibraryIsClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.options.Claims = true })
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		theirs.Push(t, r.hub[0].Registry, name, "1")
		r.pull(name, "1", theirs)
		ours.Push(t, r, name, "1")
		r.hub[0].took()
		r.pull(name, "1", ours)
		r.requests(r.hub[0])
		r.pull(full, "1", theirs)
		r.stop()
	})
}

// What is cached can be mounted into a local repository; nothing is fetched for it.
func TestMountFromMirrored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		from, to := origintest.Repo(t, full), origintest.Repo(t, "team/app")
		if _, err := r.Mount(t.Context(), from, to, img.Blobs[0].Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("not cached: %v", err)
		}
		r.requests(r.hub[0])
		r.pull(full, "1.27", img)
		synctest.Wait()
		r.hub[0].took()
		for _, b := range img.Blobs {
			if _, err := r.Mount(t.Context(), from, to, b.Digest); err != nil {
				t.Error(err)
			}
		}
		origintest.PushManifest(t, r, "team/app", img.Manifest, "mine")
		r.pull("team/app", "mine", img)
		r.requests(r.hub[0])
		r.stop()
	})
}

// A deletion drops from the cache, and the next pull fetches anew; a registry that
// allows no deletions allows this one neither.
func TestDeleteDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		synctest.Wait()
		cold := r.hub[0].took()
		repo, tag, man := origintest.Repo(t, full), origintest.Ref(t, "1.27"), origin.ByDigest(img.Manifest.Digest)
		for range 2 {
			if err := r.DeleteManifest(t.Context(), repo, tag); err != nil {
				t.Error(err)
			}
			if err := r.DeleteManifest(t.Context(), repo, man); err != nil {
				t.Error(err)
			}
			for _, b := range img.Blobs {
				if err := r.DeleteBlob(t.Context(), repo, b.Digest); err != nil {
					t.Error(err)
				}
			}
			if err := r.DeleteManifest(t.Context(), repo, tag); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("again: %v", err)
			}
			if err := r.DeleteManifest(t.Context(), repo, man); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("again: %v", err)
			}
			r.pull(full, "1.27", img)
			synctest.Wait()
			again := r.hub[0].took()
			for i, ask := range again {
				if len(again) == len(cold) && bytes.HasPrefix([]byte(ask), []byte("HEAD "+name+" blob")) {
					again[i] = "GET" + ask[4:]
				}
			}
			if !slices.Equal(again[:2], cold[:2]) {
				t.Errorf("asked %v, at first %v", again, cold)
			}
		}
		r.stop()
	})
}

func TestDeleteIsRefused(t *testing.T) {
	spools, err := fill.OpenSpools(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	table, err := mirror.NewTable([]*mirror.Upstream{{Name: "docker.io"}}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	m := mirror.New(newLocal(t, mem.NewBlobs(), mem.NewRecords()), mem.NewRecords(), fill.NewGroup(spools, fill.Options{}), table, mirror.Options{})
	repo, img := origintest.Repo(t, full), nginx()
	for what, err := range map[string]error{
		"tag":      m.DeleteManifest(t.Context(), repo, origintest.Ref(t, "1")),
		"manifest": m.DeleteManifest(t.Context(), repo, origin.ByDigest(img.Manifest.Digest)),
		"blob":     m.DeleteBlob(t.Context(), repo, img.Blobs[0].Digest),
	} {
		if !errors.Is(err, origin.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Listings are the upstream's. While it is down, tags that are remembered are listed
// and said to be stale.
func TestListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.25", "1.26", "1.27")
		sbom := origintest.Artifact(img.Manifest.Descriptor.Descriptor, "application/spdx+json", nil, []byte("{}"))
		sbom.Push(t, r.hub[0].Registry, name)
		origintest.CheckTags(t, r, full, []string{"1.25", "1.26", "1.27"})
		origintest.CheckReferrers(t, r, full, img.Manifest.Digest, "", []origintest.Tree{sbom})
		r.pull(full, "1.26", img)
		r.pull(full, "1.27", img)
		synctest.Wait()

		r.hub[0].fail = r.hub[0].down
		list, err := r.Tags(t.Context(), origintest.Repo(t, full), origin.Page{N: 100})
		if err != nil || !slices.Equal(list.Items, []string{"1.26", "1.27"}) || list.Source.Cache != origin.Stale {
			t.Errorf("%+v, %v", list, err)
		}
		if _, err := r.Tags(t.Context(), origintest.Repo(t, "docker.io/library/never"), origin.Page{N: 100}); err == nil {
			t.Error("tags of what nobody knows")
		}
		r.stop()
	})
}

// Explain says what is known, and asks nobody.
func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		repo, ref := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		x, err := r.Explain(t.Context(), repo, ref)
		if err != nil || x.Route != "mirrored" || x.Upstream != "docker.io" || x.Tag != nil {
			t.Errorf("never pulled: %+v, %v", x, err)
		}
		r.requests(r.hub[0])
		r.pull(full, "1.27", origintest.Tree{Manifest: img.Manifest, Blobs: img.Blobs[:2]})
		synctest.Wait()
		r.hub[0].took()
		x, err = r.Explain(t.Context(), repo, ref)
		if err != nil || x.Tag == nil || !x.Tag.Fresh || x.Manifest == nil || !x.Manifest.Cached || len(x.Blobs) != 5 {
			t.Fatalf("%+v, %v", x, err)
		}
		var where []string
		for _, b := range x.Blobs {
			where = append(where, b.Where)
		}
		if !slices.Equal(where, []string{"stored", "stored", "upstream", "upstream", "upstream"}) {
			t.Errorf("blobs are %v", where)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// lookedAt counts what is read.
type lookedAt struct {
	store.Records
	n atomic.Int64
}

func (l *lookedAt) Get(ctx context.Context, key string) (store.Record, error) {
	l.n.Add(1)
	return l.Records.Get(ctx, key)
}

// Of what names very much the first is looked for, and that there is more is said.
func TestExplainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &lookedAt{Records: mem.NewRecords()}
		r := newRig(t, func(r *rig) { r.records = records })
		names := func(n int, mediaType string) string {
			var list []string
			for i := range n {
				list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, mediaType, digest.FromString(fmt.Sprint(i))))
			}
			return "[" + strings.Join(list, ",") + "]"
		}
		for n, shortened := range map[int]bool{199: false, 3000: true} {
			for mediaType, text := range map[string]string{
				origin.MediaTypeOCIIndex:    `{"schemaVersion":2,"manifests":` + names(n, origin.MediaTypeOCIManifest) + `}`,
				origin.MediaTypeOCIManifest: `{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"` + digest.FromString("config").String() + `","size":1},"layers":` + names(n, "x/y") + `}`,
			} {
				repo, ref := origintest.Repo(t, full), origin.ByDigest(digest.FromString(text))
				m := origin.Manifest{Bytes: []byte(text), Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{MediaType: mediaType, Digest: ref.Digest(), Size: int64(len(text))}}}
				if _, err := r.hub[0].Registry.Push(t.Context(), origintest.Repo(t, name), m, origin.PushOptions{Sparse: true}); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Manifest(t.Context(), repo, ref); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				records.n.Store(0)
				x, err := r.Explain(t.Context(), repo, ref)
				if shown := len(x.Manifests) + len(x.Blobs); err != nil || x.Shortened != shortened || shown != min(n, 200) && shown != min(n+1, 200) {
					t.Errorf("%s of %d: %d are shown, shortened %v, %v", mediaType, n, shown, x.Shortened, err)
				}
				if read := records.n.Load(); read > 3*200+10 {
					t.Errorf("%s of %d: %d records were read", mediaType, n, read)
				}
			}
		}
		r.stop()
	})
}

// A mirror is a registry like any other: for what is pushed to it, and for what it
// mirrors.
func TestMirrorIsARegistry(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		r := newRig(t)
		t.Cleanup(r.stop)
		return r
	})
}

func TestMirrorIsAReader(t *testing.T) {
	origintest.Reader(t, "ghcr.io", func(t testing.TB, c origintest.Content) origin.Reader {
		r := newRig(t)
		c.Push(t, r.ghcr.Registry)
		t.Cleanup(r.stop)
		return r
	})
}

// While the default upstream is away, pushes go on: who asks whether something is
// there is told that it is not, and waits for the upstream once.
func TestPushWhileDefaultIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.hub[0].fail = r.hub[0].hang
		img, repo, ctx := nginx(), origintest.Repo(t, "team/app"), t.Context()
		begin := time.Now()
		for range 3 {
			_, tag := r.Resolve(ctx, repo, origintest.Ref(t, "1"))
			_, byDigest := r.Resolve(ctx, repo, origin.ByDigest(img.Manifest.Digest))
			_, blob := r.Stat(ctx, repo, img.Blobs[0].Digest)
			for _, err := range []error{tag, byDigest, blob} {
				if oe, ok := errors.AsType[*origin.Error](err); !ok || oe.HTTPStatus() != 404 {
					t.Errorf("told %v", err)
				}
			}
		}
		if took := time.Since(begin); took != 14*time.Second {
			t.Errorf("waited %v", took)
		}
		r.requests(r.hub[0], "HEAD team/app 1")
		if _, err := r.Manifest(ctx, repo, origintest.Ref(t, "1")); origin.Unknown(err) || err == nil {
			t.Errorf("a pull is told that it is not there: %v", err)
		}
		img.Push(t, r, "team/app", "1")
		r.pull("team/app", "1", img)
		r.stop()
	})
}

// A client that was told that the default upstream's repository has something does
// not upload it; its push succeeds all the same.
func TestPushOverDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		one, two := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		index := origintest.Index(one, two)
		one.Push(t, r.hub[0].Registry, "team/app", "1")
		r.pull("team/app", "1", one)
		synctest.Wait()
		r.hub[0].took()
		for _, b := range one.Blobs {
			if _, err := r.Stat(t.Context(), origintest.Repo(t, "team/app"), b.Digest); err != nil {
				t.Errorf("kept: %v", err)
			}
		}
		two.Push(t, r, "team/app")
		origintest.PushManifest(t, r, "team/app", index.Manifest, "mine")
		r.pull("team/app", "mine", origintest.Tree{Manifest: index.Manifest})
		r.pull("team/app", one.Manifest.Digest.String(), one)
		r.requests(r.hub[0])
		r.stop()
	})
}

// lagging is records of which one is read, and answered later.
type lagging struct {
	store.Records
	begin string // of the name of that record
	until chan struct{}
}

func (l *lagging) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := l.Records.Get(ctx, key)
	if l.begin != "" && strings.HasPrefix(key, l.begin) {
		l.begin = ""
		<-l.until
	}
	return rec, err
}

// What was read before a deletion, and comes to memory after it, does not undo it.
func TestDeletionMeetsARead(t *testing.T) {
	img := nginx()
	for kind, ref := range map[string]string{"_t": "1", "_m": img.Digest().String()} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &lagging{Records: mem.NewRecords(), until: make(chan struct{})}
				r := newRig(t, func(r *rig) { r.records = records })
				img.Push(t, r.hub[0].Registry, name, "1")
				r.pull(full, "1", img)
				r.restart() // nothing is in memory
				records.begin = "mirror/" + full + "/" + kind + "/"
				repo, what := origintest.Repo(t, full), origintest.Ref(t, ref)
				read := make(chan error, 1)
				go func() {
					_, err := r.Here().Manifest(context.Background(), repo, what)
					read <- err
				}()
				synctest.Wait()
				if err := r.DeleteManifest(t.Context(), repo, what); err != nil {
					t.Fatal(err)
				}
				close(records.until)
				if err := <-read; err != nil {
					t.Errorf("who had read before: %v", err)
				}
				if _, err := r.Here().Manifest(t.Context(), repo, what); !errors.Is(err, origin.ErrManifestUnknown) {
					t.Errorf("after it: %v", err)
				}
				r.stop()
			})
		})
	}
}

// So it is with what refers to a manifest.
func TestDeletionMeetsAReadOfReferrers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &lagging{Records: mem.NewRecords(), until: make(chan struct{})}
		r := newRig(t, func(r *rig) { r.records = records })
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1")
		repo := origintest.Repo(t, full)
		list := func() {
			if _, err := r.Referrers(context.Background(), repo, img.Digest(), "", origin.Page{}); err != nil {
				t.Error(err)
			}
		}
		r.pull(full, "1", img)
		list()
		r.restart()
		records.begin = "mirror/" + full + "/_r/"
		read := make(chan struct{})
		go func() { list(); close(read) }()
		synctest.Wait()
		if err := r.DeleteManifest(t.Context(), repo, origin.ByDigest(img.Digest())); err != nil {
			t.Fatal(err)
		}
		close(records.until)
		<-read
		r.hub[0].took()
		list()
		r.requests(r.hub[0], "REFERRERS "+name+" "+img.Digest().String())
		r.stop()
	})
}

// halting is records in which what has names that begin so is halted, once it may be: before
// and after it is deleted, and before it is written.
type halting struct {
	store.Records
	begin               string
	delete, gone, write chan struct{} // nil: it is not halted
}

func (h *halting) halts(key string, until chan struct{}) {
	if until != nil && strings.HasPrefix(key, h.begin) {
		<-until
	}
}

func (h *halting) Delete(ctx context.Context, key string, c store.Condition) error {
	h.halts(key, h.delete)
	err := h.Records.Delete(ctx, key, c)
	h.halts(key, h.gone)
	return err
}

func (h *halting) Put(ctx context.Context, key string, data []byte, c store.Condition) (string, error) {
	h.halts(key, h.write)
	return h.Records.Put(ctx, key, data, c)
}

// What is read and comes to memory while a deletion waits for its turn is let go.
func TestDeletionFollowsARead(t *testing.T) {
	img := nginx()
	for kind, ref := range map[string]string{"_t": "1", "_m": img.Digest().String()} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &halting{Records: mem.NewRecords(), begin: "mirror/" + full + "/" + kind + "/", delete: make(chan struct{})}
				r := newRig(t, func(r *rig) { r.records = records })
				img.Push(t, r.hub[0].Registry, name, "1")
				r.pull(full, "1", img)
				repo, what := origintest.Repo(t, full), origintest.Ref(t, ref)
				deleted := make(chan error)
				go func() { deleted <- r.DeleteManifest(context.Background(), repo, what) }()
				synctest.Wait()
				if _, err := r.Here().Manifest(t.Context(), repo, what); err != nil {
					t.Errorf("before it: %v", err)
				}
				close(records.delete)
				if err := <-deleted; err != nil {
					t.Error(err)
				}
				if _, err := r.Here().Manifest(t.Context(), repo, what); !errors.Is(err, origin.ErrManifestUnknown) {
					t.Errorf("after it: %v", err)
				}
				r.stop()
			})
		})
	}
}

// What is asked for again behind a deletion, before that has ended, stays in memory: nobody
// asks for it once more until it is recorded.
func TestDeletionMeetsAnAnswer(t *testing.T) {
	img := nginx()
	d := img.Digest().String()
	for kind, c := range map[string]struct{ ref, asked string }{
		"_t": {"1", "GET " + name + " 1"},
		"_m": {d, "GET " + name + " " + d},
		"_r": {d, "REFERRERS " + name + " " + d},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &halting{Records: mem.NewRecords(), begin: "mirror/" + full + "/" + kind + "/"}
				r := newRig(t, func(r *rig) { r.records = records })
				img.Push(t, r.hub[0].Registry, name, "1")
				repo, what := origintest.Repo(t, full), origintest.Ref(t, c.ref)
				ask := func(want ...string) {
					t.Helper()
					var err error
					if kind == "_r" {
						_, err = r.Referrers(t.Context(), repo, img.Digest(), "", origin.Page{})
					} else {
						_, err = r.Manifest(t.Context(), repo, what)
					}
					if err != nil {
						t.Error(err)
					}
					r.requests(r.hub[0], want...)
				}
				r.pull(full, "1", img)
				synctest.Wait()
				r.hub[0].took()
				records.gone, records.write = make(chan struct{}), make(chan struct{})
				deleted := make(chan error)
				go func() { deleted <- r.DeleteManifest(context.Background(), repo, what) }()
				synctest.Wait()
				ask(c.asked)
				close(records.gone)
				synctest.Wait()
				ask()
				close(records.write)
				if err := <-deleted; err != nil {
					t.Error(err)
				}
				r.restart() // it is recorded after the deletion
				ask()
				r.stop()
			})
		})
	}
}
