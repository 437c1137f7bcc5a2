package foreign_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// there reports whether the registry has a manifest.
func (r *rig) there(x origintest.Tree) bool {
	r.t.Helper()
	_, err := r.behind.Registry.Resolve(context.Background(), origintest.Repo(r.t, full), origin.ByDigest(x.Digest()))
	if err != nil && !origin.Unknown(err) {
		r.t.Error(err)
	}
	return err == nil
}

// waiting is how many manifests are recorded as waiting.
func (r *rig) waiting() (n int) {
	r.t.Helper()
	for _, err := range r.records.List(context.Background(), "deposit", "") {
		if err != nil {
			r.t.Fatal(err)
		}
		n++
	}
	return n
}

// An image is handed over with its last blob, an index with its last child; a restart
// in between changes nothing.
func TestDepositWhenComplete(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			one, two := image(1), image(2)
			all := origintest.Index(one, two)
			all.Push(t, r.up.Registry, name, "1")
			r.pull(full, "1", origintest.Tree{Manifest: all.Manifest})
			half := one
			half.Blobs = one.Blobs[:1]
			r.pull(full, one.Digest().String(), half)
			step := func(wantWaiting int, want ...bool) {
				t.Helper()
				synctest.Wait()
				if restart {
					r.restart()
					synctest.Wait()
				}
				for i, x := range []origintest.Tree{all, one, two} {
					if got := r.there(x); got != want[i] {
						t.Errorf("manifest %d is there: %t", i, got)
					}
				}
				if got := r.waiting(); got != wantWaiting {
					t.Errorf("%d wait, want %d", got, wantWaiting)
				}
			}
			step(2, false, false, false)
			r.pull(full, one.Digest().String(), one)
			if restart { // what came before it is looked up in the records
				time.Sleep(time.Minute)
			}
			step(1, false, true, false)
			r.pull(full, two.Digest().String(), two)
			if restart {
				time.Sleep(time.Minute)
			}
			step(0, true, true, true)
			r.stop()
		})
	}
}

// What the registry refused is offered again, more and more seldom; nobody waits for it.
func TestDepositRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := image(1)
		img.Push(t, r.up.Registry, name, "1")
		r.behind.failing(only("PUT", func(context.Context, string) error { return status(403) }))
		r.pull(full, "1", img)
		time.Sleep(time.Hour)
		puts := 0
		for _, line := range r.behind.took() {
			if line == "PUT "+full+" "+img.Digest().String() {
				puts++
			}
		}
		if puts < 8 || puts > 14 {
			t.Errorf("offered %d times in an hour", puts)
		}
		r.behind.failing(nil)
		time.Sleep(11 * time.Minute)
		if !r.there(img) || r.waiting() != 0 {
			t.Errorf("in the end it is there: %t, and %d wait", r.there(img), r.waiting())
		}
		r.stop()
	})
}

// Blobs that the registry lost before the manifest came are put there anew.
func TestDepositLosesBlobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := image(1)
		img.Push(t, r.up.Registry, name, "1")
		r.behind.failing(only("PUT", down))
		r.pull(full, "1", img)
		synctest.Wait()
		if err := r.behind.Registry.DeleteBlob(t.Context(), origintest.Repo(t, full), img.Blobs[1].Digest); err != nil {
			t.Fatal(err)
		}
		r.behind.failing(nil)
		time.Sleep(time.Minute)
		if r.there(img) {
			t.Error("it is there, and its blob is not")
		}
		r.pull(full, "1", img)
		time.Sleep(time.Hour)
		if !r.there(img) || r.waiting() != 0 {
			t.Errorf("in the end it is there: %t, and %d wait", r.there(img), r.waiting())
		}
		r.stop()
	})
}

// What never becomes complete is forgotten after a week, and still answered.
func TestDepositGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		all := origintest.Index(image(1), image(2))
		all.Push(t, r.up.Registry, name, "1")
		r.pull(full, "1", origintest.Tree{Manifest: all.Manifest})
		time.Sleep(6 * 24 * time.Hour)
		r.restart() // it waits since when it came, not since then
		time.Sleep(time.Hour)
		if r.waiting() != 1 {
			t.Error("it was forgotten too early")
		}
		r.behind.took()
		time.Sleep(24 * time.Hour)
		if r.waiting() != 0 {
			t.Error("it waits for ever")
		}
		equal(t, "the registry", r.behind.took())
		r.pull(full, "1", origintest.Tree{Manifest: all.Manifest})
		r.stop()
	})
}

// A damaged record is dropped: the mirror has the manifest.
func TestDepositDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := image(1)
		img.Push(t, r.up.Registry, name, "1")
		r.behind.failing(only("PUT", down))
		r.pull(full, "1", img)
		r.stop()
		for e, err := range r.records.List(t.Context(), "deposit", "") {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.records.Put(t.Context(), e.Key, []byte("{}\nspoilt"), store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.records.Put(t.Context(), "deposit/NOT/_m/sha256/x", nil, store.Always()); err != nil {
			t.Fatal(err)
		}
		r.behind.failing(nil)
		r.start()
		synctest.Wait()
		if r.waiting() != 1 {
			t.Errorf("%d wait", r.waiting())
		}
		origintest.CheckManifest(t, r, full, "1", img.Manifest)
		r.stop()
	})
}

// Not more than so many wait: the oldest is forgotten for the newest, in the records too.
func TestDepositsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const most = 10_000
		repo, config := origintest.Repo(t, full), origintest.Bytes(1, 10)
		for i := range most + 3 {
			m := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
				`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":10},"layers":[],"annotations":{"n":"%d"}}`,
				digest.FromBytes(config), i))
			if _, err := r.foreign.Push(t.Context(), repo, m, origin.PushOptions{Sparse: true}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // so that one is older than the other
		}
		if n := r.waiting(); n != most {
			t.Errorf("%d wait, want %d", n, most)
		}
		r.stop()
	})
}

// Nor do they wait for more than so much in all: those that name most are forgotten first,
// so that what names little is not displaced by them, and over a restart as well.
func TestDepositsWaitForSoMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		repo, config := origintest.Repo(t, full), origintest.Bytes(1, 10)
		push := func(seed, layers int) {
			var list bytes.Buffer
			for i := range layers {
				fmt.Fprintf(&list, `,{"mediaType":"application/octet-stream","digest":%q,"size":1}`, digest.FromString(fmt.Sprint(seed, i)))
			}
			m := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
				`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":10},"layers":[%s]}`,
				digest.FromBytes(config), list.Bytes()[1:]))
			if _, err := r.foreign.Push(t.Context(), repo, m, origin.PushOptions{Sparse: true}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		for i := range 5 {
			push(i, 3)
		}
		for i := range 22 {
			push(100+i, 9_900)
		}
		const most = 200_000 / 9_901
		if n := r.waiting(); n != 5+most {
			t.Errorf("%d wait, want %d", n, 5+most)
		}
		r.restart()
		push(5, 3)
		synctest.Wait()
		if n := r.waiting(); n != 6+most {
			t.Errorf("after a restart %d wait, want %d", n, 6+most)
		}
		r.stop()
	})
}
