package mirror_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// nginx is an image of four layers; alike is another one that shares one with it.
func nginx() origintest.Tree {
	return origintest.Image([]byte(`{"architecture":"amd64","os":"linux"}`),
		origintest.Bytes(1, 3000), origintest.Bytes(2, 200<<10), origintest.Bytes(3, 5), origintest.Bytes(4, 100<<10))
}

const (
	full = "docker.io/library/nginx"
	name = "library/nginx"
)

// A cold pull asks for each thing once; a warm one asks for nothing.
func TestPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0], name, "1.27")
		if s := r.pull(full, "1.27", img); s.Cache != origin.Miss || s.Upstream != "registry-1.docker.io" {
			t.Errorf("cold: %+v", s)
		}
		want := []string{"HEAD " + name + " 1.27", "GET " + name + " " + img.Manifest.Digest.String()}
		for _, b := range img.Blobs {
			want = append(want, "GET "+name+" blob "+b.Digest.String())
		}
		r.requests(r.hub[0], want...)
		synctest.Wait() // what is kept is kept behind the answer
		if s := r.pull(full, "1.27", img); s.Cache != origin.Hit || s.Upstream != "" {
			t.Errorf("warm: %+v", s)
		}
		r.requests(r.hub[0])
		r.stop()
		if r.meter.results["docker.io manifest hit"] != 2 || r.meter.results["docker.io blob fill"] != 5 || r.meter.results["docker.io blob hit"] != 5 {
			t.Errorf("counted %v", r.meter.results)
		}
	})
}

// The first request may be a GET by tag: it tells all that a HEAD does.
func TestPullByTagAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0], name, "1.27")
		m, err := r.Manifest(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "1.27"))
		if err != nil || string(m.Bytes) != string(img.Manifest.Bytes) || m.Source.Cache != origin.Filled {
			t.Errorf("%+v, %v", m.Descriptor, err)
		}
		r.pull(full, "1.27", origintest.Tree{Manifest: img.Manifest})
		r.requests(r.hub[0], "GET "+name+" 1.27")
		r.stop()
	})
}

// An index is pulled for one platform: the others are never asked for.
func TestPullIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		amd64, arm64 := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(9, 100))
		index := origintest.Index(amd64, arm64)
		index.Push(t, r.hub[0], name, "latest")
		r.pull(full, "latest", origintest.Tree{Manifest: index.Manifest})
		r.requests(r.hub[0], "HEAD "+name+" latest", "GET "+name+" "+index.Manifest.Digest.String())
		m, err := r.Manifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(amd64.Manifest.Digest))
		if err != nil || m.Digest != amd64.Manifest.Digest {
			t.Fatal(err)
		}
		r.blob(full, amd64.Blobs[0].Digest, amd64.Blobs[0].Bytes)
		r.requests(r.hub[0], "GET "+name+" "+amd64.Manifest.Digest.String(), "GET "+name+" blob "+amd64.Blobs[0].Digest.String())
		r.stop()
	})
}

// A hundred that come at once make one request of each kind.
func TestPullTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0], name, "1.27")
		r.hub[0].fail = func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil }
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { r.pull(full, "1.27", img) })
		}
		all.Wait()
		if n := len(r.hub[0].took()); n != 7 {
			t.Errorf("%d requests", n)
		}
		r.stop()
	})
}

// A tag is believed for its TTL. Then a thousand who ask make one HEAD of it, and
// when it moved all get what it is now.
func TestTagTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		old, next := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		old.Push(t, r.hub[0], name, "1.27")
		r.pull(full, "1.27", old)
		r.hub[0].took()

		time.Sleep(5*time.Minute - time.Second)
		r.pull(full, "1.27", old)
		r.requests(r.hub[0])

		r.hub[0].fail = func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil }
		time.Sleep(2 * time.Second)
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if s := r.pull(full, "1.27", origintest.Tree{Manifest: old.Manifest}); s.Cache != origin.Revalidated {
					t.Errorf("%+v", s)
				}
			})
		}
		all.Wait()
		r.requests(r.hub[0], "HEAD "+name+" 1.27")

		next.Push(t, r.hub[0].Registry, name, "1.27")
		time.Sleep(5*time.Minute + time.Second)
		r.pull(full, "1.27", next)
		m, err := r.Manifest(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "1.27"))
		if err != nil || m.Digest != next.Manifest.Digest {
			t.Errorf("by tag: %v, %v", m.Digest, err)
		}
		r.pull(full, old.Manifest.Digest.String(), old) // who knows the digest still has the old one
		if got := r.hub[0].took(); len(got) != 2+2 {
			t.Errorf("asked %v", got)
		}
		r.stop()
	})
}

