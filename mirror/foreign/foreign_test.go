package foreign_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/foreign"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

func gets(repo string, trees ...origintest.Tree) []string {
	var lines []string
	for _, x := range trees {
		for _, b := range x.Blobs {
			lines = append(lines, "GET "+repo+" blob "+b.Digest.String())
		}
	}
	return lines
}

// A registry that is away, that hangs, that refuses or whose disk is full fails no
// pull; what could not be stored is stored by a later pull, the manifest with it.
func TestPullsWhileItIsAway(t *testing.T) {
	for what, fail := range map[string]func(context.Context, string) error{
		"down":    down,
		"hanging": only("GET", hang),
		"403":     func(context.Context, string) error { return status(403) },
		"429":     func(context.Context, string) error { return status(429) },
		"503":     func(context.Context, string) error { return status(503) },
		"full":    only("POST", func(context.Context, string) error { return status(507) }),
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				old, fresh := image(1), image(2)
				old.Push(t, r.up.Registry, name, "old")
				fresh.Push(t, r.up.Registry, name, "new")
				if how := r.pull(full, "old", old); how != "fill fill" {
					t.Errorf("cold: %s", how)
				}
				synctest.Wait()
				r.behind.failing(fail)
				for range 3 {
					begin := time.Now()
					r.pull(full, "old", old)
					r.pull(full, "new", fresh)
					synctest.Wait()
					if took := time.Since(begin); took > 3*time.Second {
						t.Errorf("two pulls took %v", took)
					}
				}
				r.behind.failing(nil)
				time.Sleep(11 * time.Minute) // the longest pause of what failed
				r.pull(full, "new", fresh)
				synctest.Wait()
				r.up.took()
				for tag, img := range map[string]origintest.Tree{"old": old, "new": fresh} {
					if how := r.pull(full, tag, img); how != "hit hit" {
						t.Errorf("%s, when it is back: %s", tag, how)
					}
					origintest.CheckManifest(t, r.behind.Registry, full, img.Digest().String(), img.Manifest)
				}
				equal(t, "the upstream", r.up.took())
				r.stop()
			})
		})
	}
}

// One that hangs is waited for once, and then left alone for a while: the rest does not
// wait.
func TestOneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := image(1)
		img.Push(t, r.up.Registry, name, "1")
		r.pull(full, "1", img)
		synctest.Wait()
		r.behind.took()
		r.behind.failing(hang)
		begin := time.Now()
		r.pull(full, "1", img) // two blobs
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("the first pull took %v", took)
		}
		r.pull(full, "1", img)
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("the second one ended after %v", took)
		}
		synctest.Wait()
		equal(t, "the registry", r.behind.took(), gets(full, img)[0], "POST "+full, "POST "+full)
		r.behind.failing(nil)
		time.Sleep(2 * time.Minute)
		if how := r.pull(full, "1", img); how != "hit hit" {
			t.Errorf("after the pause: %s", how)
		}
		r.stop()
	})
}

// Manifests are answered from memory while the upstream and the registry are away.
func TestManifestsWhileAllIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := image(1)
		img.Push(t, r.up.Registry, name, "1")
		r.pull(full, "1", img)
		r.restart()
		r.up.off = true
		r.behind.failing(down)
		for _, repo := range []string{full, name} { // also by the default upstream
			origintest.CheckManifest(t, r, repo, "1", img.Manifest)
		}
		_, err := r.Blob(t.Context(), origintest.Repo(t, full), img.Blobs[0].Digest, store.Range{})
		if e, ok := errors.AsType[*origin.Error](err); !ok || e.HTTPStatus() != 502 {
			t.Errorf("blob: %v", err)
		}
		r.stop()
	})
}

// What the registry has of another repository is not read there: that is each
// upstream's repository to say. If it says so, the bytes are mounted and not sent.
func TestRightsAreNotTheRegistrys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img, other := image(1), "docker.io/team/app"
		img.Push(t, r.up.Registry, name, "1")
		r.pull(full, "1", img)
		synctest.Wait()
		layer := img.Blobs[1]
		// Somebody has put it there past weir, or the registry keeps repositories together.
		origintest.PushBlob(t, r.behind.Registry, other, layer.Bytes)
		r.behind.took()
		r.up.took()
		in := origintest.Repo(t, other)
		if _, err := r.Blob(t.Context(), in, layer.Digest, store.Range{}); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("read: %v", err)
		}
		if _, err := r.Stat(t.Context(), in, layer.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("stat: %v", err)
		}
		if _, err := r.Mount(t.Context(), in, origintest.Repo(t, "mine/app"), layer.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
			t.Errorf("mount: %v", err)
		}
		for _, line := range r.behind.took() {
			if !strings.HasPrefix(line, "LIST mine/app") {
				t.Errorf("the registry was asked %s", line)
			}
		}
		equal(t, "the upstream", r.up.took(), "HEAD team/app blob "+layer.Digest.String())

		time.Sleep(2 * time.Second) // its no holds for a while
		img.Push(t, r.up.Registry, "team/app", "1")
		if how := r.pull(other, "1", img); how != "revalidated revalidated" {
			t.Errorf("mounted: %s", how)
		}
		synctest.Wait()
		equal(t, "the upstream", r.up.took(), "GET team/app 1",
			"HEAD team/app blob "+img.Blobs[0].Digest.String(), "HEAD team/app blob "+layer.Digest.String())
		equal(t, "the registry", r.behind.took(),
			"MOUNT "+full+" to "+other, gets(other, img)[0], "MOUNT "+full+" to "+other, gets(other, img)[1],
			"PUT "+other+" "+img.Digest().String())
		r.stop()
	})
}

