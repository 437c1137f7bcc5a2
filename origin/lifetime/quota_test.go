package lifetime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// limited is a rig's registry where every repository but free may name that many bytes.
func (r *rig) limited(most int64) *lifetime.Quota {
	return lifetime.NewQuota(r.reg, r.reg, r.quota(most))
}

func (r *rig) quota(most int64) lifetime.QuotaOptions {
	return lifetime.QuotaOptions{
		Quota: func(repo origin.Repo) int64 {
			if repo.String() == "free" {
				return 0
			}
			return most
		},
		Full:   func(_ context.Context, repo origin.Repo) (origin.Repo, error) { return repo, nil },
		Grace:  grace,
		Shared: r.options.Shared,
	}
}

func upload(ctx context.Context, w origin.Writer, repo origin.Repo, b []byte) error {
	in, err := w.Upload(ctx, repo, "", digest.SHA256)
	if err != nil {
		return err
	}
	if _, err := in.Write(b); err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = in.Commit(ctx, digest.FromBytes(b))
	return errors.Join(err, in.Close())
}

func TestQuota(t *testing.T) {
	inTime(t, func(r *rig) {
		ctx, in := r.t.Context(), repo(r.t, "a")
		q := r.limited(1000)
		denied := func(what string, err error, says ...string) {
			r.t.Helper()
			if !errors.Is(err, origin.ErrDenied) {
				r.t.Errorf("%s: %v", what, err)
				return
			}
			for _, s := range says {
				if !strings.Contains(err.Error(), s) {
					r.t.Errorf("%s: %q does not say %q", what, err, s)
				}
			}
		}
		first := origintest.Image([]byte("{}"), origintest.Bytes(1, 598))
		first.Push(r.t, q, "a", "one")
		first.Push(r.t, q, "a", "same") // it is there
		denied("a second one", upload(ctx, q, in, origintest.Bytes(2, 500)), "quota of a is 1000 bytes", "600 are in use", "500 more")
		denied("alone", upload(ctx, q, in, origintest.Bytes(2, 1001)), "1000 bytes", "in use", "1001 more")
		r.push("free", origintest.Image([]byte("{}"), origintest.Bytes(3, 500)))
		other := origintest.Bytes(3, 500)
		_, err := q.Mount(ctx, repo(r.t, "free"), in, digest.FromBytes(other))
		denied("a mount", err, "600 are in use")
		if err := upload(ctx, q, in, origintest.Bytes(4, 400)); err != nil {
			r.t.Errorf("up to the quota: %v", err)
		}
		denied("beside what is not named yet", upload(ctx, q, in, []byte("x")), "1000 are in use")
		for u := range r.blobs.Ingests(ctx) {
			r.t.Errorf("a refused upload is left: %+v", u)
		}
		// What is deleted does not count any more, nor what nobody named within the grace.
		if err := q.DeleteManifest(ctx, in, origin.ByDigest(first.Digest())); err != nil {
			r.t.Error(err)
		}
		if err := upload(ctx, q, in, origintest.Bytes(5, 600)); err != nil {
			r.t.Errorf("after a deletion: %v", err)
		}
		r.age(2 * grace)
		if err := upload(ctx, q, in, origintest.Bytes(6, 1000)); err != nil {
			r.t.Errorf("after the grace: %v", err)
		}
		// A manifest that names what was pushed long ago counts.
		denied("a manifest", func() error { _, err := q.Push(ctx, in, first.Manifest, origin.PushOptions{}); return err }(), "1000 are in use")
	})
}

// saying is an image whose config and layers have what sizes and addresses somebody says.
func saying(blobs ...v1.Descriptor) origin.Manifest {
	for i := range blobs {
		blobs[i].MediaType = v1.MediaTypeImageLayer
	}
	return manifestOf(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: blobs[0], Layers: append([]v1.Descriptor{}, blobs[1:]...),
	})
}

