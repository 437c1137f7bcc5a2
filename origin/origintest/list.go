package origintest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weir-registry/weir/origin"
)

var listTests = []test{
	{"repositories", func(t *testing.T, reg origin.Registry) {
		checkRepos(t, reg, nil)
		want := []string{"a", "a-b", "a/b", "a/b/c", "a0", "b"} // in byte order
		for _, name := range []string{"b", "a/b", "a", "a/b/c", "a0", "a-b"} {
			Image([]byte("{}")).Push(t, reg, name, "x")
		}
		checkRepos(t, reg, want)
		Image([]byte("{}")).Push(t, reg, "aa", "x")
		checkRepos(t, reg, slices.Insert(want, 5, "aa"))
	}},
	{"a repository stays when it is emptied", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"))
		tree.Push(t, reg, "a", "x")
		wantNil(t, "delete", reg.DeleteManifest(t.Context(), Repo(t, "a"), origin.ByDigest(tree.Digest())))
		CheckTags(t, reg, "a", nil)
		checkRepos(t, reg, []string{"a"})
	}},
	{"tags that come and go while they are listed", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"))
		tree.Push(t, reg, "a")
		var want []string
		for i := range 30 {
			tag := fmt.Sprintf("t%02d", (i*7)%30)
			PushManifest(t, reg, "a", tree.Manifest, tag)
			want = append(want, tag)
			if i%3 == 2 {
				wantNil(t, "delete", reg.DeleteManifest(t.Context(), Repo(t, "a"), Ref(t, want[0])))
				want = want[1:]
			}
			if i%5 == 4 {
				CheckTags(t, reg, "a", slices.Sorted(slices.Values(want)))
			}
		}
	}},
}

func checkRepos(t testing.TB, c origin.Catalog, want []string) {
	t.Helper()
	for n := 1; n <= len(want)+1; n++ {
		var got []string
		for _, r := range pages(t, "repositories", n, origin.Repo.String, func(p origin.Page) (origin.List[origin.Repo], error) {
			return c.Repos(t.Context(), p)
		}) {
			got = append(got, r.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("repositories, %d a page: %q, want %q", n, got, want)
		}
	}
}
