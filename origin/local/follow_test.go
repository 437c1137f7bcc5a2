package local_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// following is a registry whose calls are counted, and what others write beside it.
type following struct {
	*testing.T
	calls  *counted
	reg    *local.Registry
	others *silent
	beside *local.Registry // whose changes reg is told of by say alone
}

func newFollowing(t *testing.T) *following {
	t.Helper()
	f := &following{T: t, others: &silent{}}
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	f.calls = &counted{Blobs: blobs, Records: records}
	var err error
	f.reg, err = local.New(countedBlobs{f.calls}, countedRecords{f.calls}, local.Options{Delete: true, Others: f.others})
	if err != nil {
		t.Fatal(err)
	}
	f.beside = replica(t, blobs, records, coord.NewProcess().Member(), local.Options{Delete: true})
	f.others.current.Store(true)
	return f
}

// say tells the registry that these records have changed, and waits until it has looked.
func (f *following) say(keys ...string) {
	f.Helper()
	f.others.changed(keys)
	f.settle()
}

func (f *following) settle() {
	f.Helper()
	coordtest.Eventually(f, "memory has followed", f.reg.Settled)
}

func (f *following) tags(repo string) []string {
	f.Helper()
	l, err := f.reg.Tags(f.Context(), origintest.Repo(f, repo), origin.Page{N: 10_000})
	if err != nil {
		f.Error(err)
	}
	return l.Items
}

func (f *following) want(what string, got, want any) {
	f.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestFollowingCost: what others push to a repository costs one read for each of its
// records, and its listing none but the first, however much there is.
func TestFollowingCost(t *testing.T) {
	f := newFollowing(t)
	img := origintest.Image([]byte("{}"), []byte("layer"))
	img.Push(t, f.beside, "a", "v0000")
	f.tags("a")
	for _, known := range []int{1, 500} {
		for i := len(f.tags("a")); i < known; i++ {
			tag := fmt.Sprintf("v%04d", i)
			origintest.PushManifest(t, f.beside, "a", img.Manifest, tag)
			f.say("r/a/_t/" + tag)
		}
		var got []string
		cost := f.calls.of(func() {
			origintest.PushManifest(t, f.beside, "a", img.Manifest, "x")
			f.say("r/a/_n/sha256/"+img.Digest().Encoded()+"/x", "r/a/_t/x")
			got = f.tags("a")
		})
		f.want("tags", len(got), known+1)
		f.want("cost", cost.reads+cost.lists+cost.entries, 1)
		if err := f.beside.DeleteManifest(t.Context(), origintest.Repo(t, "a"), origintest.Ref(t, "x")); err != nil {
			t.Fatal(err)
		}
		f.say("r/a/_t/x")
		f.want("tags without it", slices.Contains(f.tags("a"), "x"), false)
	}
}

// TestFollowsEachKind: what others write and delete is seen once it was told, and not
// before: memory is not asked in vain.
func TestFollowsEachKind(t *testing.T) {
	f := newFollowing(t)
	ctx, repo := t.Context(), origintest.Repo(t, "team/a")
	one, two := origintest.Image([]byte(`{"n":1}`), []byte("layer")), origintest.Image([]byte(`{"n":2}`))
	one.Push(t, f.beside, "team/a", "x")
	layer, hex := one.Blobs[1].Digest, one.Digest().Encoded()
	resolve := func(ref origin.Ref) string {
		d, err := f.reg.Resolve(ctx, repo, ref)
		if origin.Unknown(err) {
			return "unknown"
		}
		return fmt.Sprint(d.Digest.Encoded()[:8], err)
	}
	stat := func() error { _, err := f.reg.Stat(ctx, repo, layer); return err }
	referrers := func() int {
		l, err := f.reg.Referrers(ctx, repo, one.Digest(), "", origin.Page{N: 10})
		if err != nil {
			t.Error(err)
		}
		return len(l.Items)
	}
	repos := func() int {
		l, err := f.reg.Repos(ctx, origin.Page{N: 10})
		if err != nil {
			t.Error(err)
		}
		return len(l.Items)
	}
	x, byDigest := origintest.Ref(t, "x"), origin.ByDigest(one.Digest())
	isOne := fmt.Sprint(hex[:8], error(nil))
	f.want("tag", resolve(x), isOne)
	f.want("manifest", resolve(byDigest), isOne)
	f.want("blob", stat(), nil)
	f.want("referrers", referrers(), 0)
	f.want("repositories", repos(), 1)
	f.want("cost of what is in memory", f.calls.of(func() { resolve(x); resolve(byDigest); referrers(); repos() }), cost{})

	two.Push(t, f.beside, "team/a", "x")
	f.want("tag, not told", resolve(x), isOne)
	f.say("r/team/a/_t/x")
	f.want("tag", resolve(x), fmt.Sprint(two.Digest().Encoded()[:8], error(nil)))

	sig := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("sig"))
	sig.Push(t, f.beside, "team/a")
	f.say("r/team/a/_r/sha256/" + hex + "/sha256/" + sig.Digest().Encoded())
	f.want("referrers", referrers(), 1)
	if err := f.beside.DeleteManifest(ctx, repo, origin.ByDigest(sig.Digest())); err != nil {
		t.Fatal(err)
	}
	f.say("r/team/a/_r/sha256/" + hex + "/sha256/" + sig.Digest().Encoded())
	f.want("referrers", referrers(), 0)

	if err := f.beside.DeleteManifest(ctx, repo, byDigest); err != nil {
		t.Fatal(err)
	}
	f.say("r/team/a/_m/sha256/" + hex)
	f.want("manifest", resolve(byDigest), "unknown")

	if err := f.beside.DeleteBlob(ctx, repo, layer); err != nil {
		t.Fatal(err)
	}
	f.say("r/team/a/_b/sha256/" + layer.Encoded())
	f.want("blob", origin.Unknown(stat()), true)

	two.Push(t, f.beside, "b")
	f.say("r/_repos/b/_")
	f.want("repositories", repos(), 2)

	// What is none of ours, or nothing at all, does no harm.
	f.say("", "r", "r/", "r/_t/x", "r/A/_t/x", "r/a/_b/md5/x", "r/a/_r/sha256", "r/a/_q/x", "mirror/a/_t/x", "r/_repos/_")
	f.want("repositories", repos(), 2)
}

