package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// signatures are n artifacts about an image, of two types in turn, in the order of
// their digests.
func signatures(of origintest.Tree, n int) []origintest.Tree {
	var list []origintest.Tree
	for i := range n {
		kind := []string{"application/sig", "application/sbom"}[i%2]
		list = append(list, origintest.Artifact(of.Manifest.Descriptor.Descriptor, kind, nil, fmt.Append(nil, i)))
	}
	slices.SortFunc(list, func(a, b origintest.Tree) int { return strings.Compare(string(a.Digest()), string(b.Digest())) })
	return list
}

func digests(list origin.List[origin.Descriptor]) []digest.Digest {
	var all []digest.Digest
	for _, d := range list.Items {
		all = append(all, d.Digest)
	}
	return all
}

// However many ask, for whatever type and page, an upstream is asked once in a TTL.
func TestReferrersOneRequestPerTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		sigs := signatures(img, 7)
		for _, s := range sigs {
			s.Push(t, r.hub[0].Registry, name)
		}
		r.hub[0].took()
		ask := "REFERRERS " + name + " " + img.Digest().String()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { origintest.CheckReferrers(t, r, full, img.Digest(), "", sigs) })
		}
		wg.Wait()
		r.requests(r.hub[0], ask)
		var bills []origintest.Tree
		for _, s := range sigs {
			if c, err := origin.ReadManifest(s.Manifest.MediaType, s.Manifest.Bytes); err != nil || c.ArtifactType == "application/sbom" {
				bills = append(bills, s)
			}
		}
		origintest.CheckReferrers(t, r, full, img.Digest(), "application/sbom", bills)

		// Page by page.
		var all []digest.Digest
		page := origin.Page{N: 3}
		for {
			list, err := r.Referrers(t.Context(), origintest.Repo(t, full), img.Digest(), "", page)
			if err != nil || len(list.Items) == 0 || list.Source.Cache != origin.Hit {
				t.Fatalf("%+v, %v", list, err)
			}
			all = append(all, digests(list)...)
			if !list.More {
				break
			}
			page.After = list.Items[len(list.Items)-1].Digest.String()
		}
		if len(all) != 7 || !slices.IsSorted(all) {
			t.Errorf("pages have %v", all)
		}
		r.requests(r.hub[0])

		time.Sleep(time.Minute)
		more := origintest.Artifact(img.Manifest.Descriptor.Descriptor, "application/late", nil, []byte("late"))
		more.Push(t, r.hub[0].Registry, name)
		r.hub[0].took()
		origintest.CheckReferrers(t, r, full, img.Digest(), "application/late", []origintest.Tree{more})
		r.requests(r.hub[0], ask)
		if r.meter.results["docker.io referrers fill"] == 0 || r.meter.results["docker.io referrers hit"] == 0 {
			t.Errorf("counted %v", r.meter.results)
		}
		r.stop()
	})
}

// What an upstream said is served while it cannot say, also by a process that has
// begun since: within the time of an impatient client, and saying so. What it never
// said is an outage, and never an empty list.
func TestReferrersStale(t *testing.T) {
	for _, c := range []struct {
		what string
		fail func(*endpoint) func(context.Context, string) error
		wait time.Duration
	}{
		{"down", func(e *endpoint) func(context.Context, string) error { return e.down }, 0},
		{"hanging", func(e *endpoint) func(context.Context, string) error { return e.hang }, 1500 * time.Millisecond},
		{"denying", func(e *endpoint) func(context.Context, string) error {
			return func(context.Context, string) error { return e.status(401) }
		}, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				img := nginx()
				img.Push(t, r.hub[0].Registry, name, "1.27")
				sigs := signatures(img, 2)
				for _, s := range sigs {
					s.Push(t, r.hub[0].Registry, name)
				}
				origintest.CheckReferrers(t, r, full, img.Digest(), "", sigs)
				synctest.Wait()
				r.hub[0].fail = c.fail(r.hub[0])
				r.restart()
				time.Sleep(time.Hour)
				r.hub[0].took()
				for i, wait := range []time.Duration{c.wait, 0, 0} {
					begun := time.Now()
					list, err := r.Referrers(t.Context(), origintest.Repo(t, full), img.Digest(), "", origin.Page{N: 100})
					if err != nil || len(list.Items) != 2 || list.Source.Cache != origin.Stale || list.Source.Stale == "" {
						t.Errorf("%d: %+v, %v", i, list, err)
					}
					if got := time.Since(begun); got != wait {
						t.Errorf("%d: it took %v, want %v", i, got, wait)
					}
				}
				if n := len(r.hub[0].took()); n != 1 {
					t.Errorf("asked %d times", n)
				}
				never := digest.FromString("never asked for")
				list, err := r.Referrers(t.Context(), origintest.Repo(t, full), never, "", origin.Page{N: 100})
				if oe, _ := errors.AsType[*origin.Error](err); c.what == "denying" {
					if err != nil || len(list.Items) != 0 || list.Source.Cache != origin.Miss {
						t.Errorf("of what is denied: %+v, %v", list, err)
					}
				} else if oe == nil || oe.HTTPStatus()/100 != 5 {
					t.Errorf("of what is not known: %+v, %v", list, err)
				}
				r.stop()
			})
		})
	}
}

