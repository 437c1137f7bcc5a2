package local_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// watched records the changes of a store, and fails those that it is told to.
type watched struct {
	*mem.Records
	mu      sync.Mutex
	changes []string // "put KEY" or "delete KEY"
	batches []int    // how many writes each had
	fail    func(change string) (happens bool, err error)
	failed  bool // one was
}

func (w *watched) change(what, key string, do func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, what+" "+key)
	if w.fail != nil {
		if happens, err := w.fail(what + " " + key); err != nil {
			if happens {
				// A write that the store itself refuses did not happen.
				if err := do(); err != nil {
					return err
				}
			}
			w.failed = true
			return err
		}
	}
	return do()
}

func (w *watched) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (version string, err error) {
	err = w.change("put", key, func() error {
		version, err = w.Records.Put(ctx, key, data, if_)
		return err
	})
	return version, err
}

// PutAll makes the writes one by one, so that each may fail as Put does: what the store
// makes at once may be there in part after an error, too.
func (w *watched) PutAll(ctx context.Context, writes []store.Write) error {
	w.mu.Lock()
	w.batches = append(w.batches, len(writes))
	w.mu.Unlock()
	for _, x := range writes {
		if err := w.allowed(ctx, x); err != nil {
			return err
		}
	}
	for _, x := range writes {
		if _, err := w.Put(ctx, x.Key, x.Data, x.If); err != nil {
			return err
		}
	}
	return nil
}

