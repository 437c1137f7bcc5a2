package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

type roleKey struct{}

// In an outage who pulls is told of it, by HEAD as by GET, wherever pushes are taken: only
// who may push there, and does not say that it reads, is told that nothing is there.
func TestOutageIsNoNoForWhoPulls(t *testing.T) {
	const mayPush, mayNot, reads = "may push", "may not push", "may push, and reads"
	for _, outage := range []struct {
		name   string
		fail   func(e *endpoint) func(context.Context, string) error
		status int
	}{
		{"hangs", func(e *endpoint) func(context.Context, string) error { return e.hang }, 504},
		{"refuses", func(e *endpoint) func(context.Context, string) error { return e.down }, 502},
		{"limits", func(e *endpoint) func(context.Context, string) error { return e.limits }, 503},
	} {
		for _, place := range []struct{ name, repo, target, upstream string }{
			{"a hybrid", "ghcr.io/team/app", "ghcr.io/team/app", "team/app"},
			{"a name without an upstream", "team/app", "team/app", "team/app"},
			{"a short name", "app", "app", "library/app"},
		} {
			for _, who := range []string{mayPush, mayNot, reads} {
				t.Run(outage.name+"/"+place.name+", "+who, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var asked []string
						r := newRig(t, func(r *rig) {
							r.tune = func(u *mirror.Upstream) { u.Writable = u.Name == "ghcr.io" }
							r.options.Claims = true
							r.options.Pushes = func(ctx context.Context, repo origin.Repo, manifest origin.Ref) bool {
								asked = append(asked, repo.String()+" "+manifest.String())
								return ctx.Value(roleKey{}) != mayNot
							}
						})
						up := r.hub[0]
						if place.target == "ghcr.io/team/app" {
							up = r.ghcr
						}
						up.fail = outage.fail(up)
						d := digest.FromString("not kept")
						ctx := context.WithValue(t.Context(), roleKey{}, who)
						ctx = origin.WithRequest(ctx, &origin.Request{Reads: who == reads})
						repo := origintest.Repo(t, place.repo)
						ask := map[string]func() error{
							"HEAD by tag":    func() error { _, err := r.Resolve(ctx, repo, origintest.Ref(t, "1")); return err },
							"HEAD by digest": func() error { _, err := r.Resolve(ctx, repo, origin.ByDigest(d)); return err },
							"HEAD of a blob": func() error { _, err := r.Stat(ctx, repo, d); return err },
							"GET by tag":     func() error { _, err := r.Manifest(ctx, repo, origintest.Ref(t, "1")); return err },
							"GET by digest":  func() error { _, err := r.Manifest(ctx, repo, origin.ByDigest(d)); return err },
							"GET of a blob":  func() error { _, err := r.Blob(ctx, repo, d, store.Range{}); return err },
						}
						for range 2 { // while it hangs, and when it is known to
							for what, do := range ask {
								status := outage.status
								if who == mayPush && strings.HasPrefix(what, "HEAD") {
									status = 404
								}
								begun := time.Now()
								err := do()
								if oe, ok := errors.AsType[*origin.Error](err); !ok || oe.HTTPStatus() != status {
									t.Errorf("%s: %v, want %d", what, err, status)
								}
								if took := time.Since(begun); took > 15*time.Second {
									t.Errorf("%s took %v", what, took)
								}
							}
						}
						for _, a := range asked {
							if a != place.target+" " && a != place.target+" 1" && a != place.target+" "+d.String() {
								t.Errorf("the right to push was looked for at %q", a)
							}
						}
						r.stop()
					})
				})
			}
		}
	}
}