// A blob that the registry has dropped is fetched and put there anew.
func TestDroppedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := image(1)
		img.Push(t, r.up.Registry, name, "1")
		r.pull(full, "1", img)
		synctest.Wait()
		for _, b := range img.Blobs {
			if err := r.behind.Registry.DeleteBlob(t.Context(), origintest.Repo(t, full), b.Digest); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"fill fill", "hit hit"} {
			if how := r.pull(full, "1", img); how != want {
				t.Errorf("%s, want %s", how, want)
			}
			synctest.Wait()
		}
		r.stop()
	})
}

// Content that is not what its digest says is cut, and fetched from the upstream from
// then on.
func TestSpoiltThere(t *testing.T) {
	for what, spoil := range map[string]func(b []byte){
		"first byte": func(b []byte) { b[0] ^= 1 },
		"last byte":  func(b []byte) { b[len(b)-1] ^= 1 },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				img := image(1)
				img.Push(t, r.up.Registry, name, "1")
				r.pull(full, "1", img)
				synctest.Wait()
				r.behind.spoil = spoil
				for _, b := range img.Blobs {
					blob, err := r.Blob(t.Context(), origintest.Repo(t, full), b.Digest, store.Range{})
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(blob.Body)
					if !errors.Is(err, store.ErrDigest) || len(got) > max(0, len(b.Bytes)-64<<10) {
						t.Errorf("%d bytes of %d, %v", len(got), len(b.Bytes), err)
					}
					if err := blob.Body.Close(); err != nil {
						t.Error(err)
					}
				}
				for range 2 {
					if how := r.pull(full, "1", img); how != "fill fill" {
						t.Errorf("then: %s", how)
					}
					synctest.Wait()
				}
				r.stop()
			})
		})
	}
}

// Whether a name is local costs one request for a while, whatever was pushed through
// weir counts at once, and what was known counts while the registry cannot say.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		theirs, ours := image(1), image(2)
		theirs.Push(t, r.up.Registry, "team/app", "1")
		for range 5 {
			r.pull("team/app", "1", theirs)
		}
		synctest.Wait()
		if n := strings.Count(strings.Join(r.behind.took(), "\n"), "LIST team/app"); n != 1 {
			t.Errorf("asked %d times whether it is local", n)
		}
		ours.Push(t, r, "team/app", "1")
		r.pull("team/app", "1", ours)
		time.Sleep(2 * time.Minute)
		r.behind.failing(only("LIST", down))
		r.pull("team/app", "1", ours)

		// Of a name of which nothing is known nobody is told that it is the upstream's.
		theirs.Push(t, r.up.Registry, "team/other", "1")
		_, err := r.Manifest(t.Context(), origintest.Repo(t, "team/other"), origintest.Ref(t, "1"))
		if !errors.Is(err, origin.ErrUnavailable) {
			t.Errorf("told %v", err)
		}
		r.stop()
	})
}

// A registry that does not delete keeps what it has; from the cache it is dropped all
// the same.
func TestDeletesWithoutDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := image(1)
		img.Push(t, r.up.Registry, name, "1")
		r.pull(full, "1", img)
		img.Push(t, r, "team/app", "1")
		synctest.Wait()
		r.behind.failing(only("DELETE", func(context.Context, string) error { return status(405) }))
		in := origintest.Repo(t, full)
		if err := r.DeleteManifest(t.Context(), in, origin.ByDigest(img.Digest())); err != nil {
			t.Error(err)
		}
		for _, b := range img.Blobs {
			if err := r.DeleteBlob(t.Context(), in, b.Digest); err != nil {
				t.Error(err)
			}
			if err := r.DeleteBlob(t.Context(), in, b.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("again: %v", err)
			}
		}
		if err := r.DeleteManifest(t.Context(), origintest.Repo(t, "team/app"), origin.ByDigest(img.Digest())); !errors.Is(err, origin.ErrUnsupported) {
			t.Errorf("of what people pushed: %v", err)
		}
		if how := r.pull(full, "1", img); how != "fill fill" {
			t.Errorf("after it: %s", how)
		}
		r.stop()
	})
}

// tardy is a registry that answers for a blob in the moment in which the mirror's patience
// ends.
type tardy struct{ *behind }

func (b tardy) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	blob, err := b.behind.Blob(ctx, repo, d, r)
	time.Sleep(3 * time.Second)
	blob.Body = &closable{ReadCloser: blob.Body}
	return blob, err
}

// closable is a body that gives nothing after it was closed.
type closable struct {
	io.ReadCloser
	closed bool
}

func (c *closable) Read(p []byte) (int, error) {
	if c.closed {
		return 0, os.ErrClosed
	}
	return c.ReadCloser.Read(p)
}

func (c *closable) Close() error {
	c.closed = true
	return c.ReadCloser.Close()
}

// An answer that comes just as it is waited for no more is none, or one that can be read.
func TestAnswerAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := foreign.New(tardy{newBehind(t)}, mem.NewRecords(), foreign.Options{Mirrored: func(origin.Repo) bool { return true }})
		content := origintest.Bytes(1, 1000)
		d, repo := origintest.PushBlob(t, r, full, content), origintest.Repo(t, full)
		for range 1000 {
			b, err := r.Blob(t.Context(), repo, d, store.Range{})
			if err == nil {
				if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				_ = b.Body.Close()
			} else if !origin.Unknown(err) {
				t.Fatal(err)
			}
			time.Sleep(time.Minute) // it is left alone for a while
		}
		r.Close(t.Context())
	})
}