// allowed tells by its error whether a write would be refused.
func (w *watched) allowed(ctx context.Context, x store.Write) error {
	rec, err := w.Records.Get(ctx, x.Key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if !x.If.Allows(err == nil, rec.Version) {
		return store.ErrConflict
	}
	return nil
}

func (w *watched) Delete(ctx context.Context, key string, if_ store.Condition) error {
	return w.change("delete", key, func() error { return w.Records.Delete(ctx, key, if_) })
}

func openWatched(t *testing.T) (*watched, *local.Registry) {
	t.Helper()
	w := &watched{Records: mem.NewRecords()}
	reg, err := local.New(mem.NewBlobs(), w, local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return w, reg
}

// A push becomes visible by its tags, and a deletion begins with them: in the
// order of the records nothing ever names what is not there.
func TestOrderOfRecords(t *testing.T) {
	w, reg := openWatched(t)
	subject := origintest.Image([]byte("{}"))
	tree := origintest.Artifact(subject.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("payload"))
	path := func(d digest.Digest) string { return strings.Replace(d.String(), ":", "/", 1) }
	d, s := path(tree.Digest()), path(subject.Digest())
	check := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(w.changes, want) {
			t.Errorf("%s: %q, want %q", what, w.changes, want)
		}
		w.changes = nil
	}
	for _, b := range tree.Blobs {
		origintest.PushBlob(t, reg, "a", b.Bytes)
	}
	check("blobs", "put r/_uploads/key", "put r/_repos/a/_",
		"put r/a/_b/"+path(tree.Blobs[0].Digest), "put r/a/_b/"+path(tree.Blobs[1].Digest))
	origintest.PushManifest(t, reg, "a", tree.Manifest, "x", "y")
	check("push", "put r/a/_m/"+d, "put r/a/_r/"+s+"/"+d, "put r/a/_t/x", "put r/a/_t/y")
	if want := []int{2, 3}; !slices.Equal(w.batches, want) {
		t.Errorf("written at once: %d, want %d", w.batches, want)
	}
	origintest.PushManifest(t, reg, "a", tree.Manifest, "z")
	check("another tag", "put r/a/_r/"+s+"/"+d, "put r/a/_n/"+d+"/z", "put r/a/_t/z")
	if err := reg.DeleteManifest(t.Context(), origintest.Repo(t, "a"), origin.ByDigest(tree.Digest())); err != nil {
		t.Fatal(err)
	}
	check("deletion", "put r/a/_m/"+d, "delete r/a/_t/z", "delete r/a/_t/x", "delete r/a/_t/y",
		"delete r/a/_m/"+d, "delete r/a/_r/"+s+"/"+d, "delete r/a/_n/"+d+"/z")
	if err := reg.DeleteBlob(t.Context(), origintest.Repo(t, "a"), tree.Blobs[1].Digest); err != nil {
		t.Fatal(err)
	}
	check("unlinking", "delete r/a/_b/"+path(tree.Blobs[1].Digest))
}

// Every write of every operation fails once, before it happened or after. Whatever
// memory held, the registry then says what one says that was opened just now, and
// the operation, repeated, succeeds.
func TestUncertainWrites(t *testing.T) {
	subject := origintest.Image([]byte("{}"))
	tree := origintest.Artifact(subject.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("payload"))
	repo := func(t *testing.T) origin.Repo { return origintest.Repo(t, "a") }
	pushed := func(t *testing.T, reg *local.Registry) {
		tree.Push(t, reg, "a", "x")
		origintest.PushManifest(t, reg, "a", tree.Manifest, "y")
	}
	for _, op := range []struct {
		name   string
		before func(t *testing.T, reg *local.Registry)
		do     func(t *testing.T, reg *local.Registry) error
	}{
		{"upload", func(*testing.T, *local.Registry) {}, func(t *testing.T, reg *local.Registry) error {
			in, err := reg.Upload(t.Context(), repo(t), "", digest.SHA256)
			if err != nil {
				return err
			}
			_, err = in.Commit(t.Context(), digest.FromString(""))
			return err
		}},
		{"first push", func(t *testing.T, reg *local.Registry) {
			for _, b := range tree.Blobs {
				origintest.PushBlob(t, reg, "a", b.Bytes)
			}
		}, func(t *testing.T, reg *local.Registry) error {
			_, err := reg.Push(t.Context(), repo(t), tree.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "x")}})
			return err
		}},
		{"push of another tag", pushed, func(t *testing.T, reg *local.Registry) error {
			_, err := reg.Push(t.Context(), repo(t), tree.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "z")}})
			return err
		}},
		{"deletion of a tag", pushed, func(t *testing.T, reg *local.Registry) error {
			return reg.DeleteManifest(t.Context(), repo(t), origintest.Ref(t, "x"))
		}},
		{"deletion", pushed, func(t *testing.T, reg *local.Registry) error {
			return reg.DeleteManifest(t.Context(), repo(t), origin.ByDigest(tree.Digest()))
		}},
		{"unlinking", pushed, func(t *testing.T, reg *local.Registry) error {
			return reg.DeleteBlob(t.Context(), repo(t), tree.Blobs[1].Digest)
		}},
		{"mount", func(t *testing.T, reg *local.Registry) {
			origintest.PushBlob(t, reg, "b", []byte("payload"))
		}, func(t *testing.T, reg *local.Registry) error {
			_, err := reg.Mount(t.Context(), origintest.Repo(t, "b"), repo(t), digest.FromString("payload"))
			return err
		}},
	} {
		for _, happens := range []bool{false, true} {
			for nth := 0; ; nth++ {
				name := fmt.Sprintf("%s, write %d, happens: %v", op.name, nth, happens)
				blobs, w := mem.NewBlobs(), &watched{Records: mem.NewRecords()}
				reopen := func() *local.Registry {
					reg, err := local.New(blobs, w, local.Options{Delete: true})
					if err != nil {
						t.Fatal(err)
					}
					return reg
				}
				reg := reopen()
				op.before(t, reg)
				answers(t, reg, tree, subject) // so that memory holds what there is
				broken, n, hint := errors.New("broken"), 0, false
				w.fail = func(change string) (bool, error) {
					n++
					if n == nth+1 {
						// What was noted of a manifest goes after it, and its place among referrers: the
						// deletion is done by then.
						hint = strings.HasPrefix(change, "delete r/a/_n/") || strings.HasPrefix(change, "delete r/a/_r/")
						return happens, broken
					}
					return false, nil
				}
				err := op.do(t, reg)
				if n <= nth {
					break // no such write
				}
				if hint {
					broken = nil
				}
				if w.failed {
					wantError(t, name, err, broken)
				}
				if got, want := answers(t, reg, tree, subject), answers(t, reopen(), tree, subject); got != want {
					t.Errorf("%s: memory says\n%s\nthe store says\n%s", name, got, want)
				}
				// A deletion that happened in spite of its error is not there the next time.
				if err := op.do(t, reg); err != nil && !((happens || hint) && origin.Unknown(err)) {
					t.Errorf("%s, repeated: %v", name, err)
				}
				if got, want := answers(t, reg, tree, subject), answers(t, reopen(), tree, subject); got != want {
					t.Errorf("%s, repeated: memory says\n%s\nthe store says\n%s", name, got, want)
				}
			}
		}
	}
}

