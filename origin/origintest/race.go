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
		for _, x := range trees {
			PushBlob(t, reg, "a", x.Blobs[0].Bytes)
		}
		together(t, func(i int) error {
			_, err := reg.Push(t.Context(), Repo(t, "a"), trees[i].Manifest,
				origin.PushOptions{Tags: []origin.Ref{Ref(t, "x"), Ref(t, fmt.Sprintf("own%d", i))}})
			return err
		})
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
		together(t, func(i int) error {
			return upload(t, reg, Repo(t, fmt.Sprintf("r%d", i%2)), digest.FromBytes(content), content)
		})
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
			together(t, func(i int) error {
				if i == 0 {
					return unlessUnknown(reg.DeleteManifest(t.Context(), Repo(t, "a"), origin.ByDigest(tree.Digest())))
				}
				_, err := reg.Push(t.Context(), Repo(t, "a"), tree.Manifest,
					origin.PushOptions{Tags: []origin.Ref{Ref(t, fmt.Sprintf("t%d", i))}})
				return err
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
			together(t, func(i int) error {
				switch i % 3 {
				case 0:
					_, err := reg.Mount(t.Context(), Repo(t, "keep"), Repo(t, "a"), d)
					return err
				case 1:
					return unlessUnknown(reg.DeleteBlob(t.Context(), Repo(t, "a"), d))
				default:
					_, err := reg.Stat(t.Context(), Repo(t, "a"), d)
					return unlessUnknown(err)
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

// together runs f for each racer at once, and fails the test where one errs.
func together(t testing.TB, f func(i int) error) {
	t.Helper()
	var errs [racers]error
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("racer %d: %v", i, err)
		}
	}
}

func unlessUnknown(err error) error {
	if origin.Unknown(err) {
		return nil
	}
	return err
}
