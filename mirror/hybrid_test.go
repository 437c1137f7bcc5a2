package mirror_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

func hybrid(r *rig) { r.tune = func(u *mirror.Upstream) { u.Writable = u.Name == "docker.io" } }

// A tag that was pushed stands before the upstream's for ever; nobody is asked about
// it. When it is deleted, the upstream's is there again.
func TestHybridTagWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hybrid)
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), []byte("ours"))
		theirs.Push(t, r.hub[0].Registry, name, "1.27", "1.26")
		r.pull(full, "1.27", theirs)
		ours.Push(t, r, full, "1.27")
		synctest.Wait()
		r.hub[0].took()
		for range 3 {
			if s := r.pull(full, "1.27", ours); s.Cache != origin.Hit {
				t.Errorf("%+v", s)
			}
			m, err := r.Manifest(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "1.27"))
			if err != nil || m.Digest != ours.Digest() || m.Source.Cache != origin.Hit {
				t.Errorf("%v, %v", m.Descriptor, err)
			}
			time.Sleep(24 * time.Hour)
		}
		r.requests(r.hub[0])
		r.restart()
		r.hub[0].fail = r.hub[0].down
		r.pull(full, "1.27", ours)
		r.requests(r.hub[0])
		r.hub[0].fail = nil
		r.pull(full, "1.26", theirs)

		if err := r.DeleteManifest(t.Context(), origintest.Repo(t, full), origintest.Ref(t, "1.27")); err != nil {
			t.Fatal(err)
		}
		r.pull(full, "1.27", theirs)
		// By digest, from then on, only what was pushed is still ours.
		m, err := r.Manifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(ours.Digest()))
		if err != nil || string(m.Bytes) != string(ours.Manifest.Bytes) {
			t.Errorf("%v", err)
		}
		if err := r.DeleteManifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(ours.Digest())); err != nil {
			t.Errorf("what only the origin has: %v", err)
		}
		r.stop()
	})
}

// A push to a hybrid goes through while its upstream hangs, and waits for it once at
// most: blobs are not asked for there.
func TestHybridPushWhileUpstreamHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hybrid)
		r.hub[0].fail = r.hub[0].hang
		img := nginx()
		repo, begun := origintest.Repo(t, full), time.Now()
		for _, b := range img.Blobs {
			if _, err := r.Stat(t.Context(), repo, b.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("HEAD of a blob: %v", err)
			}
			origintest.PushBlob(t, r, full, b.Bytes)
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("blobs took %v", d)
		}
		for range 3 {
			if _, err := r.Resolve(t.Context(), repo, origin.ByDigest(img.Digest())); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("HEAD of the manifest: %v", err)
			}
			if _, err := r.Resolve(t.Context(), repo, origintest.Ref(t, "mine")); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("HEAD of the tag: %v", err)
			}
		}
		if d := time.Since(begun); d != 14*time.Second {
			t.Errorf("the upstream was waited for %v", d)
		}
		r.requests(r.hub[0], "HEAD "+name+" "+img.Digest().String())
		origintest.PushManifest(t, r, full, img.Manifest, "mine")
		r.pull(full, "mine", img)
		r.requests(r.hub[0])
		r.stop()
	})
}

// What only the upstream has is missing from what is pushed; what weir has of it is
// not.
func TestHybridPushOfTheirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hybrid)
		amd64, arm64 := nginx(), origintest.Image([]byte(`{}`), []byte("arm64"))
		for _, tree := range []origintest.Tree{amd64, arm64} {
			tree.Push(t, r.hub[0].Registry, name)
		}
		index, repo := origintest.Index(amd64, arm64), origintest.Repo(t, full)
		push := func(m origin.Manifest) error {
			_, err := r.Push(t.Context(), repo, m, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "mine")}})
			return err
		}
		if err := push(amd64.Manifest); !errors.Is(err, origin.ErrManifestBlobUnknown) {
			t.Errorf("blobs only upstream: %v", err)
		}
		if err := push(index.Manifest); !errors.Is(err, origin.ErrManifestBlobUnknown) {
			t.Errorf("manifests only upstream: %v", err)
		}
		for _, tree := range index.Children {
			if _, err := r.Manifest(t.Context(), repo, origin.ByDigest(tree.Digest())); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if err := push(index.Manifest); !errors.Is(err, origin.ErrManifestBlobUnknown) {
			t.Errorf("blobs of the children only upstream: %v", err)
		}
		for _, tree := range index.Children {
			for _, b := range tree.Blobs {
				r.blob(full, b.Digest, b.Bytes)
			}
		}
		synctest.Wait()
		if err := push(index.Manifest); err != nil {
			t.Errorf("all of it is here: %v", err)
		}
		r.stop()
	})
}

// Names lead to the one name of a repository, for pushes too; what is not a hybrid
// takes none, and what was pushed lets nobody read more of the upstream's.
func TestHybridNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hybrid)
		img := origintest.Image([]byte(`{}`), []byte("ours"))
		img.Push(t, r, "docker.io/nginx", "mine")
		r.pull(full, "mine", img)
		if _, err := r.Upload(t.Context(), origintest.Repo(t, "ghcr.io/a"), "", digest.SHA256); !errors.Is(err, origin.ErrUnsupported) {
			t.Errorf("push to what is not writable: %v", err)
		}
		if _, err := r.Blob(t.Context(), origintest.Repo(t, "docker.io/library/other"), img.Blobs[1].Digest, store.Range{}); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("a blob of another repository: %v", err)
		}
		r.stop()
	})
}

