package mirror_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/mem"
)

// Mirrored repositories take no pushes, whatever the push is called.
func TestMirroredTakesNoPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		repo, ctx := origintest.Repo(t, full), t.Context()
		_, push := r.Push(ctx, repo, img.Manifest, origin.PushOptions{})
		_, upload := r.Upload(ctx, repo, "", digest.SHA256)
		_, mount := r.Mount(ctx, origintest.Repo(t, "team/app"), repo, img.Blobs[0].Digest)
		for what, err := range map[string]error{"push": push, "upload": upload, "mount": mount} {
			if !errors.Is(err, origin.ErrUnsupported) {
				t.Errorf("%s: %v", what, err)
			}
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// A name without an upstream is the default upstream's until it is pushed to; from
// then on it is local, also when it was emptied. library is not to be had so.
func TestLocalBeforeDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		theirs.Push(t, r.hub[0].Registry, "team/app", "1")
		r.pull("team/app", "1", theirs)
		ours.Push(t, r, "team/app", "1")
		r.hub[0].took()
		r.pull("team/app", "1", ours)
		r.pull("docker.io/team/app", "1", theirs)
		if err := r.DeleteManifest(t.Context(), origintest.Repo(t, "team/app"), origin.ByDigest(ours.Manifest.Digest)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(t.Context(), origintest.Repo(t, "team/app"), origintest.Ref(t, "1")); !errors.Is(err, origin.ErrManifestUnknown) {
			t.Errorf("emptied: %v", err)
		}
		r.requests(r.hub[0])

		theirs.Push(t, r.hub[0].Registry, name, "1")
		r.pull(name, "1", theirs) // docker's registry-mirrors
		for _, n := range []string{"library/nginx", "library/other"} {
			if _, err := r.Upload(t.Context(), origintest.Repo(t, n), "", digest.SHA256); !errors.Is(err, origin.ErrDenied) {
				t.Errorf("push to %s: %v", n, err)
			}
		}
		r.stop()
	})
}

// Where somebody else decides who may, a push makes a name below library local as it
// does any other.
func TestLibraryIsClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.options.Claims = true })
		theirs, ours := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		theirs.Push(t, r.hub[0].Registry, name, "1")
		r.pull(name, "1", theirs)
		ours.Push(t, r, name, "1")
		r.hub[0].took()
		r.pull(name, "1", ours)
		r.requests(r.hub[0])
		r.pull(full, "1", theirs)
		r.stop()
	})
}

// What is cached can be mounted into a local repository; nothing is fetched for it.
func TestMountFromMirrored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		from, to := origintest.Repo(t, full), origintest.Repo(t, "team/app")
		if _, err := r.Mount(t.Context(), from, to, img.Blobs[0].Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("not cached: %v", err)
		}
		r.requests(r.hub[0])
		r.pull(full, "1.27", img)
		synctest.Wait()
		r.hub[0].took()
		for _, b := range img.Blobs {
			if _, err := r.Mount(t.Context(), from, to, b.Digest); err != nil {
				t.Error(err)
			}
		}
		origintest.PushManifest(t, r, "team/app", img.Manifest, "mine")
		r.pull("team/app", "mine", img)
		r.requests(r.hub[0])
		r.stop()
	})
}

// A deletion drops from the cache, and the next pull fetches anew; a registry that
// allows no deletions allows this one neither.
func TestDeleteDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		synctest.Wait()
		cold := r.hub[0].took()
		repo, tag, man := origintest.Repo(t, full), origintest.Ref(t, "1.27"), origin.ByDigest(img.Manifest.Digest)
		for range 2 {
			if err := r.DeleteManifest(t.Context(), repo, tag); err != nil {
				t.Error(err)
			}
			if err := r.DeleteManifest(t.Context(), repo, man); err != nil {
				t.Error(err)
			}
			for _, b := range img.Blobs {
				if err := r.DeleteBlob(t.Context(), repo, b.Digest); err != nil {
					t.Error(err)
				}
			}
			if err := r.DeleteManifest(t.Context(), repo, tag); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("again: %v", err)
			}
			if err := r.DeleteManifest(t.Context(), repo, man); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("again: %v", err)
			}
			r.pull(full, "1.27", img)
			synctest.Wait()
			again := r.hub[0].took()
			for i, ask := range again {
				if len(again) == len(cold) && bytes.HasPrefix([]byte(ask), []byte("HEAD "+name+" blob")) {
					again[i] = "GET" + ask[4:]
				}
			}
			if !slices.Equal(again[:2], cold[:2]) {
				t.Errorf("asked %v, at first %v", again, cold)
			}
		}
		r.stop()
	})
}

