package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// promiseCase is an image that was pulled, and what of it is here when its upstream
// goes.
type promiseCase struct {
	image origintest.Tree
	pull  []origintest.Tree // whose manifests and blobs were pulled, by digest; after a HEAD of the tag
	lose  []origintest.Blob // what is not here any more
	whole bool
}

// foreign is an image with a layer that is to be had elsewhere, and not here.
func foreign() origintest.Tree {
	img := nginx()
	var m v1.Manifest
	if err := json.Unmarshal(img.Manifest.Bytes, &m); err != nil {
		panic(err)
	}
	windows := origintest.NewBlob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []byte("elsewhere"))
	windows.URLs = []string{"https://elsewhere.example/layer"}
	m.Layers = append(m.Layers, windows.Descriptor)
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	img.Manifest = origintest.NewManifest(m.MediaType, b)
	return img
}

func promiseCases() map[string]promiseCase {
	img, other := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(9, 100))
	index, nested := origintest.Index(img, other), origintest.Index(origintest.Index(img))
	list := func(x ...origintest.Tree) []origintest.Tree { return x }
	return map[string]promiseCase{
		"all is here":                      {img, list(img), nil, true},
		"a layer is lost":                  {img, list(img), img.Blobs[2:3], false},
		"the config is lost":               {img, list(img), img.Blobs[:1], false},
		"only its tag was asked for":       {img, nil, nil, false},
		"a layer is to be had elsewhere":   {foreign(), list(foreign()), nil, true},
		"an index, one image is here":      {index, list(index, img), nil, true},
		"an index, the second one is here": {index, list(index, other), nil, true},
		"an index, one lost a layer":       {index, list(index, img), img.Blobs[1:2], false},
		"an index, one of two lost some":   {index, list(index, img, other), img.Blobs[1:2], true},
		"an index, no image was pulled":    {index, list(index), nil, false},
		"an index in an index":             {nested, list(nested, nested.Children[0], img), nil, true},
		"an index in an index, one lost":   {nested, list(nested, nested.Children[0], img), img.Blobs[1:2], false},
		"an index of nothing":              {origintest.Index(), list(origintest.Index()), nil, true},
	}
}

// arrange lets what x says be here, an hour ago.
func (x promiseCase) arrange(r *rig) {
	r.t.Helper()
	for _, b := range x.image.Blobs {
		origintest.PushBlob(r.t, r.hub[0].Registry, name, b.Bytes)
	}
	for _, c := range x.image.Children {
		c.Push(r.t, r.hub[0].Registry, name)
	}
	repo, err := origin.ParseRepo(name)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.hub[0].Push(r.t.Context(), repo, x.image.Manifest,
		origin.PushOptions{Sparse: true, Tags: []origin.Ref{origintest.Ref(r.t, "1.27"), origintest.Ref(r.t, "v1")}}); err != nil {
		r.t.Fatal(err)
	}
	for _, tag := range []string{"1.27", "v1"} {
		if _, err := r.Resolve(r.t.Context(), origintest.Repo(r.t, full), origintest.Ref(r.t, tag)); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, p := range x.pull {
		r.pull(full, p.Manifest.Digest.String(), p)
	}
	synctest.Wait()
	for _, b := range x.lose {
		r.lose(b)
	}
	time.Sleep(time.Hour)
}

// lose takes a blob out of the origin, as eviction does.
func (r *rig) lose(b origintest.Blob) {
	r.t.Helper()
	err := r.origin.DeleteBlob(r.t.Context(), origintest.Repo(r.t, full), b.Digest)
	if err = errors.Join(err, r.blobs.Delete(r.t.Context(), b.Digest)); err != nil {
		r.t.Fatal(err)
	}
}

// answers gives what HEAD and GET of a reference are answered with: the status, 200 if
// there is no error.
func (r *rig) answers(ref string) (head, get int, s origin.Source) {
	r.t.Helper()
	repo, parsed := origintest.Repo(r.t, full), origintest.Ref(r.t, ref)
	d, err := r.Resolve(r.t.Context(), repo, parsed)
	m, err2 := r.Manifest(r.t.Context(), repo, parsed)
	if err == nil && err2 == nil && d.Digest != m.Digest {
		r.t.Errorf("HEAD says %s, GET %s", d.Digest, m.Digest)
	}
	return statusOf(err), statusOf(err2), m.Source
}

func statusOf(err error) int {
	if err == nil {
		return 200
	}
	if oe, ok := errors.AsType[*origin.Error](err); ok {
		return oe.HTTPStatus()
	}
	return 500
}

// While the upstream cannot give content, the manifest of an image is answered only if
// all of it is here: a client that has the manifest looks nowhere else.
func TestPromise(t *testing.T) {
	for what, x := range promiseCases() {
		for failure, f := range map[string]struct {
			fail   func(r *rig) func(context.Context, string) error
			status int // instead of an image that is not whole
		}{
			"down":  {func(r *rig) func(context.Context, string) error { return r.hub[0].down }, 502},
			"hangs": {func(r *rig) func(context.Context, string) error { return r.hub[0].hang }, 504},
			"500":   {status(500), 502},
			"401":   {status(401), 404},
			"403":   {status(403), 404},
			"404":   {status(404), 404},
			"429":   {status(429), 503},
		} {
			t.Run(what+"/"+failure, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					x.arrange(r)
					r.hub[0].failing(f.fail(r))
					for try := range 3 {
						if try == 2 {
							time.Sleep(time.Minute)
							r.restart()
						}
						want := 200
						if !x.whole {
							want = f.status
						}
						begin := time.Now()
						head, get, s := r.answers("1.27")
						if head != want || get != want {
							t.Errorf("try %d: HEAD %d, GET %d, want %d", try, head, get, want)
						}
						if get == 200 && x.whole && (s.Cache != origin.Stale || s.Stale == "") {
							t.Errorf("try %d: %+v", try, s)
						}
						if took := time.Since(begin); x.whole && (took > 1500*time.Millisecond || try == 1 && took > 0) {
							t.Errorf("try %d took %v", try, took)
						}
					}
					time.Sleep(time.Minute)
					r.hub[0].failing(nil)
					if head, get, s := r.answers("1.27"); head != 200 || get != 200 || x.pull != nil && s.Cache == origin.Stale {
						t.Errorf("when it is back: %d, %d, %+v", head, get, s)
					}
					r.stop()
				})
			})
		}
	}
}

