package lifetime_test

import (
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

func rules(t testing.TB, sources ...string) []lifetime.Rule {
	t.Helper()
	var list []lifetime.Rule
	for _, s := range sources {
		r, err := lifetime.ParseRule(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		list = append(list, r)
	}
	return list
}

// retainer applies rules to all repositories but those that are called free.
func (r *rig) retainer(reg *local.Registry, sources ...string) (*lifetime.Retainer, *lifetime.Pulls) {
	keep := rules(r.t, sources...)
	pulls := lifetime.NewPulls(r.records, reg)
	return lifetime.NewRetainer(reg, reg, lifetime.RetainOptions{
		Rules: func(repo origin.Repo) (string, []lifetime.Rule) {
			if repo.String() == "free" {
				return "", nil
			}
			return "keep", keep
		},
		Pulls: pulls, Grace: grace, Shared: r.options.Shared,
	}), pulls
}

func (r *rig) tags(name string) string {
	r.t.Helper()
	// A process that remembers nothing: what others delete shows.
	l, err := r.next().Tags(r.t.Context(), repo(r.t, name), origin.Page{N: 100})
	if err != nil {
		r.t.Error(err)
	}
	return strings.Join(l.Items, " ")
}

func (r *rig) has(name string, tree origintest.Tree) bool {
	r.t.Helper()
	_, err := r.next().Manifest(r.t.Context(), repo(r.t, name), origin.ByDigest(tree.Digest()))
	if err != nil && !origin.Unknown(err) {
		r.t.Error(err)
	}
	return err == nil
}

func image(seed uint64) origintest.Tree {
	return origintest.Image([]byte{'{', '}', byte(seed)}, origintest.Bytes(seed, 100))
}

// inTime are the rigs whose tags grow older, too.
func inTime(t *testing.T, test func(*rig)) {
	t.Run("memory", func(t *testing.T) { inMemory(t, test) })
	t.Run("two replicas", func(t *testing.T) { twoReplicas(t, test) })
}

// What no rule keeps goes, with its manifest; bytes go with the garbage.
func TestRetain(t *testing.T) {
	inTime(t, func(r *rig) {
		old, mid, fresh := image(1), image(2), image(3)
		r.push("a", old, "old", "latest")
		r.push("free", old, "old")
		r.age(40 * day)
		r.push("a", mid, "mid", "v1.0.0")
		r.age(20 * day)
		r.push("a", fresh, "fresh")
		retain, _ := r.retainer(r.next(), "image.tag == 'latest'", "image.pushed_at > now() - days(30)", "semver(image.tag)")
		for _, dry := range []bool{true, false} {
			rep, err := retain.Run(r.t.Context(), dry, true)
			if err != nil {
				r.t.Fatal(err)
			}
			want := []lifetime.RetainedTag{{Repository: "a", Tag: "old", Digest: old.Digest()}}
			if rep.DryRun != dry || !slices.Equal(rep.Deleted, want) || len(rep.Kept) != 4 || rep.Kept[3].Rule != "keep[2]" && rep.Kept[1].Rule != "keep[0]" {
				r.t.Errorf("%+v", rep)
			}
			if dry && r.tags("a") != "fresh latest mid old v1.0.0" {
				r.t.Error("a dry run deletes", r.tags("a"))
			}
		}
		if r.tags("a") != "fresh latest mid v1.0.0" || !r.has("a", old) || r.tags("free") != "old" {
			r.t.Error(r.tags("a"), r.has("a", old), r.tags("free"))
		}
		// Now its last tag goes.
		r.age(31 * day)
		retain, _ = r.retainer(r.next(), "top_pushed(1)")
		if rep, err := retain.Run(r.t.Context(), false, true); err != nil || len(rep.Deleted) != 3 {
			r.t.Errorf("%+v, %v", rep, err)
		}
		if r.tags("a") != "fresh" || r.has("a", old) || r.has("a", mid) || !r.has("a", fresh) || !r.has("free", old) {
			r.t.Error(r.tags("a"), r.has("a", old), r.has("a", mid), r.has("a", fresh))
		}
		r.full()
		if r.stored(mid.Blobs[1].Digest) || !r.stored(old.Blobs[1].Digest) || !r.stored(fresh.Blobs[1].Digest) {
			r.t.Error("the wrong bytes went")
		}
	})
}

const day = 24 * time.Hour

// An image whose layers are elsewhere says of them what it likes: to rules it is no smaller for
// that.
func TestRetainHuge(t *testing.T) {
	inTime(t, func(r *rig) {
		r.push("a", image(1), "small")
		huge := []v1.Descriptor{{Digest: one.Digest(), Size: math.MaxInt64}, {Digest: two.Digest(), Size: math.MaxInt64}}
		for i := range huge {
			huge[i].URLs = []string{"https://example.com/layer"}
		}
		if _, err := r.reg.Push(r.t.Context(), repo(r.t, "a"), saying(huge...), origin.PushOptions{Tags: []origin.Ref{origintest.Ref(r.t, "huge")}}); err != nil {
			r.t.Fatal(err)
		}
		retain, _ := r.retainer(r.next(), "image.size > 1000000")
		if rep, err := retain.Run(r.t.Context(), false, true); err != nil || r.tags("a") != "huge" {
			r.t.Errorf("%+v, %v, %q is left", rep, err, r.tags("a"))
		}
	})
}

// An immutable tag stays though no rule keeps it and all is forced, and so does what it names.
// That is said, and is no mistake of the run.
func TestRetainImmutable(t *testing.T) {
	inTime(t, func(r *rig) {
		kept, goes := image(1), image(2)
		r.push("a", kept, "v1", "latest")
		r.push("a", goes, "old")
		r.age(3 * day)
		reg, err := local.New(r.blobs, r.records, local.Options{
			Delete: true, Grace: grace, Sole: !r.options.Shared, ImmutableTags: []*regexp.Regexp{regexp.MustCompile("v.*")},
		})
		if err != nil {
			r.t.Fatal(err)
		}
		retain, _ := r.retainer(reg, "false")
		for _, dry := range []bool{true, false} {
			rep, err := retain.Run(r.t.Context(), dry, true)
			deleted := []lifetime.RetainedTag{{Repository: "a", Tag: "latest", Digest: kept.Digest()}, {Repository: "a", Tag: "old", Digest: goes.Digest()}}
			stays := []lifetime.RetainedTag{{Repository: "a", Tag: "v1", Digest: kept.Digest(), Rule: "the tag is immutable"}}
			if err != nil || !slices.Equal(rep.Deleted, deleted) || !slices.Equal(rep.Kept, stays) {
				r.t.Errorf("dry %v: %+v, %v", dry, rep, err)
			}
		}
		if r.tags("a") != "v1" || !r.has("a", kept) || r.has("a", goes) {
			r.t.Error(r.tags("a"), r.has("a", kept), r.has("a", goes))
		}
		r.age(long)
		r.full()
		r.pull("a", kept)
	})
}

// A manifest stays as long as a tag, an index or a kept subject needs it.
func TestRetainNeeded(t *testing.T) {
	inTime(t, func(r *rig) {
		one, two, three := image(1), image(2), image(3)
		kept, goes := origintest.Index(one, two), origintest.Index(two, three)
		signed := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/sig", nil, []byte("s"))
		r.push("a", one, "one") // named by an index, too
		r.push("a", kept, "keep-index")
		r.push("a", goes, "index")
		r.push("a", signed, "sig") // of what is kept
		alone := image(9)
		r.push("a", alone) // by digest: until it is deleted
		r.age(3 * day)
		retain, _ := r.retainer(r.next(), "image.tag.startsWith('keep')")
		for range 2 { // the second one takes what somebody might have been about to name
			if _, err := retain.Run(r.t.Context(), false, true); err != nil {
				r.t.Fatal(err)
			}
			r.age(2 * day)
		}
		if r.tags("a") != "keep-index" {
			r.t.Error(r.tags("a"))
		}
		for name, c := range map[string]struct {
			tree origintest.Tree
			want bool
		}{"one": {one, true}, "two": {two, true}, "three": {three, false}, "kept": {kept, true}, "goes": {goes, false}, "signed": {signed, true}, "alone": {alone, true}} {
			if r.has("a", c.tree) != c.want {
				r.t.Errorf("%s: %v", name, !c.want)
			}
		}
	})
}

// More than a fifth of a repository's tags is left alone, unless it is forced.
func TestRetainMany(t *testing.T) {
	inTime(t, func(r *rig) {
		for i, tag := range []string{"a", "b", "c", "d", "e"} {
			r.push("r", image(uint64(i)), tag)
		}
		retain, _ := r.retainer(r.next(), "image.tag >= 'c'")
		rep, err := retain.Run(r.t.Context(), false, false)
		if !errors.Is(err, lifetime.ErrMany) || !strings.Contains(err.Error(), "--force") || len(rep.Deleted) > 0 || len(rep.Kept) != 5 || r.tags("r") != "a b c d e" {
			r.t.Errorf("%+v, %v", rep, err)
		}
		retain, _ = r.retainer(r.next(), "image.tag >= 'b'") // a fifth, and not more
		if rep, err := retain.Run(r.t.Context(), false, false); err != nil || len(rep.Deleted) != 1 {
			r.t.Errorf("%+v, %v", rep, err)
		}
	})
}

func TestRetainPulled(t *testing.T) {
	inTime(t, func(r *rig) {
		a, b, c := image(1), image(2), image(3)
		r.push("r", a, "a")
		r.push("r", b, "b")
		r.push("r", c, "c")
		reg := r.next()
		_, pulls := r.retainer(reg, "top_pulled(2)")
		pulls.Pulled(repo(r.t, "r"), origin.ByDigest(b.Digest()))
		r.age(time.Minute)
		pulls.Pulled(repo(r.t, "r"), origintest.Ref(r.t, "a"))
		if err := pulls.Save(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
		// Another process knows it, too.
		retain, _ := r.retainer(reg, "top_pulled(1)")
		if rep, err := retain.Run(r.t.Context(), true, true); err != nil || len(rep.Kept) != 1 || rep.Kept[0].Tag != "a" {
			r.t.Errorf("%+v, %v", rep, err)
		}
		retain, _ = r.retainer(reg, "image.last_pulled_at > now() - hours(1)")
		if rep, err := retain.Run(r.t.Context(), false, true); err != nil || len(rep.Deleted) != 1 || rep.Deleted[0].Tag != "c" {
			r.t.Errorf("%+v, %v", rep, err)
		}
	})
}

// What is pushed again meanwhile stays, and an index whose child is about to go is pushed
// with it or not at all.
func TestRetainRaces(t *testing.T) {
	inTime(t, func(r *rig) {
		old := image(1)
		r.push("r", old, "t")
		r.age(2 * time.Hour)
		other := r.next()
		tagged, err := other.Tagged(r.t.Context(), repo(r.t, "r"), "t")
		if err != nil {
			r.t.Fatal(err)
		}
		d := old.Digest()
		must := func(err error) {
			r.t.Helper()
			if err != nil {
				r.t.Error(err)
			}
		}
		r.push("r", old, "t") // the same again, later
		if err := other.Untag(r.t.Context(), repo(r.t, "r"), "t", tagged); !errors.Is(err, origin.ErrInUse) {
			r.t.Errorf("a tag that was pushed again is deleted: %v", err)
		}
		must(r.reg.DeleteManifest(r.t.Context(), repo(r.t, "r"), origintest.Ref(r.t, "t")))
		if r.options.Shared {
			// An index is pushed by another process while its child is suspect.
			must(other.Suspect(r.t.Context(), repo(r.t, "r"), d))
			r.push("r", origintest.Index(old), "index")
			if err := other.Discard(r.t.Context(), repo(r.t, "r"), d); !errors.Is(err, origin.ErrInUse) {
				r.t.Errorf("what an index names is discarded: %v", err)
			}
			// It is pushed with a tag while it is suspect, by one who remembers it.
			must(r.reg.DeleteManifest(r.t.Context(), repo(r.t, "r"), origintest.Ref(r.t, "index")))
			must(other.Suspect(r.t.Context(), repo(r.t, "r"), d))
			r.manifest("r", old, "again")
			if err := other.Discard(r.t.Context(), repo(r.t, "r"), d); !errors.Is(err, origin.ErrInUse) {
				r.t.Errorf("what a tag names is discarded: %v", err)
			}
			// It is discarded, and pushed by one who remembers it.
			must(r.reg.DeleteManifest(r.t.Context(), repo(r.t, "r"), origintest.Ref(r.t, "again")))
			must(other.Suspect(r.t.Context(), repo(r.t, "r"), d))
			must(other.Discard(r.t.Context(), repo(r.t, "r"), d))
			r.manifest("r", old, "back")
			if !r.has("r", old) {
				r.t.Error("a manifest that was pushed is not there")
			}
		}
	})
}

// What cannot be read, or is missing from a listing, deletes nothing of its repository.
func TestRetainTampered(t *testing.T) {
	for name, c := range tamperings {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &tampered{Records: mem.NewRecords()}
				r := &rig{t: t, blobs: mem.NewBlobs(), records: records, age: time.Sleep}
				r.reg = open(t, r.blobs, records, true)
				r.push("a", both, "x", "y")
				r.push("a", about)
				r.push("b", image(1), "z")
				if name == "there is what nobody knows" {
					if _, err := records.Put(t.Context(), "r/a/_z/x", nil, store.Always()); err != nil {
						t.Fatal(err)
					}
				}
				r.age(time.Hour)
				records.entry, records.get, records.all = c.entry, c.get, c.all
				retain, _ := r.retainer(open(t, r.blobs, records, true), "image.tag == 'none'")
				rep, err := retain.Run(t.Context(), false, true)
				records.entry, records.get = nil, nil
				if strings.Contains(name, "link") {
					return // rules do not look at them
				}
				if r.tags("a") != "x y" || !r.has("a", both) || err == nil {
					t.Errorf("%q is left, %+v, %v", r.tags("a"), rep, err)
				}
			})
		})
	}
}

// A rule that fails deletes nothing of the repository, whatever the others say.
func TestRetainRuleFails(t *testing.T) {
	inTime(t, func(r *rig) {
		r.push("r", image(1), "a")
		r.push("r", image(2), "b")
		retain, _ := r.retainer(r.next(), "image.tag == 'a' && image.annotations['x'] == 'y'")
		rep, err := retain.Run(r.t.Context(), false, true)
		if err == nil || !strings.Contains(err.Error(), "keep[0] of tag a") || r.tags("r") != "a b" || len(rep.Deleted) != 0 {
			r.t.Errorf("%+v, %v", rep, err)
		}
	})
}

// An unreadable record of pulls is not that nothing was pulled.
func TestRetainPullsDamaged(t *testing.T) {
	inTime(t, func(r *rig) {
		r.push("r", image(1), "a")
		if _, err := r.records.Put(r.t.Context(), "pulled/r/_/3", []byte("a 12"), store.Always()); err != nil {
			r.t.Fatal(err)
		}
		retain, _ := r.retainer(r.next(), "top_pulled(1)")
		if _, err := retain.Run(r.t.Context(), false, true); err == nil || r.tags("r") != "a" {
			r.t.Errorf("%v, %s", err, r.tags("r"))
		}
	})
}