// A tag whose manifest is gone before anybody fetched it has moved: a pull by tag asks
// for it anew, however fresh it is.
func TestTagMovedAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		old, next := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		old.Push(t, r.hub[0], name, "1.27")
		repo, tag := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		if d, err := r.Resolve(t.Context(), repo, tag); err != nil || d.Digest != old.Manifest.Digest {
			t.Fatalf("%v, %v", d.Digest, err)
		}
		next.Push(t, r.hub[0].Registry, name, "1.27")
		if err := r.hub[0].DeleteManifest(t.Context(), origintest.Repo(t, name), origin.ByDigest(old.Manifest.Digest)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if m, err := r.Manifest(t.Context(), repo, tag); err != nil || m.Digest != next.Manifest.Digest {
				t.Errorf("by tag: %v, %v", m.Digest, err)
			}
		}
		r.requests(r.hub[0], "HEAD "+name+" 1.27", "GET "+name+" "+old.Manifest.Digest.String(), "GET "+name+" 1.27")
		r.stop()
	})
}

// A tag that is immutable is asked for once, ever; over a restart too.
func TestTagImmutable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0], name, "v1")
		r.pull(full, "v1", img)
		r.hub[0].took()
		time.Sleep(365 * 24 * time.Hour)
		r.pull(full, "v1", img)
		r.restart()
		time.Sleep(365 * 24 * time.Hour)
		if s := r.pull(full, "v1", img); s.Cache != origin.Hit {
			t.Errorf("%+v", s)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// While an upstream cannot say, a tag past its TTL is served stale, and says why;
// the failed check is not repeated by each who asks. A restart changes nothing.
func TestStale(t *testing.T) {
	const why = "upstream docker.io "
	for name_, x := range map[string]struct {
		fail    func(r *rig) func(context.Context, string) error
		why     string
		within  time.Duration // of the first
		maxGone bool          // stale_if_gone: false forbids it
	}{
		"down":  {func(r *rig) func(context.Context, string) error { return r.hub[0].down }, why + "is not available", 0, false},
		"hangs": {func(r *rig) func(context.Context, string) error { return r.hub[0].hang }, why + "did not answer in time", 1500 * time.Millisecond, false},
		"500":   {status(500), why + "is not available", 0, false},
		"503":   {status(503), why + "is not available", 0, false},
		"429":   {status(429), why + "limits requests", 0, false},
		"404":   {status(404), why + "no longer has it", 0, true},
		"410":   {status(410), why + "no longer has it", 0, true},
		"401":   {status(401), why + "denies access", 0, true},
		"403":   {status(403), why + "denies access", 0, true},
	} {
		t.Run(name_, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				img := nginx()
				img.Push(t, r.hub[0], name, "1.27")
				r.pull(full, "1.27", img)
				r.hub[0].took()
				r.hub[0].fail = x.fail(r)
				time.Sleep(time.Hour)
				for try := range 3 {
					if try == 2 {
						time.Sleep(20 * time.Second) // the check that hangs ends, too
						r.restart()
					}
					begin := time.Now()
					s := r.pull(full, "1.27", img)
					if s.Cache != origin.Stale || s.Stale != x.why {
						t.Errorf("try %d: %+v", try, s)
					}
					if took := time.Since(begin); took > x.within || try == 1 && took > 0 {
						t.Errorf("try %d took %v", try, took)
					}
				}
				if n := len(r.hub[0].took()); n > 2 {
					t.Errorf("the upstream was asked %d times", n)
				}
				time.Sleep(30 * time.Second)
				r.hub[0].fail = nil
				if s := r.pull(full, "1.27", img); s.Cache != origin.Revalidated {
					t.Errorf("when it is back: %+v", s)
				}

				// Not for ever.
				r.hub[0].fail = x.fail(r)
				time.Sleep(31 * 24 * time.Hour)
				_, err := r.Resolve(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "1.27"))
				if oe, ok := errors.AsType[*origin.Error](err); !ok || x.maxGone != (oe.HTTPStatus() == 404) || !x.maxGone && oe.HTTPStatus() < 502 {
					t.Errorf("past stale_if_error: %v", err)
				}
				time.Sleep(20 * time.Second)
				r.stop()
			})
		})
	}
}

