package lifetime_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
)

var (
	one   = origintest.Image([]byte(`{"n":1}`), []byte("first layer"), []byte("layer of both"))
	two   = origintest.Image([]byte(`{"n":2}`), []byte("second layer"), []byte("layer of both"))
	both  = origintest.Index(one, two)
	layer = one.Blobs[1]
)

const long = 2 * grace // what is not renewed goes

// gaps are pushes with a gap in them, in which all garbage is collected.
var gaps = map[string]func(r *rig, gap func()){
	"upload, manifest": func(r *rig, gap func()) {
		for _, b := range one.Blobs {
			r.blob("a", b.Bytes)
			gap()
		}
		r.manifest("a", one)
		gap()
		r.pull("a", one)
	},
	"upload of what is there, manifest": func(r *rig, gap func()) {
		r.push("b", one)
		r.deleteManifest("b", one)
		r.age(long)
		for _, b := range one.Blobs {
			r.blob("a", b.Bytes)
			gap()
		}
		r.manifest("a", one)
		gap()
		r.pull("a", one)
	},
	"upload again, manifest": func(r *rig, gap func()) {
		r.push("a", one)
		r.deleteManifest("a", one)
		r.age(long)
		for _, b := range one.Blobs {
			r.blob("a", b.Bytes)
			gap()
		}
		r.manifest("a", one)
		gap()
		r.pull("a", one)
	},
	"HEAD, manifest": func(r *rig, gap func()) {
		for _, b := range one.Blobs {
			r.blob("a", b.Bytes)
		}
		r.age(long)
		for _, b := range one.Blobs {
			if !r.head("a", b.Digest) {
				r.t.Error("gone before anybody collected it")
			}
		}
		gap()
		r.manifest("a", one)
		gap()
		r.pull("a", one)
	},
	"HEADs for a long time, manifest": func(r *rig, gap func()) {
		for _, b := range one.Blobs {
			r.blob("a", b.Bytes)
		}
		for range 30 {
			r.age(grace / 3)
			for _, b := range one.Blobs {
				if !r.head("a", b.Digest) {
					r.t.Fatal("gone, and somebody asked for it all the time")
				}
			}
			gap()
		}
		r.age(grace * 8 / 10)
		gap()
		r.manifest("a", one)
		r.pull("a", one)
	},
	"mount, manifest": func(r *rig, gap func()) {
		for _, b := range one.Blobs {
			r.blob("b", b.Bytes)
		}
		r.age(long)
		for _, b := range one.Blobs {
			if _, err := r.reg.Mount(r.t.Context(), repo(r.t, "b"), repo(r.t, "a"), b.Digest); err != nil {
				r.t.Fatal(err)
			}
		}
		gap()
		r.manifest("a", one)
		gap()
		r.pull("a", one)
	},
	"child, index": func(r *rig, gap func()) {
		r.push("a", one)
		gap()
		r.age(long)
		r.push("a", two)
		gap()
		r.age(long)
		gap()
		r.manifest("a", both)
		gap()
		r.pull("a", both)
	},
	"fill, first read": func(r *rig, gap func()) {
		in, err := r.reg.Mirrored().Upload(r.t.Context(), repo(r.t, "hub/a"), "", layer.Digest.Algorithm())
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := in.Write(layer.Bytes); err != nil {
			r.t.Fatal(err)
		}
		if _, err := in.Commit(r.t.Context(), layer.Digest); err != nil {
			r.t.Fatal(err)
		}
		gap()
		r.age(long)
		gap()
		if err := oracletest.ReadBlob(r.t.Context(), r.reg, repo(r.t, "hub/a"), layer.Digest); err != nil {
			r.t.Error(err)
		}
	},
	"deletion, push": func(r *rig, gap func()) {
		r.push("a", one, "x")
		r.age(long)
		gap()
		r.deleteManifest("a", one)
		gap()
		r.push("a", one, "x")
		gap()
		r.pull("a", one)
	},
	"deletion, HEADs, manifest": func(r *rig, gap func()) {
		r.push("a", one, "x")
		r.age(long)
		r.deleteManifest("a", one)
		for _, b := range one.Blobs {
			if !r.head("a", b.Digest) {
				r.blob("a", b.Bytes)
			}
			gap()
		}
		r.manifest("a", one, "x")
		gap()
		r.pull("a", one)
	},
	"manifest of what lies there, with no HEAD": func(r *rig, gap func()) {
		for _, b := range one.Blobs {
			r.blob("a", b.Bytes)
		}
		r.age(long)
		r.manifest("a", one)
		gap()
		r.age(long)
		gap()
		r.pull("a", one)
	},
}

// Garbage is collected in every gap of a push. No push fails, and all that was pushed is
// there (trust G-1).
func TestGaps(t *testing.T) {
	for name, gap := range gaps {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				// Something else is collected each time, or this proves little.
				garbage := r.blob("garbage", []byte("garbage"))
				r.age(long)
				gap(r, r.full)
				r.age(long)
				r.full()
				if r.stored(garbage) {
					r.t.Error("nothing was collected")
				}
			})
		})
	}
}