// Who may not push to a hybrid is told what the upstream has of it, by HEAD of a blob too;
// who may is told what is kept, and the upstream is not asked.
func TestHeadOfAHybridsBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		may := false
		r := newRig(t, hybrid, func(r *rig) {
			r.options.Pushes = func(context.Context, origin.Repo, origin.Ref) bool { return may }
		})
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		layer, repo := img.Blobs[1], origintest.Repo(t, full)
		if d, err := r.Stat(t.Context(), repo, layer.Digest); err != nil || d.Size != int64(len(layer.Bytes)) || d.Source.Cache != origin.Miss {
			t.Errorf("who pulls is told %+v, %v", d, err)
		}
		r.requests(r.hub[0], "HEAD "+name+" blob "+layer.Digest.String())
		may = true
		if _, err := r.Stat(t.Context(), repo, layer.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("who pushes is told %v", err)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// What is local has no upstream: nobody is asked about it, whoever asks, and however long
// the default upstream hangs.
func TestLocalAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.hub[0].fail = r.hub[0].hang
		nginx().Push(t, r, "team/app", "1")
		repo, begun := origintest.Repo(t, "team/app"), time.Now()
		d := digest.FromString("not there")
		for _, ctx := range []context.Context{t.Context(), origin.WithRequest(t.Context(), &origin.Request{Reads: true})} {
			_, tag := r.Resolve(ctx, repo, origintest.Ref(t, "2"))
			_, byDigest := r.Resolve(ctx, repo, origin.ByDigest(d))
			_, blob := r.Stat(ctx, repo, d)
			for _, err := range []error{tag, byDigest, blob} {
				if !origin.Unknown(err) {
					t.Errorf("%v, want that it is not there", err)
				}
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("took %v", took)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// What was pushed to the default upstream's name, where that is writable, is there for
// whom the short name leads to it: a client that was told so does not push it again, and
// its push of what names it, which makes the short name local, succeeds.
func TestPushOverAHybrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hybrid)
		r.hub[0].fail = r.hub[0].down
		child := nginx()
		child.Push(t, r, "docker.io/team/app")
		index, repo := origintest.Index(child), origintest.Repo(t, "team/app")
		if _, err := r.Resolve(t.Context(), repo, origin.ByDigest(child.Digest())); err != nil {
			t.Errorf("what was pushed: %v", err)
		}
		origintest.PushManifest(t, r, "team/app", index.Manifest, "mine")
		r.pull("team/app", "mine", origintest.Tree{Manifest: index.Manifest})
		r.pull("team/app", child.Digest().String(), child)
		r.requests(r.hub[0])
		r.stop()
	})
}

// puts counts what is recorded.
type puts struct {
	store.Records
	n *atomic.Int64
}

func (p puts) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	p.n.Add(1)
	return p.Records.Put(ctx, key, data, if_)
}

// What a pushed index leads to is looked at once, in how many ways it may lead there.
func TestPushOfATangle(t *testing.T) {
	const levels = 14 // 16,384 ways
	for name, x := range map[string]struct{ theirs, ours string }{
		"to a hybrid": {"docker.io/team/app", "docker.io/team/app"}, "to a short name": {"docker.io/team/app", "team/app"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				r := newRig(t, hybrid, func(r *rig) { r.records = puts{r.records, &n} })
				image := nginx()
				below := []origintest.Tree{image, origintest.Image([]byte(`{}`), []byte("other"))}
				for _, tree := range below {
					tree.Push(t, r.hub[0].Registry, "team/app")
				}
				theirs := origintest.Repo(t, x.theirs)
				var all []origintest.Tree
				for level := range levels {
					all = append(all, below...)
					var next []origintest.Tree
					for i := range 2 {
						m := origintest.NewManifest("application/vnd.oci.image.index.v1+json", fmt.Appendf(nil,
							`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"digest":%q,"size":%d},{"mediaType":%q,"digest":%q,"size":%d}],"annotations":{"n":"%d %d"}}`,
							below[0].Manifest.MediaType, below[0].Digest(), below[0].Manifest.Size, below[1].Manifest.MediaType, below[1].Digest(), below[1].Manifest.Size, level, i))
						origintest.PushManifest(t, r.hub[0].Registry, "team/app", m)
						next = append(next, origintest.Tree{Manifest: m})
					}
					below = next
				}
				for _, tree := range append(all, below...) {
					if _, err := r.Manifest(t.Context(), theirs, origin.ByDigest(tree.Digest())); err != nil {
						t.Fatal(err)
					}
					for _, b := range tree.Blobs {
						r.blob(x.theirs, b.Digest, b.Bytes)
					}
				}
				synctest.Wait()
				n.Store(0)
				top := below[0].Manifest
				top.Source = origin.Source{}
				if _, err := r.Push(t.Context(), origintest.Repo(t, x.ours), top, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "mine")}}); err != nil {
					t.Fatal(err)
				}
				if n.Load() > 20*levels {
					t.Errorf("%d records were written", n.Load())
				}
				r.stop()
			})
		})
	}
}