// TestNothingMissed: what may have been missed is not in memory afterwards, and while
// nobody can tell, memory is not asked.
func TestNothingMissed(t *testing.T) {
	f := newFollowing(t)
	ctx, repo, x := t.Context(), origintest.Repo(t, "a"), origintest.Ref(t, "x")
	one, two := origintest.Image([]byte(`{"n":1}`)), origintest.Image([]byte(`{"n":2}`))
	one.Push(t, f.beside, "a", "x")
	is := func(what string, want origintest.Tree, tags ...string) {
		t.Helper()
		m, err := f.reg.Manifest(ctx, repo, x)
		if err != nil || m.Digest != want.Digest() {
			t.Errorf("%s: %s, %v; want %s", what, m.Digest, err, want.Digest())
		}
		f.want(what, f.tags("a"), tags)
	}
	is("at first", one, "x")
	two.Push(t, f.beside, "a", "x", "y")
	is("not told", one, "x")
	f.others.current.Store(false)
	is("while nobody can tell", two, "x", "y")
	f.others.missed()
	f.settleMissed()
	f.others.current.Store(true)
	is("afterwards", two, "x", "y")
	f.want("cost of what is in memory", f.calls.of(func() { is("again", two, "x", "y") }), cost{})
}

// settleMissed waits until all has been forgotten, though nobody is current.
func (f *following) settleMissed() {
	f.Helper()
	f.others.current.Store(true)
	f.settle()
}

