package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// What is here is read without anybody being asked, and what is not is unknown, though the
// upstream has it.
func TestHereAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img, other := nginx(), origintest.Image([]byte(`{}`), []byte("other"))
		img.Push(t, r.hub[0].Registry, name, "1.27")
		other.Push(t, r.hub[0].Registry, name, "1.28")
		r.pull(full, "1.27", img)
		synctest.Wait()
		r.hub[0].took()
		here, repo := r.Here(), origintest.Repo(t, full)
		time.Sleep(time.Hour) // past its TTL
		for _, ref := range []string{"1.27", img.Digest().String()} {
			origintest.CheckManifest(t, here, full, ref, img.Manifest)
		}
		for _, b := range img.Blobs {
			if d, err := here.Stat(t.Context(), repo, b.Digest); err != nil || d.Size != int64(len(b.Bytes)) {
				t.Errorf("%v, %v", d, err)
			}
			blob, err := here.Blob(t.Context(), repo, b.Digest, store.Range{})
			if err != nil {
				t.Fatal(err)
			}
			if err := blob.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, ref := range []string{"1.28", "none", other.Digest().String()} {
			if _, err := here.Manifest(t.Context(), repo, origintest.Ref(t, ref)); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("manifest %s: %v", ref, err)
			}
			if _, err := here.Resolve(t.Context(), repo, origintest.Ref(t, ref)); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("resolve %s: %v", ref, err)
			}
		}
		if _, err := here.Stat(t.Context(), repo, other.Blobs[1].Digest); !origin.Unknown(err) {
			t.Errorf("stat: %v", err)
		}
		// A name without an upstream is local, whatever the default upstream has of it.
		if _, err := here.Manifest(t.Context(), origintest.Repo(t, name), origintest.Ref(t, "1.27")); !origin.Unknown(err) {
			t.Errorf("%s: %v", name, err)
		}
		// Nor is anybody asked what tags there are, and since when that is known.
		list, err := here.Tags(t.Context(), repo, origin.Page{N: 10})
		if err != nil || len(list.Items) != 1 || list.Items[0] != "1.27" || list.More {
			t.Errorf("tags: %v, %v", list, err)
		}
		if list, err := here.Tags(t.Context(), repo, origin.Page{After: "1.27", N: 10}); err != nil || len(list.Items) != 0 {
			t.Errorf("tags after the last one: %v, %v", list, err)
		}
		if _, err := here.Tags(t.Context(), origintest.Repo(t, name), origin.Page{N: 10}); !errors.Is(err, origin.ErrNameUnknown) {
			t.Errorf("tags of %s: %v", name, err)
		}
		if at, err := here.Checked(t.Context(), repo, "1.27"); err != nil || time.Since(at) != time.Hour {
			t.Errorf("checked at %v, %v", at, err)
		}
		if at, err := here.Checked(t.Context(), repo, "1.28"); err != nil || !at.IsZero() {
			t.Errorf("checked at %v, %v", at, err)
		}
		if repos, err := here.Repos(t.Context(), origin.Page{N: 10}); err != nil || len(repos.Items) != 1 || repos.Items[0] != repo {
			t.Errorf("repositories: %v, %v", repos, err)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// An image that was brought in by hand is served as one that was fetched: fresh for its
// TTL, stale while the upstream cannot say, and not any more when it says otherwise. All of
// it is on stable storage when the push is acknowledged.
func TestHereBroughtIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.hub[0].fail = r.hub[0].down
		img, newer := nginx(), origintest.Image([]byte(`{}`), []byte("newer"))
		bring(t, r, full, "1.27", img)
		r.restart()
		if s := r.pull(full, "1.27", img); s.Cache != origin.Hit {
			t.Errorf("fresh: %+v", s)
		}
		r.requests(r.hub[0])
		time.Sleep(24 * time.Hour)
		if s := r.pull(full, "1.27", img); s.Cache != origin.Stale {
			t.Errorf("while the upstream is away: %+v", s)
		}
		newer.Push(t, r.hub[0].Registry, name, "1.27")
		r.hub[0].failing(nil)
		time.Sleep(time.Hour)
		r.pull(full, "1.27", newer)
		// Its blobs may be evicted, and were not pushed.
		n := 0
		for _, err := range r.origin.Evictable(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if want := len(img.Blobs) + len(newer.Blobs); n < want-1 {
			t.Errorf("%d blobs may be evicted, want all of %d", n, want)
		}
		r.stop()
	})
}

// Brought into a repository that takes pushes it is pushed: it stands before the
// upstream's, and nobody is asked. So it is into one without an upstream.
func TestHerePushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hybrid)
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), []byte("ours"))
		theirs.Push(t, r.hub[0].Registry, name, "1.27")
		bring(t, r, full, "1.27", ours)
		bring(t, r, "team/app", "v1", ours)
		time.Sleep(24 * time.Hour)
		r.hub[0].took()
		r.pull(full, "1.27", ours)
		r.pull("team/app", "v1", ours)
		r.requests(r.hub[0])
		if _, err := r.Here().Push(t.Context(), origintest.Repo(t, "library/nginx"), ours.Manifest, origin.PushOptions{}); !errors.Is(err, origin.ErrDenied) {
			t.Errorf("a name that is the default upstream's: %v", err)
		}
		if _, err := r.Here().Mount(t.Context(), origin.Repo{}, origintest.Repo(t, "library/nginx"), ours.Blobs[0].Digest); !errors.Is(err, origin.ErrDenied) {
			t.Errorf("a name that is the default upstream's: %v", err)
		}
		r.stop()
	})
}

// A manifest that has another digest than it says is kept by nobody.
func TestHereForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		forged := img.Manifest
		forged.Bytes = bytes.Replace(forged.Bytes, []byte("{"), []byte("{ "), 1)
		if _, err := r.Here().Push(t.Context(), origintest.Repo(t, full), forged, origin.PushOptions{}); !errors.Is(err, origin.ErrDigestInvalid) {
			t.Errorf("%v", err)
		}
		if _, err := r.Here().Manifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(img.Digest())); !origin.Unknown(err) {
			t.Errorf("%v", err)
		}
		r.stop()
	})
}

// bring brings an image in by hand: half of its blobs by upload, the others from where
// they are.
func bring(t *testing.T, r *rig, name, tag string, img origintest.Tree) {
	t.Helper()
	ctx, here, repo := context.Background(), r.Here(), origintest.Repo(t, name)
	for i, b := range img.Blobs {
		if i%2 == 1 {
			origintest.PushBlob(t, r.origin, "elsewhere", b.Bytes)
			if _, err := here.Mount(ctx, origin.Repo{}, repo, b.Digest); err != nil {
				t.Fatal(err)
			}
			if err := r.origin.DeleteBlob(ctx, origintest.Repo(t, "elsewhere"), b.Digest); err != nil {
				t.Fatal(err)
			}
			continue
		}
		in, err := here.Upload(ctx, repo, "", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(b.Bytes); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Commit(ctx, b.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := here.Push(ctx, repo, img.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, tag)}}); err != nil {
		t.Fatal(err)
	}
}