// TestHangingCostsOneWait: of all who pull while an upstream hangs one waits, for as long
// as clients are impatient; the others wait for nothing, before the check has failed
// and after it.
func TestHangingCostsOneWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.pings = true })
		img := nginx()
		img.Push(t, r.hub[0], name, "1.27")
		r.pull(full, "1.27", img)
		r.hub[0].fail = r.hub[0].hang
		time.Sleep(time.Hour)
		var waited []time.Duration
		for range 120 {
			begin := time.Now()
			if s := r.pull(full, "1.27", img); s.Cache != origin.Stale {
				t.Fatalf("%+v", s)
			}
			if took := time.Since(begin); took > 0 {
				waited = append(waited, took)
			}
			time.Sleep(time.Second)
		}
		if len(waited) != 1 || waited[0] != 1500*time.Millisecond {
			t.Errorf("waits of %v", waited)
		}
		r.stop()
	})
}

func status(code int) func(r *rig) func(context.Context, string) error {
	return func(r *rig) func(context.Context, string) error {
		return func(context.Context, string) error { return r.hub[0].status(code) }
	}
}

// Without stale_if_gone, an upstream's no is a no.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.tags.StaleIfGone = false })
		img := nginx()
		img.Push(t, r.hub[0], name, "1.27")
		r.pull(full, "1.27", img)
		r.hub[0].fail = status(404)(r)
		time.Sleep(time.Hour)
		if _, err := r.Manifest(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "1.27")); !errors.Is(err, origin.ErrManifestUnknown) {
			t.Errorf("%v", err)
		}
		r.pull(full, img.Manifest.Digest.String(), img)
		r.stop()
	})
}

// "Not there" is believed for a moment, and for that moment only.
func TestNegative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		repo, ref := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		for range 3 {
			if _, err := r.Resolve(t.Context(), repo, ref); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("resolve: %v", err)
			}
			if _, err := r.Blob(t.Context(), repo, img.Blobs[0].Digest, store.Range{}); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("blob: %v", err)
			}
		}
		r.requests(r.hub[0], "HEAD "+name+" 1.27", "GET "+name+" blob "+img.Blobs[0].Digest.String())
		img.Push(t, r.hub[0], name, "1.27")
		time.Sleep(11 * time.Second)
		r.pull(full, "1.27", img)
		r.stop()
	})
}

// Bytes are shared, rights are not. What one repository has cached another does not
// have, unless its own upstream says that it does: then it is not fetched again.
func TestRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		layer := img.Blobs[2]
		img.Push(t, r.hub[0], name, "1.27")
		origintest.PushBlob(t, r.ghcr, "acme/public", layer.Bytes)
		origintest.PushBlob(t, r.ghcr, "acme/other", []byte("other"))
		r.pull(full, "1.27", img)
		synctest.Wait()
		r.hub[0].took()

		repo := origintest.Repo(t, "ghcr.io/acme/other")
		for range 2 {
			if _, err := r.Blob(t.Context(), repo, layer.Digest, store.Range{}); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("blob of another repository: %v", err)
			}
			if _, err := r.Stat(t.Context(), repo, layer.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("stat of it: %v", err)
			}
			if _, err := r.Manifest(t.Context(), repo, origin.ByDigest(img.Manifest.Digest)); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("manifest of it: %v", err)
			}
		}
		r.requests(r.ghcr, "HEAD acme/other blob "+layer.Digest.String(), "GET acme/other "+img.Manifest.Digest.String())

		if s := r.blob("ghcr.io/acme/public", layer.Digest, layer.Bytes); s.Cache != origin.Revalidated || s.Upstream != "ghcr.io" {
			t.Errorf("a blob that both have: %+v", s)
		}
		r.blob("ghcr.io/acme/public", layer.Digest, layer.Bytes)
		r.requests(r.ghcr, "HEAD acme/public blob "+layer.Digest.String())
		r.requests(r.hub[0])
		r.stop()
	})
}

