package mirror_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// platforms is an index of images, by platform.
func platforms(t *testing.T, of map[string]origintest.Tree) origintest.Tree {
	t.Helper()
	var index v1.Index
	tree := origintest.Index()
	if err := json.Unmarshal(tree.Manifest.Bytes, &index); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		d := of[name].Manifest.Descriptor.Descriptor
		os, arch, _ := strings.Cut(name, "/")
		d.Platform = &v1.Platform{OS: os, Architecture: arch}
		index.Manifests = append(index.Manifests, d)
		tree.Children = append(tree.Children, of[name])
	}
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	tree.Manifest = origintest.NewManifest(v1.MediaTypeImageIndex, b)
	return tree
}

func prefetching(r *rig) {
	r.tune = func(u *mirror.Upstream) {
		for _, s := range []string{"linux/amd64", "linux/s390x"} {
			p, err := origin.ParsePlatform(s)
			if err != nil {
				panic(err)
			}
			u.Prefetch = append(u.Prefetch, p)
		}
	}
}

// An index that is pulled by a tag, by the ways that there are, brings the images of the
// platforms; each thing is asked for once, and what is complete is not asked for again.
func TestPrefetch(t *testing.T) {
	for _, byDigest := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, prefetching)
			amd64, arm64 := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(9, 100))
			index := platforms(t, map[string]origintest.Tree{"linux/amd64": amd64, "linux/arm64": arm64})
			index.Push(t, r.hub[0].Registry, name, "latest")
			r.hub[0].took()
			pull := func() {
				t.Helper()
				ref := origintest.Ref(t, "latest")
				if byDigest {
					d, err := r.Resolve(t.Context(), origintest.Repo(t, full), ref)
					if err != nil {
						t.Fatal(err)
					}
					ref = origin.ByDigest(d.Digest)
				}
				if _, err := r.Manifest(t.Context(), origintest.Repo(t, full), ref); err != nil {
					t.Fatal(err)
				}
			}
			pull()
			synctest.Wait()
			want := []string{"GET " + name + " latest"}
			if byDigest {
				want = []string{"GET " + name + " " + index.Digest().String(), "HEAD " + name + " latest"}
			}
			want = append(want, "GET "+name+" "+amd64.Digest().String())
			for _, b := range amd64.Blobs {
				want = append(want, "GET "+name+" blob "+b.Digest.String())
			}
			got := r.hub[0].took()
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("asked %v\nwant %v", got, want)
			}
			pull()
			time.Sleep(2 * time.Minute)
			pull()
			synctest.Wait()
			r.requests(r.hub[0])
			r.hub[0].fail = r.hub[0].down
			m, err := r.Manifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(amd64.Digest()))
			if err != nil || m.Source.Cache != origin.Hit {
				t.Error(err)
			}
			for _, b := range amd64.Blobs {
				r.blob(full, b.Digest, b.Bytes)
			}
			r.requests(r.hub[0])
			r.stop()
		})
	}
}

// What a digest alone leads to, and what no platform is named for, brings nothing.
func TestPrefetchNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, prefetching)
		index := platforms(t, map[string]origintest.Tree{"linux/amd64": nginx()})
		plain := origintest.Index(nginx())
		for i, x := range []origintest.Tree{index, plain} {
			x.Push(t, r.hub[0].Registry, name, []string{"a", "b"}[i])
		}
		r.hub[0].took()
		if _, err := r.Manifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(index.Digest())); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resolve(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "a")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.requests(r.hub[0], "GET "+name+" "+index.Digest().String(), "HEAD "+name+" a", "GET "+name+" b")
		r.stop()
	})
}

// What fails is tried again with a later pull, not before; and what hangs does not
// delay the end.
func TestPrefetchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, prefetching)
		amd64 := nginx()
		index := platforms(t, map[string]origintest.Tree{"linux/amd64": amd64})
		index.Push(t, r.hub[0].Registry, name, "a")
		manifest := func() {
			t.Helper()
			if _, err := r.Manifest(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "a")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		manifest()
		if err := r.DeleteManifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(amd64.Digest())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		r.hub[0].took()
		// Not silent: an upstream that is away promises no index whose image is not here.
		r.hub[0].fail = func(context.Context, string) error { return r.hub[0].status(http.StatusInternalServerError) }
		for range 5 {
			manifest()
		}
		r.requests(r.hub[0], "GET "+name+" "+amd64.Digest().String())
		time.Sleep(10 * time.Second)
		r.hub[0].fail = r.hub[0].hang
		manifest()
		begun := time.Now()
		r.stop()
		if d := time.Since(begun); d != 0 {
			t.Errorf("the end took %v", d)
		}
		r.requests(r.hub[0], "GET "+name+" "+amd64.Digest().String())
	})
}