func manifestOf(mediaType string, v any) origin.Manifest {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return origintest.NewManifest(mediaType, b)
}

// What a manifest says of sizes counts for nothing that was measured, or can be.
func TestQuotaClaims(t *testing.T) {
	elsewhere := []string{"https://example.com/layer"}
	push := func(r *rig, q *lifetime.Quota, m origin.Manifest) error {
		_, err := q.Push(r.t.Context(), repo(r.t, "a"), m, origin.PushOptions{})
		return err
	}
	put := func(r *rig, q *lifetime.Quota, b []byte) error {
		return upload(r.t.Context(), q, repo(r.t, "a"), b)
	}
	want := func(r *rig, what string, err, want error) {
		r.t.Helper()
		if !errors.Is(err, want) {
			r.t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	of := func(b []byte) v1.Descriptor { return v1.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))} }
	first, second := origintest.Bytes(1, 100), origintest.Bytes(2, 60)
	for name, test := range map[string]func(r *rig, q *lifetime.Quota){
		"nothing of what is there": func(r *rig, q *lifetime.Quota) {
			want(r, "an upload", put(r, q, first), nil)
			lie := of(first)
			lie.Size = 0
			want(r, "the lie", push(r, q, saying(lie)), origin.ErrManifestInvalid)
			want(r, "one more byte", put(r, q, []byte("x")), origin.ErrDenied)
			want(r, "the truth", push(r, q, saying(of(first))), nil)
		},
		"more than there is": func(r *rig, q *lifetime.Quota) {
			huge, other := of(first), of(second)
			huge.Size, other.Size = math.MaxInt64, math.MaxInt64
			want(r, "the lie", push(r, q, saying(huge, other)), origin.ErrDenied)
			want(r, "an upload", put(r, q, first), nil)
		},
		"more than there is, elsewhere": func(r *rig, q *lifetime.Quota) {
			huge, other := of([]byte("a")), of([]byte("b"))
			huge.Size, other.Size = math.MaxInt64, math.MaxInt64
			huge.URLs, other.URLs = elsewhere, elsewhere
			want(r, "an upload", put(r, q, second), nil)
			want(r, "a manifest", push(r, q, saying(of(second), huge, other)), nil)
			q = q.With(r.reg, r.quota(100)) // counts anew
			want(r, "another upload", put(r, q, origintest.Bytes(3, 41)), origin.ErrDenied)
			want(r, "what there is room for", put(r, q, origintest.Bytes(4, 40)), nil)
		},
		"elsewhere, and it is here": func(r *rig, q *lifetime.Quota) {
			here := of(second)
			here.Size, here.URLs = 0, elsewhere
			want(r, "an upload", put(r, q, second), nil)
			want(r, "a manifest", push(r, q, saying(here)), nil)
			r.age(2 * grace)
			want(r, "another upload", put(r, q, origintest.Bytes(3, 60)), origin.ErrDenied)
		},
		"elsewhere, and it comes later": func(r *rig, q *lifetime.Quota) {
			here := of(second)
			here.Size, here.URLs = 0, elsewhere
			want(r, "a manifest", push(r, q, saying(here)), nil)
			want(r, "an upload", put(r, q, second), nil)
			r.age(2 * grace)
			want(r, "another upload", put(r, q, origintest.Bytes(3, 60)), origin.ErrDenied)
		},
		"in an index": func(r *rig, q *lifetime.Quota) {
			child := of(second)
			child.MediaType = "application/x"
			index := manifestOf(v1.MediaTypeImageIndex, v1.Index{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{child},
			})
			want(r, "an upload", put(r, q, second), nil)
			want(r, "an index", push(r, q, index), nil)
			r.age(2 * grace)
			want(r, "another upload", put(r, q, origintest.Bytes(3, 60)), origin.ErrDenied)
		},
		"through a mirror": func(r *rig, q *lifetime.Quota) {
			huge, here := of([]byte("not here")), of(second)
			huge.Size, here.Size = math.MaxInt64, math.MaxInt64
			m := saying(here, huge)
			_, err := r.reg.Push(r.t.Context(), repo(r.t, "a"), m, origin.PushOptions{Sparse: true})
			want(r, "what is mirrored", err, nil)
			want(r, "an upload", put(r, q, second), nil)
			want(r, "an index of it", push(r, q, manifestOf(v1.MediaTypeImageIndex, v1.Index{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{m.Descriptor.Descriptor},
			})), nil)
			r.age(2 * grace) // what is named is counted again, and what was pushed counts no more
			want(r, "what there is no room for", put(r, q, origintest.Bytes(3, 41)), origin.ErrDenied)
			want(r, "what there is room for", put(r, q, origintest.Bytes(4, 40)), nil)
		},
		"by two": func(r *rig, q *lifetime.Quota) {
			// One upload fails when another one has brought the same bytes.
			failing := q.With(failing{r.reg, func() { want(r, "the other one", put(r, q, first), nil) }}, r.quota(100))
			want(r, "the one", put(r, failing, first), errFailing)
			want(r, "one more byte", put(r, q, []byte("x")), origin.ErrDenied)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(r *rig) { test(r, r.limited(100)) })
		})
	}
}