// Endpoints are asked in order. One that is down or has not got it is passed over;
// that something is not there is believed only if nobody failed to say.
func TestFailover(t *testing.T) {
	img := nginx()
	two := func(r *rig) { r.hub = append(r.hub, newEndpoint(r.t, "backup.docker.io")) }
	for name_, x := range map[string]struct {
		first, second func(r *rig, e *endpoint)
		status        int
		blobs         bool
	}{
		"first has it":                {has(img), down, 0, true},
		"first is down":               {down, has(img), 0, true},
		"first limits":                {answers(429), has(img), 0, true},
		"first denies":                {answers(403), has(img), 0, true},
		"first has it not":            {has(origintest.Tree{}), has(img), 0, true},
		"both down":                   {down, down, 502, false},
		"one down, one has it not":    {down, answers(404), 502, false},
		"one has it not, one is down": {answers(404), down, 502, false},
		"neither has it":              {answers(404), answers(401), 404, false},
		"one limits, one has it not":  {answers(429), answers(404), 503, false},
		"one hangs":                   {func(_ *rig, e *endpoint) { e.fail = e.hang }, answers(404), 504, false},
	} {
		t.Run(name_, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, two)
				x.first(r, r.hub[0])
				x.second(r, r.hub[1])
				if x.status == 0 {
					r.pull(full, "1.27", img)
					r.stop()
					return
				}
				repo := origintest.Repo(t, full)
				_, err := r.Manifest(t.Context(), repo, origintest.Ref(t, "1.27"))
				_, err2 := r.Blob(t.Context(), repo, img.Blobs[0].Digest, store.Range{})
				for _, err := range []error{err, err2} {
					if oe, ok := errors.AsType[*origin.Error](err); !ok || oe.HTTPStatus() != x.status {
						t.Errorf("%v", err)
					}
				}
				r.stop()
			})
		})
	}
}

func has(img origintest.Tree) func(r *rig, e *endpoint) {
	return func(r *rig, e *endpoint) {
		if img.Manifest.Digest != "" {
			img.Push(r.t, e.Registry, name, "1.27")
		}
	}
}

func down(_ *rig, e *endpoint) { e.fail = e.down }

func answers(code int) func(r *rig, e *endpoint) {
	return func(_ *rig, e *endpoint) {
		e.fail = func(context.Context, string) error { return e.status(code) }
	}
}

// weir starts, and serves all that it has, while every upstream is down.
func TestStartsWhileUpstreamsAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0], name, "1.27")
		r.pull(full, "1.27", img)
		r.hub[0].fail = r.hub[0].down
		r.restart()
		r.hub[0].took()
		if s := r.pull(full, "1.27", img); s.Cache != origin.Hit {
			t.Errorf("%+v", s)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// The first client leaves after a byte; the blob comes in all the same, and the next
// one has it from the store.
func TestFirstLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0], name, "1.27")
		layer := img.Blobs[2]
		b, err := r.Blob(t.Context(), origintest.Repo(t, full), layer.Digest, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := b.Body.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := r.blob(full, layer.Digest, layer.Bytes); s.Cache != origin.Hit {
			t.Errorf("%+v", s)
		}
		r.requests(r.hub[0], "GET "+name+" blob "+layer.Digest.String())
		r.stop()
	})
}

// A tag's check that an upstream does not answer, and nobody waits for any more, does
// not keep the mirror from ending.
func TestEndsWhileACheckHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		nginx().Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", nginx())
		time.Sleep(time.Hour)
		r.hub[0].fail = r.hub[0].hang
		r.pull(full, "1.27", nginx()) // stale, while the check goes on
		begin := time.Now()
		r.stop()
		if took := time.Since(begin); took > 0 {
			t.Errorf("it took %v to end", took)
		}
	})
}