// What is not allowed does not exist, whatever is asked of it, whatever is kept of it,
// and before anybody is asked.
func TestAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		img.Push(t, r.hub[0].Registry, "team/app", "1")
		r.pull(full, "1.27", img)
		r.pull("docker.io/team/app", "1", img)
		synctest.Wait()
		r.hub[0].took()
		team, err := origin.ParseGlob("team/**")
		if err != nil {
			t.Fatal(err)
		}
		r.tune = func(u *mirror.Upstream) { u.Allow, u.Writable = team.Match, true }
		r.restart()
		for _, n := range []string{full, "docker.io/nginx", name, "nginx", "ghcr.io/a/b"} {
			repo, d, tag := origintest.Repo(t, n), img.Blobs[0].Digest, origintest.Ref(t, "1.27")
			_, resolve := r.Resolve(t.Context(), repo, tag)
			_, manifest := r.Manifest(t.Context(), repo, origin.ByDigest(img.Digest()))
			_, stat := r.Stat(t.Context(), repo, d)
			_, blob := r.Blob(t.Context(), repo, d, store.Range{})
			_, tags := r.Tags(t.Context(), repo, origin.Page{N: 1})
			_, referrers := r.Referrers(t.Context(), repo, img.Digest(), "", origin.Page{N: 1})
			_, explain := r.Explain(t.Context(), repo, tag)
			_, mount := r.Mount(t.Context(), repo, origintest.Repo(t, "docker.io/team/app"), d)
			for what, err := range map[string]error{
				"resolve": resolve, "manifest": manifest, "stat": stat, "blob": blob, "tags": tags,
				"referrers": referrers, "explain": explain, "mount": mount,
				"delete tag": r.DeleteManifest(t.Context(), repo, tag), "delete blob": r.DeleteBlob(t.Context(), repo, d),
			} {
				if !errors.Is(err, origin.ErrNameUnknown) {
					t.Errorf("%s of %s: %v", what, n, err)
				}
			}
		}
		if _, err := r.Upload(t.Context(), origintest.Repo(t, full), "", digest.SHA256); !errors.Is(err, origin.ErrNameUnknown) {
			t.Errorf("push: %v", err)
		}
		list, err := r.Repos(t.Context(), origin.Page{N: 1})
		if err != nil || len(list.Items) != 1 || list.Items[0].String() != "docker.io/team/app" {
			t.Errorf("catalog: %+v, %v", list, err)
		}
		r.pull("docker.io/team/app", "1", img)
		r.requests(r.hub[0])
		r.requests(r.ghcr)
		// A name that has no upstream can still be pushed to.
		ours := origintest.Image([]byte(`{}`), []byte("ours"))
		ours.Push(t, r, "ours/app", "1")
		r.pull("ours/app", "1", ours)
		r.stop()
	})
}

// Explain says what was pushed, who said what a tag stands for, and how long what is
// past its time is served.
func TestExplainWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hybrid)
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), []byte("ours"))
		theirs.Push(t, r.hub[0].Registry, name, "1.27", "gone")
		r.pull(full, "1.27", theirs)
		r.pull(full, "gone", theirs)
		ours.Push(t, r, full, "mine")
		synctest.Wait()
		why := func(tag, endpoint, want string) {
			t.Helper()
			x, err := r.Explain(t.Context(), origintest.Repo(t, full), origintest.Ref(t, tag))
			if err != nil || x.Tag == nil || x.Tag.Why != want || x.Tag.Endpoint != endpoint || x.Manifest == nil || !x.Manifest.Cached {
				t.Errorf("%s: %+v, %v", tag, x.Tag, err)
			}
			for _, b := range x.Blobs {
				if b.Where != "stored" {
					t.Errorf("%s: blob %s is %s", tag, b.Digest, b.Where)
				}
			}
		}
		host := r.hub[0].host
		why("mine", "", "pushed here: it stands before what the upstream has")
		why("1.27", host, "checked within its TTL")
		time.Sleep(time.Hour)
		why("1.27", host, "past its TTL: the next request checks it")
		r.hub[0].fail = r.hub[0].down
		r.pull(full, "1.27", theirs)
		why("1.27", host, "past its TTL, and the last check failed: upstream docker.io is not available: served stale for another 719h0m0s")
		r.hub[0].fail = nil
		time.Sleep(2 * time.Second) // until it is found to be back
		r.hub[0].took()
		if err := r.hub[0].Registry.DeleteManifest(t.Context(), origintest.Repo(t, name), origintest.Ref(t, "gone")); err != nil {
			t.Fatal(err)
		}
		r.pull(full, "gone", theirs)
		why("gone", host, "past its TTL, and the last check failed: upstream docker.io no longer has it: served stale for another 718h59m58s")
		r.requests(r.hub[0], "HEAD "+name+" gone")
		r.stop()
	})
}