// failing is a registry to which no upload is committed. Before that it calls meanwhile.
type failing struct {
	origin.Registry
	meanwhile func()
}

var errFailing = errors.New("failing")

func (f failing) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	in, err := f.Registry.Upload(ctx, repo, id, alg)
	return failingIngest{in, f}, err
}

type failingIngest struct {
	store.Ingest
	f failing
}

func (in failingIngest) Commit(context.Context, digest.Digest) (store.Info, error) {
	in.f.meanwhile()
	return store.Info{}, errFailing
}

// What is damaged does not keep its repository from being pushed to, and so from being
// mended.
func TestQuotaBesideDamage(t *testing.T) {
	inTime(t, func(r *rig) {
		img := origintest.Image([]byte("{}"), origintest.Bytes(1, 598))
		img.Push(r.t, r.limited(1000), "a", "one")
		key := "r/a/_m/sha256/" + img.Digest().Encoded()
		if _, err := r.records.Put(r.t.Context(), key, []byte("{"), store.Always()); err != nil {
			r.t.Fatal(err)
		}
		r.reg = r.next()
		q := r.limited(1000)
		if err := upload(r.t.Context(), q, repo(r.t, "a"), origintest.Bytes(2, 100)); err != nil {
			r.t.Errorf("an upload: %v", err)
		}
		origintest.PushManifest(r.t, q, "a", img.Manifest, "one")
		if err := upload(r.t.Context(), q, repo(r.t, "a"), origintest.Bytes(3, 301)); !errors.Is(err, origin.ErrDenied) {
			r.t.Errorf("beside what was mended: %v", err)
		}
	})
}

// Of pushes that race for what is left no more get through than fit.
func TestQuotaRace(t *testing.T) {
	inMemory(t, func(r *rig) {
		q := r.limited(1000)
		var ok atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if upload(r.t.Context(), q, repo(r.t, "a"), origintest.Bytes(uint64(i), 300)) == nil {
					ok.Add(1)
				}
			})
		}
		all.Wait()
		if ok.Load() != 3 {
			r.t.Errorf("%d of 300 bytes fit into 1000", ok.Load())
		}
	})
}

// Other quotas go on from what there is: what was pushed while there was none counts, and so
// does what is being pushed through the ones before.
func TestQuotaChanges(t *testing.T) {
	inTime(t, func(r *rig) {
		ctx, in := r.t.Context(), repo(r.t, "a")
		old := r.limited(1000)
		if err := upload(ctx, old, in, make([]byte, 400)); err != nil {
			r.t.Fatal(err)
		}
		next := old.With(r.reg, r.quota(500))
		if err := upload(ctx, next, in, make([]byte, 101)); !errors.Is(err, origin.ErrDenied) {
			r.t.Errorf("beside what was pushed before: %v", err)
		}
		if err := upload(ctx, next, in, make([]byte, 100)); err != nil {
			r.t.Errorf("what there is room for: %v", err)
		}
	})
}

