package mirror_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

func refreshing(ctx context.Context) context.Context {
	return origin.WithRequest(ctx, &origin.Request{Refresh: true})
}

// Whoever asks for a fresh answer has the upstream asked whatever the TTL; however
// often and however many do, it is asked once a second.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		before, after := nginx(), origintest.Image([]byte(`{}`), []byte("after"))
		before.Push(t, r.hub[0].Registry, name, "1.27", "v1")
		r.pull(full, "1.27", before)
		r.pull(full, "v1", before)
		after.Push(t, r.hub[0].Registry, name, "1.27", "v1")
		repo, ref := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		synctest.Wait()
		time.Sleep(time.Minute)
		r.hub[0].took()
		r.pull(full, "1.27", before)
		r.requests(r.hub[0])

		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				m, err := r.Manifest(refreshing(t.Context()), repo, ref)
				if err != nil || m.Digest != after.Digest() {
					t.Errorf("%v, %v", m.Digest, err)
				}
			})
		}
		wg.Wait()
		r.requests(r.hub[0], "HEAD "+name+" 1.27", "GET "+name+" "+after.Digest().String())
		time.Sleep(999 * time.Millisecond)
		if d, err := r.Resolve(refreshing(t.Context()), repo, ref); err != nil || d.Source.Cache != origin.Hit {
			t.Errorf("within a second: %+v, %v", d.Source, err)
		}
		r.requests(r.hub[0])
		time.Sleep(time.Millisecond)
		if d, err := r.Resolve(refreshing(t.Context()), repo, ref); err != nil || d.Source.Cache != origin.Revalidated {
			t.Errorf("after a second: %+v, %v", d.Source, err)
		}
		r.requests(r.hub[0], "HEAD "+name+" 1.27")

		// What never moves is not asked for.
		if d, err := r.Resolve(refreshing(t.Context()), repo, origintest.Ref(t, "v1")); err != nil || d.Digest != before.Digest() {
			t.Errorf("immutable: %v, %v", d.Digest, err)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// What an upstream lately refused, or failed to say, it is asked about too, once a
// second; a failure serves what is there.
func TestRefreshAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		repo, ref := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		get := func(ctx context.Context) error {
			_, err := r.Manifest(ctx, repo, ref)
			return err
		}
		if err := get(t.Context()); !errors.Is(err, origin.ErrManifestUnknown) {
			t.Fatal(err)
		}
		img.Push(t, r.hub[0].Registry, name, "1.27")
		time.Sleep(500 * time.Millisecond)
		if err := get(refreshing(t.Context())); !errors.Is(err, origin.ErrManifestUnknown) {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(500 * time.Millisecond)
		if err := get(t.Context()); !errors.Is(err, origin.ErrManifestUnknown) {
			t.Errorf("not refreshing: %v", err)
		}
		if err := get(refreshing(t.Context())); err != nil {
			t.Errorf("after a second: %v", err)
		}
		r.requests(r.hub[0], "GET "+name+" 1.27", "GET "+name+" 1.27")

		r.pull(full, "1.27", img)
		synctest.Wait()
		r.hub[0].took()
		r.hub[0].fail = r.hub[0].down
		time.Sleep(2 * time.Second)
		for range 3 {
			d, err := r.Resolve(refreshing(t.Context()), repo, ref)
			if err != nil || d.Source.Cache != origin.Stale || d.Source.Stale == "" {
				t.Errorf("%+v, %v", d.Source, err)
			}
		}
		r.requests(r.hub[0], "HEAD "+name+" 1.27")
		time.Sleep(2 * time.Second)
		r.hub[0].fail = nil
		if d, err := r.Resolve(refreshing(t.Context()), repo, ref); err != nil || d.Source.Cache != origin.Revalidated {
			t.Errorf("%+v, %v", d.Source, err)
		}
		r.stop()
	})
}