func TestDeleteIsRefused(t *testing.T) {
	spools, err := fill.OpenSpools(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	table, err := mirror.NewTable([]*mirror.Upstream{{Name: "docker.io"}}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	m := mirror.New(newLocal(t, mem.NewBlobs(), mem.NewRecords()), mem.NewRecords(), fill.NewGroup(spools, fill.Options{}), table, mirror.Options{})
	repo, img := origintest.Repo(t, full), nginx()
	for what, err := range map[string]error{
		"tag":      m.DeleteManifest(t.Context(), repo, origintest.Ref(t, "1")),
		"manifest": m.DeleteManifest(t.Context(), repo, origin.ByDigest(img.Manifest.Digest)),
		"blob":     m.DeleteBlob(t.Context(), repo, img.Blobs[0].Digest),
	} {
		if !errors.Is(err, origin.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Listings are the upstream's. While it is down, tags that are remembered are listed
// and said to be stale.
func TestListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.25", "1.26", "1.27")
		sbom := origintest.Artifact(img.Manifest.Descriptor.Descriptor, "application/spdx+json", nil, []byte("{}"))
		sbom.Push(t, r.hub[0].Registry, name)
		origintest.CheckTags(t, r, full, []string{"1.25", "1.26", "1.27"})
		origintest.CheckReferrers(t, r, full, img.Manifest.Digest, "", []origintest.Tree{sbom})
		r.pull(full, "1.26", img)
		r.pull(full, "1.27", img)
		synctest.Wait()

		r.hub[0].fail = r.hub[0].down
		list, err := r.Tags(t.Context(), origintest.Repo(t, full), origin.Page{N: 100})
		if err != nil || !slices.Equal(list.Items, []string{"1.26", "1.27"}) || list.Source.Cache != origin.Stale {
			t.Errorf("%+v, %v", list, err)
		}
		if _, err := r.Tags(t.Context(), origintest.Repo(t, "docker.io/library/never"), origin.Page{N: 100}); err == nil {
			t.Error("tags of what nobody knows")
		}
		r.stop()
	})
}

// A mirror is a registry like any other: for what is pushed to it, and for what it
// mirrors.
func TestMirrorIsARegistry(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		r := newRig(t)
		t.Cleanup(r.stop)
		return r
	})
}

func TestMirrorIsAReader(t *testing.T) {
	origintest.Reader(t, "ghcr.io", func(t testing.TB, c origintest.Content) origin.Reader {
		r := newRig(t)
		c.Push(t, r.ghcr.Registry)
		t.Cleanup(r.stop)
		return r
	})
}

// While the default upstream is away, pushes go on: who asks whether something is
// there is told that it is not, and waits for the upstream once.
func TestPushWhileDefaultIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.hub[0].fail = r.hub[0].hang
		img, repo, ctx := nginx(), origintest.Repo(t, "team/app"), t.Context()
		begin := time.Now()
		for range 3 {
			_, tag := r.Resolve(ctx, repo, origintest.Ref(t, "1"))
			_, byDigest := r.Resolve(ctx, repo, origin.ByDigest(img.Manifest.Digest))
			_, blob := r.Stat(ctx, repo, img.Blobs[0].Digest)
			for _, err := range []error{tag, byDigest, blob} {
				if oe, ok := errors.AsType[*origin.Error](err); !ok || oe.HTTPStatus() != 404 {
					t.Errorf("told %v", err)
				}
			}
		}
		if took := time.Since(begin); took != 14*time.Second {
			t.Errorf("waited %v", took)
		}
		r.requests(r.hub[0], "HEAD team/app 1")
		if _, err := r.Manifest(ctx, repo, origintest.Ref(t, "1")); origin.Unknown(err) || err == nil {
			t.Errorf("a pull is told that it is not there: %v", err)
		}
		img.Push(t, r, "team/app", "1")
		r.pull("team/app", "1", img)
		r.stop()
	})
}

// A client that was told that the default upstream's repository has something does
// not upload it; its push succeeds all the same.
func TestPushOverDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		one, two := nginx(), origintest.Image([]byte(`{}`), origintest.Bytes(5, 10))
		index := origintest.Index(one, two)
		one.Push(t, r.hub[0].Registry, "team/app", "1")
		r.pull("team/app", "1", one)
		synctest.Wait()
		r.hub[0].took()
		for _, b := range one.Blobs {
			if _, err := r.Stat(t.Context(), origintest.Repo(t, "team/app"), b.Digest); err != nil {
				t.Errorf("kept: %v", err)
			}
		}
		two.Push(t, r, "team/app")
		origintest.PushManifest(t, r, "team/app", index.Manifest, "mine")
		r.pull("team/app", "mine", origintest.Tree{Manifest: index.Manifest})
		r.pull("team/app", one.Manifest.Digest.String(), one)
		r.requests(r.hub[0])
		r.stop()
	})
}