// answers gives all that a registry says of a tree.
func answers(t *testing.T, reg *local.Registry, tree, subject origintest.Tree) string {
	t.Helper()
	var b strings.Builder
	repo := origintest.Repo(t, "a")
	for _, ref := range []string{"x", "y", "z", tree.Digest().String()} {
		d, err := reg.Resolve(t.Context(), repo, origintest.Ref(t, ref))
		_, err2 := reg.Manifest(t.Context(), repo, origintest.Ref(t, ref))
		fmt.Fprintln(&b, ref, d.Digest, err, err2)
	}
	for _, x := range tree.Blobs {
		_, err := reg.Stat(t.Context(), repo, x.Digest)
		fmt.Fprintln(&b, x.Digest, err)
	}
	tags, err := reg.Tags(t.Context(), repo, origin.Page{N: 10})
	fmt.Fprintln(&b, tags.Items, err)
	refs, err := reg.Referrers(t.Context(), repo, subject.Digest(), "", origin.Page{N: 10})
	fmt.Fprintln(&b, len(refs.Items), err)
	repos, err := reg.Repos(t.Context(), origin.Page{N: 10})
	fmt.Fprintln(&b, repos.Items, err)
	return b.String()
}

// What cannot be read is not absent, and is not served.
func TestDamagedRecords(t *testing.T) {
	tree := origintest.Image([]byte("{}"))
	path := strings.Replace(tree.Digest().String(), ":", "/", 1)
	damages := map[string]func(data []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"cut":       func(b []byte) []byte { return b[:len(b)-1] },
		"a bit":     func(b []byte) []byte { b[len(b)-2] ^= 1; return b },
		"no header": func(b []byte) []byte { return b[1:] },
		"not JSON":  func([]byte) []byte { return []byte("x") },
	}
	for name, damage := range damages {
		for _, key := range []string{"r/a/_m/" + path, "r/a/_t/x"} {
			blobs, records := mem.NewBlobs(), mem.NewRecords()
			reopen := func() *local.Registry {
				reg, err := local.New(blobs, records, local.Options{Delete: true})
				if err != nil {
					t.Fatal(err)
				}
				return reg
			}
			tree.Push(t, reopen(), "a", "x")
			rec, err := records.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := records.Put(t.Context(), key, damage(slices.Clone(rec.Data)), store.Always()); err != nil {
				t.Fatal(err)
			}
			reg := reopen()
			m, err := reg.Manifest(t.Context(), origintest.Repo(t, "a"), origintest.Ref(t, "x"))
			if name == "a bit" && key == "r/a/_t/x" && err == nil {
				continue // of the time, for one: no one can tell
			}
			if err == nil || origin.Unknown(err) {
				t.Errorf("%s %s: %v and %q", name, key, err, m.Bytes)
			}
			// A push of the same heals it.
			origintest.PushManifest(t, reg, "a", tree.Manifest, "x")
			origintest.CheckManifest(t, reopen(), "a", "x", tree.Manifest)
		}
	}
}

// A mirror's content may come in any order, and in shapes that no push may have.
func TestSparse(t *testing.T) {
	_, reg := openWatched(t)
	child := origintest.Image([]byte("{}"), []byte("layer"))
	odd := origintest.NewManifest("application/vnd.example.manifest+json", []byte(`{"layers":[],"manifests":[],"Layers":[]}`))
	for i, m := range []origin.Manifest{origintest.Index(child).Manifest, child.Manifest, odd} {
		tag := fmt.Sprintf("t%d", i)
		_, err := reg.Push(t.Context(), origintest.Repo(t, "a"), m, origin.PushOptions{Sparse: true, Tags: []origin.Ref{origintest.Ref(t, tag)}})
		if err != nil {
			t.Errorf("push %s: %v", m.Bytes, err)
		}
		origintest.CheckManifest(t, reg, "a", tag, m)
	}
	m := child.Manifest
	m.Digest = digest.FromString("other")
	_, err := reg.Push(t.Context(), origintest.Repo(t, "a"), m, origin.PushOptions{Sparse: true})
	wantError(t, "another digest", err, origin.ErrDigestInvalid)
}