// An unknown digest has no referrers; what weir has of a repository itself is there
// too, once.
func TestReferrersMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.tune = func(u *mirror.Upstream) { u.Writable = true } })
		origintest.CheckReferrers(t, r, full, digest.FromString("nothing"), "", nil)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		sigs := signatures(img, 9)
		for i, s := range sigs {
			if i%3 != 0 {
				s.Push(t, r.hub[0].Registry, name)
			}
			if i%3 != 1 {
				s.Push(t, r, full)
			}
		}
		origintest.CheckReferrers(t, r, full, img.Digest(), "", sigs)
		for n := 1; n < 11; n++ {
			var all []digest.Digest
			page := origin.Page{N: n}
			for more := true; more; {
				list, err := r.Referrers(t.Context(), origintest.Repo(t, full), img.Digest(), "", page)
				if err != nil || len(list.Items) == 0 || len(list.Items) > n {
					t.Fatalf("pages of %d: %+v, %v", n, list, err)
				}
				all = append(all, digests(list)...)
				page.After, more = string(all[len(all)-1]), list.More
			}
			if len(all) != 9 || !slices.IsSorted(all) {
				t.Errorf("pages of %d have %v", n, all)
			}
		}
		// What was pushed here is known also while the upstream was never heard of it.
		r.hub[0].fail = r.hub[0].down
		other := origintest.Image([]byte(`{}`), []byte("ours"))
		other.Push(t, r, full, "ours")
		ours := origintest.Artifact(other.Manifest.Descriptor.Descriptor, "application/sig", nil, []byte("o"))
		ours.Push(t, r, full)
		list, err := r.Referrers(t.Context(), origintest.Repo(t, full), other.Digest(), "", origin.Page{N: 9})
		if err != nil || len(list.Items) != 1 || list.Source.Cache != origin.Stale {
			t.Errorf("%+v, %v", list, err)
		}
		r.stop()
	})
}

// Tags of a hybrid are those of both, in byte order, in pages of any length.
func TestTagsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.tune = func(u *mirror.Upstream) { u.Writable = true } })
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), []byte("ours"))
		theirs.Push(t, r.hub[0].Registry, name, "1", "1.1", "3", "B", "a", "z1", "z2", "z3")
		ours.Push(t, r, full, "0", "1", "1-ours", "2", "A", "y", "z2")
		want := []string{"0", "1", "1-ours", "1.1", "2", "3", "A", "B", "a", "y", "z1", "z2", "z3"}
		pages := func(n int) (all []string) {
			page := origin.Page{N: n}
			for more := true; more; {
				list, err := r.Tags(t.Context(), origintest.Repo(t, full), page)
				if err != nil || len(list.Items) == 0 || len(list.Items) > n {
					t.Fatalf("pages of %d: %+v, %v", n, list, err)
				}
				all = append(all, list.Items...)
				page.After, more = all[len(all)-1], list.More
			}
			return all
		}
		for n := 1; n < 16; n++ {
			if got := pages(n); !slices.Equal(got, want) {
				t.Errorf("pages of %d have %v", n, got)
			}
		}
		// While the upstream is down: what is remembered of it, and ours.
		r.pull(full, "1.1", theirs)
		r.hub[0].fail = r.hub[0].down
		want = []string{"0", "1", "1-ours", "1.1", "2", "A", "y", "z2"}
		for n := 1; n < 10; n++ {
			if got := pages(n); !slices.Equal(got, want) {
				t.Errorf("upstream down, pages of %d have %v", n, got)
			}
		}
		list, err := r.Tags(t.Context(), origintest.Repo(t, full), origin.Page{N: 3, After: "zz"})
		if err != nil || len(list.Items) != 0 || list.More || list.Source.Cache != origin.Stale {
			t.Errorf("behind the last one: %+v, %v", list, err)
		}
		// Of a repository that was only pushed here, an upstream has nothing to say.
		ours.Push(t, r, "ghcr.io/only/here", "x")
		list, err = r.Tags(t.Context(), origintest.Repo(t, "ghcr.io/only/here"), origin.Page{N: 3})
		if err != nil || !slices.Equal(list.Items, []string{"x"}) || list.Source.Stale != "" {
			t.Errorf("only here: %+v, %v", list, err)
		}
		if _, err := r.Tags(t.Context(), origintest.Repo(t, "ghcr.io/never"), origin.Page{N: 3}); !errors.Is(err, origin.ErrNameUnknown) {
			t.Errorf("nowhere: %v", err)
		}
		r.stop()
	})
}

// A list of tags of an upstream that hangs costs one client a moment, where there is
// something to serve instead, and the upstream one request.
func TestTagsImpatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		synctest.Wait()
		r.hub[0].took()
		r.hub[0].fail = r.hub[0].hang
		for i, wait := range []time.Duration{1500 * time.Millisecond, 0, 0} {
			begun := time.Now()
			list, err := r.Tags(t.Context(), origintest.Repo(t, full), origin.Page{N: 10})
			if err != nil || !slices.Equal(list.Items, []string{"1.27"}) || list.Source.Stale == "" || time.Since(begun) != wait {
				t.Errorf("%d: %+v, %v after %v", i, list, err, time.Since(begun))
			}
		}
		r.requests(r.hub[0], "LIST "+name)
		begun := time.Now()
		_, err := r.Tags(t.Context(), origintest.Repo(t, "docker.io/library/other"), origin.Page{N: 10})
		if oe, ok := errors.AsType[*origin.Error](err); !ok || oe.HTTPStatus() != 504 || time.Since(begun) != 15*time.Second {
			t.Errorf("nothing is known: %v after %v", err, time.Since(begun))
		}
		r.requests(r.hub[0], "LIST library/other")
		r.stop()
	})
}