// A HEAD spends no pull, and a GET that follows it fetches once, by digest; a HEAD of
// what is there asks for nothing.
func TestHeadSpendsNoPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		repo, tag, d := origintest.Repo(t, full), origintest.Ref(t, "1.27"), origin.ByDigest(img.Digest())
		for range 3 {
			for _, ref := range []origin.Ref{tag, d} {
				if _, err := r.Resolve(t.Context(), repo, ref); err != nil {
					t.Fatal(err)
				}
			}
		}
		byDigest := "HEAD " + name + " " + img.Digest().String()
		r.requests(r.hub[0], "HEAD "+name+" 1.27", byDigest, byDigest, byDigest)
		for range 3 {
			for _, ref := range []origin.Ref{tag, d} {
				if _, err := r.Manifest(t.Context(), repo, ref); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Resolve(t.Context(), repo, ref); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.requests(r.hub[0], "GET "+name+" "+img.Digest().String())
		layer := img.Blobs[2]
		if b, err := r.Stat(t.Context(), repo, layer.Digest); err != nil || b.Size != layer.Size || b.Source.Cache != origin.Miss {
			t.Errorf("%+v, %v", b, err)
		}
		r.blob(full, layer.Digest, layer.Bytes)
		synctest.Wait()
		if b, err := r.Stat(t.Context(), repo, layer.Digest); err != nil || b.Source.Cache != origin.Hit {
			t.Errorf("%+v, %v", b, err)
		}
		r.requests(r.hub[0], "HEAD "+name+" blob "+layer.Digest.String(), "GET "+name+" blob "+layer.Digest.String())
		r.stop()
	})
}

// What was deleted is fetched anew when it is asked for, by exactly the requests of
// the first time; a blob that was deleted while it was on its way is not kept, and
// whoever reads it has it all.
func TestDeletedIsFetchedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		repo, tag := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		get := func() {
			t.Helper()
			if _, err := r.Manifest(t.Context(), repo, tag); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		get()
		if err := r.DeleteManifest(t.Context(), repo, origin.ByDigest(img.Digest())); err != nil {
			t.Fatal(err)
		}
		get()
		if err := r.DeleteManifest(t.Context(), repo, tag); err != nil {
			t.Fatal(err)
		}
		get()
		r.restart()
		get()
		r.requests(r.hub[0], "GET "+name+" 1.27", "GET "+name+" "+img.Digest().String(), "GET "+name+" 1.27")
		r.stop()
	})
}

func TestDeleteWhileFilling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		layer := img.Blobs[2]
		begun := make(chan struct{})
		release := make(chan struct{})
		r.hub[0].fail = func(context.Context, string) error {
			close(begun)
			<-release
			return nil
		}
		var wg sync.WaitGroup
		wg.Go(func() { r.blob(full, layer.Digest, layer.Bytes) })
		<-begun
		r.hub[0].fail = nil
		// It is not here yet, and will not be.
		if err := r.DeleteBlob(t.Context(), origintest.Repo(t, full), layer.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("delete: %v", err)
		}
		close(release)
		wg.Wait()
		synctest.Wait()
		if _, err := r.origin.Stat(t.Context(), origintest.Repo(t, full), layer.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("it is kept: %v", err)
		}
		r.blob(full, layer.Digest, layer.Bytes)
		ask := "GET " + name + " blob " + layer.Digest.String()
		if got := r.hub[0].took(); !slices.Equal(got, []string{ask, ask}) {
			t.Errorf("asked %v", got)
		}
		synctest.Wait()
		if err := r.DeleteBlob(t.Context(), origintest.Repo(t, full), layer.Digest); err != nil {
			t.Error(err)
		}
		if err := r.DeleteBlob(t.Context(), origintest.Repo(t, full), layer.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("not there: %v", err)
		}
		r.stop()
	})
}

// A check that ends in the moment in which its client has lost patience has ended: the
// next one who finds the tag past its TTL has it checked, and is served nothing stale.
func TestCheckEndsWithPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.tags.TTL = time.Second })
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1")
		r.pull(full, "1", img)
		for range 200 {
			time.Sleep(2 * time.Second)
			r.hub[0].failing(func(context.Context, string) error { time.Sleep(1500 * time.Millisecond); return nil })
			r.pull(full, "1", img)
			time.Sleep(2 * time.Second)
			r.hub[0].failing(nil)
			if s := r.pull(full, "1", img); s.Cache != origin.Revalidated {
				t.Fatalf("%+v", s)
			}
		}
		r.stop()
	})
}
