package mirror_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// Decisions are about one name, whichever way was asked, and finding it asks no
// upstream.
func TestLocate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.tune = func(u *mirror.Upstream) {
				u.Allow = func(name origin.Repo) bool { return name.First() != "secret" }
			}
		})
		origintest.Image([]byte(`{}`), origintest.Bytes(5, 10)).Push(t, r, "team/app", "1")
		for _, x := range []struct {
			name           string
			write          bool
			full, upstream string
		}{
			{"docker.io/nginx", false, "docker.io/library/nginx", "docker.io"},
			{"index.docker.io/library/nginx", true, "docker.io/library/nginx", "docker.io"},
			{"ghcr.io/a/b", false, "ghcr.io/a/b", "ghcr.io"},
			{"ghcr.io/secret/b", false, "ghcr.io/secret/b", "ghcr.io"}, // it is the mirror that has nothing there
			{"library/nginx", false, "docker.io/library/nginx", "docker.io"},
			{"nginx", false, "docker.io/library/nginx", "docker.io"},
			{"library/nginx", true, "library/nginx", ""},
			{"team/app", false, "team/app", ""},
			{"team/other", false, "docker.io/team/other", "docker.io"},
			{"team/other", true, "team/other", ""},
			{"secret/app", false, "secret/app", ""}, // not mirrored: as if it were local
		} {
			full, upstream, err := r.Locate(t.Context(), origintest.Repo(t, x.name), x.write)
			if err != nil || full.String() != x.full || upstream != x.upstream {
				t.Errorf("%s (write %v): %s at %q, %v; want %s at %q", x.name, x.write, full, upstream, err, x.full, x.upstream)
			}
		}
		r.requests(r.hub[0])
		r.requests(r.ghcr)
		r.stop()
	})
}

// A push links what the default upstream's cache has only for those who may pull it:
// nobody comes by it under a name of their own.
func TestPushTakesWhatMayBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		may := false
		r := newRig(t, func(r *rig) {
			r.options.Reads = func(_ context.Context, full origin.Repo) bool {
				if full.String() != "docker.io/team/app" {
					t.Errorf("asked about %s", full)
				}
				return may
			}
		})
		img := nginx()
		img.Push(t, r.hub[0].Registry, "team/app", "1")
		r.pull("docker.io/team/app", "1", img)
		synctest.Wait()
		push := func() error {
			_, err := r.Push(t.Context(), origintest.Repo(t, "team/app"), img.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "1")}})
			return err
		}
		if err := push(); !errors.Is(err, origin.ErrManifestBlobUnknown) {
			t.Errorf("who may not pull: %v", err)
		}
		if _, err := r.Upload(t.Context(), origintest.Repo(t, "team/app"), "", digest.SHA256); err != nil {
			t.Error(err)
		}
		may = true
		if err := push(); err != nil {
			t.Errorf("who may: %v", err)
		}
		r.stop()
	})
}