// TestChangeMeetsReader: a record changes while somebody reads the old one into memory;
// by what is told, or by what was missed, it does not stay there.
func TestChangeMeetsReader(t *testing.T) {
	for name, tell := range map[string]func(*silent){
		"told":   func(s *silent) { s.changed([]string{"r/a/_t/x"}) },
		"missed": func(s *silent) { s.missed() },
	} {
		t.Run(name, func(t *testing.T) {
			blobs, records := mem.NewBlobs(), &pausing{Records: mem.NewRecords(), key: "r/a/_t/x"}
			others := &silent{}
			others.current.Store(true)
			reg, err := local.New(blobs, records, local.Options{Others: others})
			if err != nil {
				t.Fatal(err)
			}
			beside := replica(t, blobs, store.Records(records.Records), coord.NewProcess().Member(), local.Options{})
			one, two := origintest.Image([]byte(`{"n":1}`)), origintest.Image([]byte(`{"n":2}`))
			one.Push(t, beside, "a", "x")
			between := func() {
				two.Push(t, beside, "a", "x")
				tell(others)
				// Long enough for one that forgets at once, before the reader keeps what it read.
				for range 1000 {
					runtime.Gosched()
				}
			}
			records.between.Store(&between)
			repo, x := origintest.Repo(t, "a"), origintest.Ref(t, "x")
			if _, err := reg.Resolve(t.Context(), repo, x); err != nil {
				t.Fatal(err)
			}
			coordtest.Eventually(t, "memory has followed", reg.Settled)
			if d, err := reg.Resolve(t.Context(), repo, x); err != nil || d.Digest != two.Digest() {
				t.Errorf("%s, %v; want %s", d.Digest, err, two.Digest())
			}
		})
	}
}

// TestWritesDoNotTrustMemory: what another replica has deleted a moment ago is written
// again, though memory still has it.
func TestWritesDoNotTrustMemory(t *testing.T) {
	f := newFollowing(t)
	ctx, repo := t.Context(), origintest.Repo(t, "a")
	img := origintest.Image([]byte("{}"), []byte("layer"))
	img.Push(t, f.reg, "a", "x")
	if err := f.beside.DeleteManifest(ctx, repo, origin.ByDigest(img.Digest())); err != nil {
		t.Fatal(err)
	}
	if err := f.beside.DeleteBlob(ctx, repo, img.Blobs[1].Digest); err != nil {
		t.Fatal(err)
	}
	_, err := f.reg.Push(ctx, repo, img.Manifest, origin.PushOptions{})
	if err == nil {
		t.Error("a manifest whose blob is gone was taken")
	}
	img.Push(t, f.reg, "a", "x")
	fresh, err := local.New(countedBlobs{f.calls}, countedRecords{f.calls}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	origintest.CheckManifest(t, fresh, "a", "x", img.Manifest)
	origintest.CheckBlob(t, fresh, "a", img.Blobs[1].Digest, img.Blobs[1].Bytes)
}

// slowRecords has something happen once, between the reading of a record and its arrival.
type slowRecords struct {
	store.Records
	key string
	do  func()
}

func (s *slowRecords) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := s.Records.Get(ctx, key)
	if do := s.do; do != nil && key == s.key {
		s.do = nil
		do()
	}
	return rec, err
}

// TestTagsDoNotGoBack: one reads a tag; before he has it another process moves it, of which
// nothing is told yet, and somebody else reads it. Whoever was given the new one is not
// given the old one next, since the first one has kept that meanwhile.
func TestTagsDoNotGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs, records, others := mem.NewBlobs(), &slowRecords{Records: mem.NewRecords(), key: "r/a/_t/x"}, &silent{}
		others.current.Store(true)
		reg, err := local.New(blobs, records, local.Options{Others: others})
		if err != nil {
			t.Fatal(err)
		}
		beside, err := local.New(blobs, records.Records, local.Options{})
		if err != nil {
			t.Fatal(err)
		}
		is := func() digest.Digest {
			d, err := reg.Resolve(t.Context(), origintest.Repo(t, "a"), origintest.Ref(t, "x"))
			if err != nil {
				t.Error(err)
			}
			return d.Digest
		}
		before, after := origintest.Image([]byte(`{"n":1}`)), origintest.Image([]byte(`{"n":2}`))
		before.Push(t, beside, "a", "x")
		second := make(chan digest.Digest, 1)
		records.do = func() {
			after.Push(t, beside, "a", "x")
			go func() { second <- is() }()
			synctest.Wait() // until he has it, or waits
		}
		if got := is(); got != before.Digest() {
			t.Errorf("the first one reads %s", got)
		}
		if got, next := <-second, is(); got != before.Digest() && next != got {
			t.Errorf("it is %s, then %s", got, next)
		}
		others.changed([]string{records.key})
		synctest.Wait()
		if got := is(); got != after.Digest() {
			t.Errorf("when it is told it is %s", got)
		}
	})
}
