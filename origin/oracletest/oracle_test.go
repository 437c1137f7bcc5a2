package oracletest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

func newLocal(t *testing.T) *local.Registry {
	t.Helper()
	r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func overHTTP(t *testing.T, r origin.Registry) *oracletest.HTTP {
	t.Helper()
	srv := httptest.NewServer(serve.New(r, serve.Options{}))
	t.Cleanup(srv.Close)
	return &oracletest.HTTP{Base: srv.URL, Client: srv.Client()}
}

// work lets workers do so many steps each.
func work(t *testing.T, reg origin.Registry, ledger *oracletest.Ledger, world *oracletest.World, seed uint64, workers, steps int) {
	t.Helper()
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			w := oracletest.NewWorker(reg, ledger, world, seed, uint64(n))
			for range steps {
				if err := w.Step(t.Context()); err != nil {
					t.Errorf("seed %d, worker %d: %v", seed, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A registry that keeps its word passes, in this process and over HTTP, whoever reads
// and whoever has written, and whether all is told or only what came of it.
func TestGoodRegistry(t *testing.T) {
	for seed := range uint64(10) {
		reg := newLocal(t)
		client := overHTTP(t, reg)
		world, ledger := oracletest.NewWorld(seed, 500), new(oracletest.Ledger)
		work(t, reg, ledger, world, seed, 3, 60)
		work(t, client, ledger, world, seed+100, 3, 60)
		for _, r := range []origin.Registry{reg, client} {
			if err := oracletest.Check(t.Context(), r, ledger, world); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		next, err := oracletest.Checkpoint(t.Context(), reg, ledger, world)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		work(t, client, next, world, seed+200, 3, 60)
		if err := oracletest.Check(t.Context(), reg, next, world); err != nil {
			t.Errorf("seed %d, after a checkpoint: %v", seed, err)
		}
		// Who pushes an index whose child is deleted just then is told to try again: what became
		// of it is not known. Nothing else is.
		if acked, unknown := ledger.Count(oracletest.Acked), ledger.Count(oracletest.Unknown); acked < 200 || unknown > acked/50 {
			t.Errorf("seed %d: %s", seed, ledger)
		}
	}
}

// told is a registry after a short story that the ledger knows.
type told struct {
	reg    *local.Registry
	ledger *oracletest.Ledger
	world  *oracletest.World
	repo   origin.Repo
}

func tell(t *testing.T) told {
	t.Helper()
	s := told{newLocal(t), new(oracletest.Ledger), oracletest.NewWorld(1, 100), origintest.Repo(t, "a")}
	for i, tree := range s.world.Trees {
		for _, b := range tree.Blobs {
			end := s.ledger.Begin(oracletest.Op{Kind: oracletest.PushBlob, Repo: "a", Digest: b.Digest})
			origintest.PushBlob(t, s.reg, "a", b.Bytes)
			end(nil)
		}
		op := oracletest.Op{Kind: oracletest.PushManifest, Repo: "a", Digest: tree.Digest()}
		switch {
		case i < 2:
			op.Tags = []string{"x"} // the second takes it from the first
		case i >= 5:
			op.Subject = s.world.Trees[0].Digest()
		}
		end := s.ledger.Begin(op)
		origintest.PushManifest(t, s.reg, "a", tree.Manifest, op.Tags...)
		end(nil)
	}
	return s
}

// lying is a registry that gives other bytes, or forgets in listings.
type lying struct {
	origin.Registry
	blob      func(origin.Blob) origin.Blob
	tags      func(origin.List[string]) origin.List[string]
	referrers func(origin.List[origin.Descriptor]) origin.List[origin.Descriptor]
}

func (l lying) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	b, err := l.Registry.Blob(ctx, repo, d, r)
	if err == nil && l.blob != nil {
		_ = b.Body.Close()
		b = l.blob(b)
	}
	return b, err
}

func (l lying) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	list, err := l.Registry.Tags(ctx, repo, p)
	if err == nil && l.tags != nil {
		list = l.tags(list)
	}
	return list, err
}

func (l lying) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	list, err := l.Registry.Referrers(ctx, repo, d, artifactType, p)
	if err == nil && l.referrers != nil {
		list = l.referrers(list)
	}
	return list, err
}

// Whatever a registry does behind the ledger's back is found, also by a ledger that begins
// with what was there.
func TestCheckBites(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, s told) origin.Registry
		want  string // in the error; "" = none
	}{
		{"nothing", func(_ *testing.T, s told) origin.Registry { return s.reg }, ""},
		{"a blob is lost", func(t *testing.T, s told) origin.Registry {
			must(t, s.reg.DeleteBlob(t.Context(), s.repo, s.world.Trees[0].Blobs[1].Digest))
			return s.reg
		}, `is "", and may be one of ["there"]`},
		{"a tag is lost", func(t *testing.T, s told) origin.Registry {
			must(t, s.reg.DeleteManifest(t.Context(), s.repo, origintest.Ref(t, "x")))
			return s.reg
		}, "tag x of a is"},
		{"a tag names what it named before", func(t *testing.T, s told) origin.Registry {
			origintest.PushManifest(t, s.reg, "a", s.world.Trees[0].Manifest, "x")
			return s.reg
		}, "tag x of a is"},
		{"a manifest is lost", func(t *testing.T, s told) origin.Registry {
			must(t, s.reg.DeleteManifest(t.Context(), s.repo, origin.ByDigest(s.world.Trees[2].Digest())))
			return s.reg
		}, "manifest " + oracletest.NewWorld(1, 100).Trees[2].Digest().String()},
		{"a deletion is undone", func(t *testing.T, s told) origin.Registry {
			d := s.world.Trees[2].Digest()
			s.ledger.Begin(oracletest.Op{Kind: oracletest.DeleteManifest, Repo: "a", Digest: d})(nil)
			return s.reg
		}, `may be one of [""]`},
		{"a body has other bytes", func(_ *testing.T, s told) origin.Registry {
			return lying{Registry: s.reg, blob: func(b origin.Blob) origin.Blob {
				b.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", int(b.Length))))
				return b
			}}
		}, "other bytes"},
		{"a body ends early", func(_ *testing.T, s told) origin.Registry {
			return lying{Registry: s.reg, blob: func(b origin.Blob) origin.Blob {
				b.Body = io.NopCloser(strings.NewReader(""))
				return b
			}}
		}, "other bytes"},
		{"a tag is not listed", func(_ *testing.T, s told) origin.Registry {
			return lying{Registry: s.reg, tags: func(l origin.List[string]) origin.List[string] {
				l.Items = nil
				return l
			}}
		}, "listed tags of a"},
		{"a tag is listed that is not there", func(_ *testing.T, s told) origin.Registry {
			return lying{Registry: s.reg, tags: func(l origin.List[string]) origin.List[string] {
				l.Items = append(l.Items, "y")
				return l
			}}
		}, "listed tags of a"},
		{"a referrer is not listed", func(_ *testing.T, s told) origin.Registry {
			return lying{Registry: s.reg, referrers: func(l origin.List[origin.Descriptor]) origin.List[origin.Descriptor] {
				l.Items = nil
				return l
			}}
		}, "referrer sha256"},
		{"a repository is made", func(t *testing.T, s told) origin.Registry {
			origintest.PushBlob(t, s.reg, "c", []byte("x"))
			return s.reg
		}, "repository  of c"},
	} {
		for _, name := range []string{c.name, c.name + ", after a checkpoint"} {
			t.Run(name, func(t *testing.T) {
				s := tell(t)
				if name != c.name {
					var err error
					s.ledger, err = oracletest.Checkpoint(t.Context(), s.reg, s.ledger, s.world)
					must(t, err)
				}
				err := oracletest.Check(t.Context(), c.spoil(t, s), s.ledger, s.world)
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v, want %q", err, c.want)
				}
			})
		}
	}
}

