package origintest

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

var deleteTests = []test{
	{"tag", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"))
		tree.Push(t, reg, "a", "x", "y")
		wantNil(t, "delete x", reg.DeleteManifest(t.Context(), Repo(t, "a"), Ref(t, "x")))
		wantNoManifest(t, reg, "a", "x")
		CheckManifest(t, reg, "a", "y", tree.Manifest)
		CheckManifest(t, reg, "a", tree.Digest().String(), tree.Manifest)
		CheckTags(t, reg, "a", []string{"y"})
		wantUnknown(t, "delete x again", reg.DeleteManifest(t.Context(), Repo(t, "a"), Ref(t, "x")))
		PushManifest(t, reg, "a", tree.Manifest, "x")
		CheckManifest(t, reg, "a", "x", tree.Manifest)
		CheckTags(t, reg, "a", []string{"x", "y"})
	}},
	{"manifest and its tags", func(t *testing.T, reg origin.Registry) {
		tree, other := Image([]byte(`{"n":1}`)), Image([]byte(`{"n":2}`))
		tree.Push(t, reg, "a", "x", "moved")
		PushManifest(t, reg, "a", tree.Manifest, "later")
		other.Push(t, reg, "a", "other", "moved")
		tree.Push(t, reg, "b", "x")
		CheckTags(t, reg, "a", []string{"later", "moved", "other", "x"})

		d := Ref(t, tree.Digest().String())
		wantNil(t, "delete", reg.DeleteManifest(t.Context(), Repo(t, "a"), d))
		for _, ref := range []string{"x", "later", d.String()} {
			wantNoManifest(t, reg, "a", ref)
		}
		CheckTags(t, reg, "a", []string{"moved", "other"})
		CheckManifest(t, reg, "a", "moved", other.Manifest)
		CheckManifest(t, reg, "b", "x", tree.Manifest)
		wantUnknown(t, "delete again", reg.DeleteManifest(t.Context(), Repo(t, "a"), d))

		PushManifest(t, reg, "a", tree.Manifest, "back")
		CheckManifest(t, reg, "a", "back", tree.Manifest)
		wantNoManifest(t, reg, "a", "x")
		CheckTags(t, reg, "a", []string{"back", "moved", "other"})
	}},
	{"referrer", func(t *testing.T, reg origin.Registry) {
		subject := Image([]byte("{}"))
		one := Artifact(subject.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("one"))
		two := Artifact(subject.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("two"))
		for _, x := range []Tree{subject, one, two} {
			x.Push(t, reg, "a")
		}
		CheckReferrers(t, reg, "a", subject.Digest(), "", []Tree{one, two})
		wantNil(t, "delete", reg.DeleteManifest(t.Context(), Repo(t, "a"), origin.ByDigest(one.Digest())))
		CheckReferrers(t, reg, "a", subject.Digest(), "", []Tree{two})
		one.Push(t, reg, "a")
		CheckReferrers(t, reg, "a", subject.Digest(), "", []Tree{one, two})
	}},
	{"blob of one repository", func(t *testing.T, reg origin.Registry) {
		// Read in A, so that it is remembered there; delete in A; read by way of B.
		b := []byte("blob")
		d := PushBlob(t, reg, "a", b)
		PushBlob(t, reg, "b", b)
		CheckBlob(t, reg, "a", d, b)
		wantNil(t, "delete", reg.DeleteBlob(t.Context(), Repo(t, "a"), d))
		CheckBlob(t, reg, "b", d, b)
		wantNoBlob(t, reg, "a", d)
		wantUnknown(t, "delete again", reg.DeleteBlob(t.Context(), Repo(t, "a"), d))
		_, err := reg.Mount(t.Context(), Repo(t, "a"), Repo(t, "c"), d)
		wantError(t, "mount from where it was deleted", err, origin.ErrBlobUnknown)
		PushBlob(t, reg, "a", b)
		CheckBlob(t, reg, "a", d, b)
	}},
	{"a deleted blob is missing", func(t *testing.T, reg origin.Registry) {
		tree := Image([]byte("{}"), []byte("layer"))
		tree.Push(t, reg, "a", "x")
		wantNil(t, "delete", reg.DeleteBlob(t.Context(), Repo(t, "a"), tree.Blobs[1].Digest))
		CheckManifest(t, reg, "a", "x", tree.Manifest)
		refusePush(t, reg, "a", Image([]byte("{}"), []byte("layer"), nil).Manifest, origin.ErrManifestBlobUnknown)
	}},
	{"nothing", func(t *testing.T, reg origin.Registry) {
		Image([]byte("{}")).Push(t, reg, "a", "x")
		d := digest.FromString("nothing has this content")
		for _, repo := range []string{"a", "none"} {
			wantUnknown(t, "tag in "+repo, reg.DeleteManifest(t.Context(), Repo(t, repo), Ref(t, "y")))
			wantUnknown(t, "manifest in "+repo, reg.DeleteManifest(t.Context(), Repo(t, repo), origin.ByDigest(d)))
			wantUnknown(t, "blob in "+repo, reg.DeleteBlob(t.Context(), Repo(t, repo), d))
		}
	}},
}

func wantNoManifest(t testing.TB, r origin.Reader, repo, ref string) {
	t.Helper()
	_, err := r.Resolve(t.Context(), Repo(t, repo), Ref(t, ref))
	wantUnknown(t, "resolve "+ref, err)
	_, err = r.Manifest(t.Context(), Repo(t, repo), Ref(t, ref))
	wantUnknown(t, "manifest "+ref, err)
}

func wantNoBlob(t testing.TB, r origin.Reader, repo string, d digest.Digest) {
	t.Helper()
	_, err := r.Stat(t.Context(), Repo(t, repo), d)
	wantUnknown(t, "stat "+d.String(), err)
	_, err = readRange(t, r, Repo(t, repo), d, store.Range{})
	wantUnknown(t, "blob "+d.String(), err)
}