// The type that a manifest was pushed with last is the one that it is served with,
// and a deletion finds the tags of all its pushes.
func TestMediaTypeChanges(t *testing.T) {
	_, reg := openWatched(t)
	repo := origintest.Repo(t, "a")
	var m origin.Manifest
	for _, c := range []struct{ mediaType, tag string }{
		{"application/vnd.example.a+json", "x"},
		{"application/vnd.example.b+json", "y"},
		{"application/vnd.example.c+json", "y"},
	} {
		m = origintest.NewManifest(c.mediaType, []byte(`{"schemaVersion":2}`))
		_, err := reg.Push(t.Context(), repo, m, origin.PushOptions{Sparse: true, Tags: []origin.Ref{origintest.Ref(t, c.tag)}})
		if err != nil {
			t.Fatal(err)
		}
		origintest.CheckManifest(t, reg, "a", c.tag, m)
		origintest.CheckManifest(t, reg, "a", m.Digest.String(), m)
	}
	if err := reg.DeleteManifest(t.Context(), repo, origin.ByDigest(m.Digest)); err != nil {
		t.Fatal(err)
	}
	origintest.CheckTags(t, reg, "a", nil)
}

func TestMissingBlobsAreNamed(t *testing.T) {
	_, reg := openWatched(t)
	tree := origintest.Image([]byte("{}"), []byte("one"), []byte("two"))
	origintest.PushBlob(t, reg, "a", []byte("one"))
	_, err := reg.Push(t.Context(), origintest.Repo(t, "a"), tree.Manifest, origin.PushOptions{})
	wantError(t, "push", err, origin.ErrManifestBlobUnknown)
	e, _ := errors.AsType[*origin.Error](err)
	want := []digest.Digest{tree.Blobs[0].Digest, tree.Blobs[2].Digest}
	if got, _ := e.Detail.([]digest.Digest); !slices.Equal(got, want) {
		t.Errorf("detail %v, want %v", e.Detail, want)
	}
}

// An index may name what is no manifest: it counts where it was pushed as a blob.
func TestIndexOfOtherThings(t *testing.T) {
	_, reg := openWatched(t)
	thing := origintest.Tree{Manifest: origintest.NewManifest("application/xml", []byte("<x/>"))}
	m := origintest.Index(thing).Manifest
	_, err := reg.Push(t.Context(), origintest.Repo(t, "a"), m, origin.PushOptions{})
	wantError(t, "push", err, origin.ErrManifestBlobUnknown)
	origintest.PushBlob(t, reg, "a", thing.Manifest.Bytes)
	origintest.PushManifest(t, reg, "a", m, "x")
	origintest.CheckManifest(t, reg, "a", "x", m)
}

// Referrers with annotations too large to keep are read again, and pages of them
// end early.
func TestLargeReferrers(t *testing.T) {
	c := newCounted()
	reg := c.open(t)
	subject := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("subject"), Size: 7}
	var want []string
	for i := range 5 {
		tree := origintest.Artifact(subject, "application/x", map[string]string{"large": strings.Repeat("x", 1<<20), "n": fmt.Sprint(i)}, nil)
		tree.Push(t, reg, "a")
		want = append(want, tree.Digest().String())
	}
	slices.Sort(want)
	for _, reg := range []*local.Registry{reg, c.open(t)} {
		var got []string
		p := origin.Page{N: 100}
		for pages, more := 0, true; more; pages++ {
			l, err := reg.Referrers(t.Context(), origintest.Repo(t, "a"), subject.Digest, "", p)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range l.Items {
				if len(d.Annotations["large"]) != 1<<20 || d.ArtifactType != "application/x" {
					t.Errorf("%s has %d bytes of annotation", d.Digest, len(d.Annotations["large"]))
				}
				got = append(got, d.Digest.String())
			}
			if more = l.More; pages == 0 && (len(got) != 3 || !more) {
				t.Errorf("%d items on the first page, more: %v", len(got), more)
			}
			p.After = got[len(got)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