// A mirrored image is pulled whole.
func TestCheckMirrored(t *testing.T) {
	s := tell(t)
	image := s.world.Trees[0]
	m := oracletest.Mirrored{Repo: "a", Tag: "x", Manifest: s.world.Trees[1].Digest()}
	for _, b := range s.world.Trees[1].Blobs {
		m.Blobs = append(m.Blobs, b.Digest)
	}
	check := func(m oracletest.Mirrored) error {
		return oracletest.CheckMirrored(t.Context(), s.reg, &oracletest.World{Mirrored: []oracletest.Mirrored{m}})
	}
	must(t, check(m))
	other, less := m, m
	other.Manifest = image.Digest()
	less.Blobs = append(less.Blobs[:1:1], digest.FromString("none"))
	for _, m := range []oracletest.Mirrored{other, less, {Repo: "m", Tag: "1", Manifest: image.Digest()}} {
		if check(m) == nil {
			t.Errorf("%v passes", m)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A worker finds while it works that a body is wrong, and that it is refused what it
// must be given.
func TestWorkerBites(t *testing.T) {
	for name, reg := range map[string]origin.Registry{
		"other bytes": lying{Registry: newLocal(t), blob: func(b origin.Blob) origin.Blob {
			b.Body = io.NopCloser(strings.NewReader("other"))
			return b
		}},
		"takes nothing":   origin.None{},
		"deletes nothing": refusing{newLocal(t)},
	} {
		w := oracletest.NewWorker(reg, new(oracletest.Ledger), oracletest.NewWorld(1, 100), 1, 0)
		var err error
		for i := 0; i < 500 && err == nil; i++ {
			err = w.Step(t.Context())
		}
		if err == nil {
			t.Errorf("%s: nothing was found", name)
		}
	}
}

// refusing says of all that is to be deleted that it is not there.
type refusing struct{ origin.Registry }

func (refusing) DeleteManifest(context.Context, origin.Repo, origin.Ref) error {
	return origin.ErrManifestUnknown
}

func (refusing) DeleteBlob(context.Context, origin.Repo, digest.Digest) error {
	return origin.ErrBlobUnknown
}

// What has no answer of the specification, or none at all, is told apart.
func TestHTTPErrors(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"plain": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
		"cut":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte("{}"))
			panic(http.ErrAbortHandler)
		},
		"refused": func(w http.ResponseWriter, r *http.Request) { serve.Error(w, r, origin.ErrBlobUnknown) },
	}
	for name, want := range map[string]oracletest.Outcome{
		"plain": oracletest.Unknown, "cut": oracletest.Unknown, "half": oracletest.Unknown, "refused": oracletest.Refused,
	} {
		srv := httptest.NewServer(answers[name])
		h := &oracletest.HTTP{Base: srv.URL, Client: srv.Client()}
		err := h.DeleteBlob(t.Context(), origintest.Repo(t, "a"), digest.FromString("x"))
		if got := oracletest.OutcomeOf(err); err == nil || got != want {
			t.Errorf("%s: %v is %v, want %v", name, err, got, want)
		}
		srv.Close()
	}
}

// What had no answer before a checkpoint may still happen after it, until the next one.
func TestCheckpointCarriesOver(t *testing.T) {
	s := tell(t)
	tree := s.world.Trees[2]
	s.ledger.Begin(oracletest.Op{Kind: oracletest.DeleteManifest, Repo: "a", Digest: tree.Digest()})
	s.ledger.Settle()
	next, err := oracletest.Checkpoint(t.Context(), s.reg, s.ledger, s.world)
	must(t, err)
	then, err := oracletest.Checkpoint(t.Context(), s.reg, next, s.world)
	must(t, err)
	must(t, s.reg.DeleteManifest(t.Context(), s.repo, origin.ByDigest(tree.Digest())))
	if err := oracletest.Check(t.Context(), s.reg, next, s.world); err != nil {
		t.Errorf("done late: %v", err)
	}
	if oracletest.Check(t.Context(), s.reg, then, s.world) == nil {
		t.Error("done after the next checkpoint, and nothing was found")
	}
	if next.Count(oracletest.Unknown)+next.Count(oracletest.Acked) > 0 {
		t.Errorf("counted again: %s", next)
	}
}
