package origintest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// racers is how many take part in a race.
const racers = 8

var raceTests = []test{
	{"pushes of one tag", func(t *testing.T, reg origin.Registry) {
		// Whoever comes last, the tag names one of them, the same for all who ask.
		trees := make([]Tree, racers)
		for i := range trees {
			trees[i] = Image(fmt.Appendf(nil, `{"n":%d}`, i))
		}
		together(func(i int) { trees[i].Push(t, reg, "a", "x", fmt.Sprintf("own%d", i)) })
		d, err := reg.Resolve(t.Context(), Repo(t, "a"), Ref(t, "x"))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(trees, func(x Tree) bool { return x.Digest() == d.Digest })
		if i < 0 {
			t.Fatalf("the tag names %s, which nobody pushed", d.Digest)
		}
		CheckManifest(t, reg, "a", "x", trees[i].Manifest)
		want := []string{"x"}
		for i, x := range trees {
			CheckManifest(t, reg, "a", fmt.Sprintf("own%d", i), x.Manifest)
			want = append(want, fmt.Sprintf("own%d", i))
		}
		CheckTags(t, reg, "a", slices.Sorted(slices.Values(want)))
	}},
	{"uploads of one blob", func(t *testing.T, reg origin.Registry) {
		content := Bytes(7, 64<<10)
		together(func(i int) { PushBlob(t, reg, fmt.Sprintf("r%d", i%2), content) })
		for _, repo := range []string{"r0", "r1"} {
			CheckBlob(t, reg, repo, digest.FromBytes(content), content)
		}
	}},
	{"deletion and push", func(t *testing.T, reg origin.Registry) {
		// Each tag pushed with the manifest is gone with it, or names it: a tag never
		// names what is not there.
		for round := range 10 {
			tree := Image(fmt.Appendf(nil, `{"n":%d}`, round))
			tree.Push(t, reg, "a", "first")
			together(func(i int) {
				if i == 0 {
					if err := reg.DeleteManifest(t.Context(), Repo(t, "a"), origin.ByDigest(tree.Digest())); err != nil && !origin.Unknown(err) {
						t.Errorf("delete: %v", err)
					}
					return
				}
				PushManifest(t, reg, "a", tree.Manifest, fmt.Sprintf("t%d", i))
			})
			l, err := reg.Tags(t.Context(), Repo(t, "a"), origin.Page{N: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range l.Items {
				if _, err := reg.Manifest(t.Context(), Repo(t, "a"), Ref(t, tag)); err != nil {
					t.Errorf("round %d: tag %s is listed and has no manifest: %v", round, tag, err)
				}
			}
		}
	}},
	{"blob deleted and linked", func(t *testing.T, reg origin.Registry) {
		// What deletion and link leave behind, all answers agree on.
		b := []byte("blob")
		d := PushBlob(t, reg, "keep", b)
		for range 10 {
			together(func(i int) {
				switch i % 3 {
				case 0:
					if _, err := reg.Mount(t.Context(), Repo(t, "keep"), Repo(t, "a"), d); err != nil {
						t.Errorf("mount: %v", err)
					}
				case 1:
					if err := reg.DeleteBlob(t.Context(), Repo(t, "a"), d); err != nil && !origin.Unknown(err) {
						t.Errorf("delete: %v", err)
					}
				default:
					if _, err := reg.Stat(t.Context(), Repo(t, "a"), d); err != nil && !origin.Unknown(err) {
						t.Errorf("stat: %v", err)
					}
				}
			})
			_, err := reg.Stat(t.Context(), Repo(t, "a"), d)
			if del := reg.DeleteBlob(t.Context(), Repo(t, "a"), d); origin.Unknown(err) != origin.Unknown(del) {
				t.Errorf("stat says %v, and the deletion after it %v", err, del)
			}
		}
		CheckBlob(t, reg, "keep", d, b)
	}},
}

// together runs f for each racer at once, and returns when all are done.
func together(f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