// An upstream that is known to be away is not asked, and what is fresh, immutable or
// named by its digest is not promised either.
func TestPromiseWhileKnownToBeAway(t *testing.T) {
	for what, x := range promiseCases() {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				x.arrange(r)
				if _, err := r.Resolve(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "1.27")); err != nil {
					t.Fatal(err) // it is fresh from here on
				}
				r.hub[0].took()
				r.hub[0].failing(r.hub[0].down)
				if _, err := r.Stat(t.Context(), origintest.Repo(t, full), digest.FromString("something else")); statusOf(err) != 502 {
					t.Fatal(err) // it is known to be away from here on
				}
				r.hub[0].took()
				want := 200
				if !x.whole {
					want = 502
				}
				for _, ref := range []string{"1.27", "v1", x.image.Manifest.Digest.String()} {
					if head, get, _ := r.answers(ref); head != want || get != want {
						t.Errorf("%s: HEAD %d, GET %d, want %d", ref, head, get, want)
					}
				}
				if asked := r.hub[0].took(); x.pull != nil && len(asked) > 0 {
					t.Errorf("the upstream was asked %v", asked)
				}
				r.hub[0].failing(nil)
				time.Sleep(2 * time.Second)
				for _, ref := range []string{"1.27", "v1", x.image.Manifest.Digest.String()} {
					if head, get, _ := r.answers(ref); head != 200 || get != 200 {
						t.Errorf("when it is back, %s: HEAD %d, GET %d", ref, head, get)
					}
				}
				r.stop()
			})
		})
	}
}

// What a running fill has is promised. What is lost while an image is taken to be
// whole is noticed within seconds.
func TestPromiseFollowsWhatIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		layer := img.Blobs[2]
		promiseCase{img, []origintest.Tree{img}, []origintest.Blob{layer}, false}.arrange(r)
		repo := origintest.Repo(t, full)
		r.hub[0].fail = func(_ context.Context, ask string) error {
			if ask == fmt.Sprintf("GET %s blob %s", name, layer.Digest) {
				time.Sleep(5 * time.Second) // it comes, in the end
				return nil
			}
			return r.hub[0].status(503)
		}
		want := func(when string, status int) {
			t.Helper()
			if head, get, _ := r.answers("1.27"); head != status || get != status {
				t.Errorf("%s: HEAD %d, GET %d, want %d", when, head, get, status)
			}
		}
		want("a layer is not here", 502)
		read := make(chan error)
		go func() {
			b, err := r.Blob(t.Context(), repo, layer.Digest, store.Range{})
			if err == nil {
				_, err = io.Copy(io.Discard, b.Body)
			}
			read <- err
		}()
		synctest.Wait()
		want("it is on its way", 200)
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want("it is here", 200)
		r.lose(layer)
		time.Sleep(6 * time.Second)
		want("it is lost", 502)
		r.stop()
	})
}

// While an upstream can be asked, nothing is looked up to promise an image.
func TestPromiseCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counted := &countedBlobs{}
		r := newRig(t, func(r *rig) { counted.Blobs, r.blobs = r.blobs, counted })
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		synctest.Wait()
		counted.stats.Store(0)
		for range 10 {
			time.Sleep(time.Hour) // past its TTL each time
			if head, get, s := r.answers("1.27"); head != 200 || get != 200 || s.Cache != origin.Hit {
				t.Errorf("%d, %d, %+v", head, get, s)
			}
		}
		if n := counted.stats.Load(); n != 0 {
			t.Errorf("%d look-ups", n)
		}
		r.hub[0].failing(r.hub[0].down)
		time.Sleep(time.Hour)
		for range 100 {
			r.answers("1.27")
		}
		if n := counted.stats.Load(); n != int64(len(img.Blobs)) {
			t.Errorf("%d look-ups for a hundred pulls of an image of %d blobs", n, len(img.Blobs))
		}
		r.stop()
	})
}