// What nobody needs goes when its grace is over, and not before.
func TestWhatGoes(t *testing.T) {
	each(t, func(r *rig) {
		t := r.t
		r.push("a", one, "x")
		r.push("b", two, "x")
		lone := r.blob("a", []byte("lone"))
		wide := []byte("named by sha512")
		origintest.PushBlobAs(t, r.reg, "a", digest.SHA512.FromBytes(wide), wide)
		r.age(grace / 2)
		r.full()
		if !r.stored(lone) {
			t.Error("gone within its grace")
		}
		r.deleteManifest("a", one)
		r.full()
		for _, b := range one.Blobs {
			if !r.stored(b.Digest) {
				t.Errorf("%s is gone within its grace", b.Digest)
			}
		}
		r.age(grace)
		r.full()
		for _, gone := range one.Blobs[:2] {
			if r.stored(gone.Digest) || r.head("a", gone.Digest) {
				t.Errorf("%s is there", gone.Digest)
			}
		}
		if r.stored(lone) || r.head("a", lone) || r.head("a", one.Blobs[2].Digest) || r.stored(digest.SHA512.FromBytes(wide)) {
			t.Error("what nobody needs is there")
		}
		r.pull("b", two)
	})
}

// What was pushed by digest stays, and so does what a mirror keeps.
func TestWhatStays(t *testing.T) {
	each(t, func(r *rig) {
		t := r.t
		r.push("a", both)
		if _, err := r.reg.Push(r.t.Context(), repo(t, "hub"), two.Manifest, origin.PushOptions{Sparse: true}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			r.age(long)
			r.full()
		}
		r.pull("a", both)
		if _, err := r.reg.Manifest(r.t.Context(), repo(t, "hub"), origin.ByDigest(two.Digest())); err != nil {
			t.Error(err)
		}
	})
}

// Referrers of a deleted subject go after the grace, unless something else wants them.
func TestReferrers(t *testing.T) {
	sbom := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/sbom", nil, []byte("sbom"))
	signed := origintest.Artifact(sbom.Manifest.Descriptor.Descriptor, "application/signature", nil, []byte("signature"))
	tagged := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/tagged", nil, []byte("tagged"))
	child := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/child", nil, []byte("child"))
	asked := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/asked", nil, []byte("asked"))
	early := origintest.Artifact(two.Manifest.Descriptor.Descriptor, "application/early", nil, []byte("early"))
	each(t, func(r *rig) {
		t := r.t
		has := func(tree origintest.Tree) bool {
			_, err := r.next().Manifest(t.Context(), repo(t, "a"), origin.ByDigest(tree.Digest()))
			if err != nil && !origin.Unknown(err) {
				t.Error(err)
			}
			return err == nil
		}
		resolve := func(tree origintest.Tree) {
			if _, err := r.reg.Resolve(t.Context(), repo(t, "a"), origin.ByDigest(tree.Digest())); err != nil {
				t.Error(err)
			}
		}
		r.push("a", one)
		r.push("a", sbom)
		r.push("a", signed)
		r.push("a", tagged, "t")
		r.push("a", origintest.Index(child))
		r.push("a", asked)
		r.push("a", early) // before its subject, which does not come
		r.age(long)
		r.full()
		r.deleteManifest("a", one)
		r.full()
		for _, tree := range []origintest.Tree{sbom, signed, tagged, child, asked} {
			if !has(tree) {
				t.Error("a referrer is gone within the grace")
			}
		}
		r.age(grace / 2)
		resolve(asked)
		r.age(grace * 6 / 10)
		r.full()
		switch {
		case has(sbom):
			t.Error("a referrer of a deleted subject is there")
		case !has(signed):
			t.Error("the referrer of a referrer is gone at once")
		case !has(tagged), !has(child), !has(early):
			t.Error("what is tagged, a child, or whose subject never was, is gone")
		case !has(asked):
			t.Error("what somebody asked for is gone")
		}
		l, err := r.next().Referrers(t.Context(), repo(t, "a"), one.Digest(), "", origin.Page{N: 10})
		if err != nil || len(l.Items) != 3 {
			t.Errorf("%d referrers are listed, %v", len(l.Items), err)
		}
		r.age(grace + time.Hour)
		r.full()
		if has(signed) || has(asked) {
			t.Error("what is left of the referrers is there")
		}
		r.pull("a", tagged)
		r.pull("a", child)
		r.pull("a", early)
		// The empty config is that of those that stay; what those had that went goes.
		r.age(long)
		r.full()
		if r.stored(sbom.Blobs[1].Digest) || r.stored(signed.Blobs[1].Digest) {
			t.Error("the blobs of referrers that are gone are there")
		}
	})
}

// An upload that is not finished stays until its expiry after the last byte.
func TestUploads(t *testing.T) {
	each(t, func(r *rig) {
		t := r.t
		count := func() (n int) {
			for _, err := range r.blobs.Ingests(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			return n
		}
		in, err := r.reg.Upload(t.Context(), repo(t, "a"), "", layer.Digest.Algorithm())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		r.age(grace - time.Hour)
		rep := r.gc()
		if count() != 1 || len(rep.Kept) != 1 || rep.Kept[0].Bytes != 4 {
			t.Errorf("%d uploads, %+v", count(), rep)
		}
		r.age(2 * time.Hour)
		dry, err := r.collect.Run(t.Context(), true)
		if err != nil || count() != 1 || len(dry.Kept) != 0 {
			t.Errorf("a dry run: %d uploads, %+v, %v", count(), dry, err)
		}
		r.gc()
		if count() != 0 {
			t.Error("an upload that has expired is there")
		}
	})
}