// reads counts what is read of records, and listed.
type reads struct {
	store.Records
	gets, lists atomic.Int64
}

func (r *reads) Get(ctx context.Context, key string) (store.Record, error) {
	r.gets.Add(1)
	return r.Records.Get(ctx, key)
}

func (r *reads) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	r.lists.Add(1)
	return r.Records.List(ctx, prefix, after)
}

// Of layers that are elsewhere a manifest may name as many as it likes: what is read for them
// is no more than what the repository has.
func TestQuotaOfWhatIsElsewhere(t *testing.T) {
	twoReplicas(t, func(r *rig) {
		ctx, in := r.t.Context(), repo(r.t, "a")
		records := &reads{Records: r.records}
		r.records = records
		r.reg = r.next()
		q := r.limited(500)
		here, config := origintest.Bytes(1, 400), origintest.Bytes(2, 10)
		for _, b := range [][]byte{here, config} {
			if err := upload(ctx, q, in, b); err != nil {
				r.t.Fatal(err)
			}
		}
		for i := range 3 {
			blobs := []v1.Descriptor{{Digest: digest.FromBytes(config), Size: int64(len(config))}}
			for j := range 2000 {
				blobs = append(blobs, v1.Descriptor{Digest: digest.FromString(fmt.Sprint(i, j)), URLs: []string{"https://example.com/layer"}})
			}
			blobs[1+i].Digest = digest.FromBytes(here)
			m := saying(blobs...)
			gets, lists := records.gets.Load(), records.lists.Load()
			if _, err := q.Push(ctx, in, m, origin.PushOptions{}); err != nil {
				r.t.Fatal(err)
			}
			r.age(11 * time.Second) // to be counted again
			if err := upload(ctx, q, in, origintest.Bytes(uint64(10+i), 20)); err != nil {
				r.t.Error(err)
			}
			gets, lists = records.gets.Load()-gets, records.lists.Load()-lists
			if gets > 50 || lists > 5 {
				r.t.Errorf("after %d manifests one more and an upload took %d reads and %d listings", i, gets, lists)
			}
		}
		r.age(2 * grace)
		if err := upload(ctx, q, in, origintest.Bytes(3, 91)); !errors.Is(err, origin.ErrDenied) {
			r.t.Errorf("beside what is here: %v", err)
		}
	})
}

// slow is what is named, which somebody waits for.
type slow struct {
	lifetime.Named
	meanwhile func()
}

func (s *slow) Manifests(ctx context.Context, repo origin.Repo) iter.Seq2[origin.Pushed, error] {
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
	return s.Named.Manifests(ctx, repo)
}

// While it is counted what one repository names, quotas change, and others are pushed to. What
// was counted by then is counted again.
func TestQuotaChangesWhileItIsCounted(t *testing.T) {
	inTime(t, func(r *rig) {
		ctx := r.t.Context()
		named := &slow{Named: r.reg}
		old := lifetime.NewQuota(r.reg, named, r.quota(1000))
		var next *lifetime.Quota
		named.meanwhile = func() {
			next = old.With(r.reg, r.quota(500))
			if err := upload(ctx, next, repo(r.t, "b"), make([]byte, 100)); err != nil {
				r.t.Errorf("an upload elsewhere: %v", err)
			}
		}
		if err := upload(ctx, old, repo(r.t, "a"), make([]byte, 100)); err != nil {
			r.t.Fatal(err)
		}
		counts := 0
		named.meanwhile = func() { counts++ }
		if err := upload(ctx, next, repo(r.t, "a"), make([]byte, 101)); err != nil || counts != 1 {
			r.t.Errorf("counted again: %d, %v", counts, err)
		}
	})
}
