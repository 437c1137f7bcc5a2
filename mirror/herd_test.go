package mirror_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// asks are the ways to ask for an image's parts, by what the upstream is asked then.
func asks(img origintest.Tree) map[string]func(ctx context.Context, r origin.Reader, repo origin.Repo) error {
	tag, err := origin.ParseTag("1.27")
	if err != nil {
		panic(err)
	}
	byDigest, layer := origin.ByDigest(img.Manifest.Digest), img.Blobs[2].Digest
	return map[string]func(ctx context.Context, r origin.Reader, repo origin.Repo) error{
		"HEAD %s " + tag.String(): func(ctx context.Context, r origin.Reader, repo origin.Repo) error {
			_, err := r.Resolve(ctx, repo, tag)
			return err
		},
		"GET %s " + tag.String(): func(ctx context.Context, r origin.Reader, repo origin.Repo) error {
			_, err := r.Manifest(ctx, repo, tag)
			return err
		},
		"HEAD %s " + byDigest.String(): func(ctx context.Context, r origin.Reader, repo origin.Repo) error {
			_, err := r.Resolve(ctx, repo, byDigest)
			return err
		},
		"GET %s " + byDigest.String(): func(ctx context.Context, r origin.Reader, repo origin.Repo) error {
			_, err := r.Manifest(ctx, repo, byDigest)
			return err
		},
		"HEAD %s blob " + layer.String(): func(ctx context.Context, r origin.Reader, repo origin.Repo) error {
			_, err := r.Stat(ctx, repo, layer)
			return err
		},
		"GET %s blob " + layer.String(): func(ctx context.Context, r origin.Reader, repo origin.Repo) error {
			return readBlob(ctx, r, repo, layer, store.Range{})
		},
	}
}

func readBlob(ctx context.Context, r origin.Reader, repo origin.Repo, d digest.Digest, rng store.Range) error {
	b, err := r.Blob(ctx, repo, d, rng)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, b.Body)
	if closed := b.Body.Close(); err == nil {
		err = closed
	}
	return err
}

// Fifty wait for what one asks, and the upstream refuses that one: all of them are told
// the same, after one request; fifty who ask for the same content under a name that the
// upstream gives it by get it. A "not there" is believed for negative_ttl, and no longer;
// that the upstream could not say is not believed at all.
func TestRefusedLeader(t *testing.T) {
	const waiters = 50
	img := nginx()
	for ask, do := range asks(img) {
		for refusal, want := range map[int]int{401: 404, 403: 404, 404: 404, 410: 404, 429: 503, 500: 502, 503: 502, 0: 502} {
			t.Run(fmt.Sprintf("%.20s %d", strings.Replace(ask, " %s", "", 1), refusal), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					img.Push(t, r.hub[0].Registry, "acme/private", "1.27")
					img.Push(t, r.hub[0].Registry, "acme/public", "1.27")
					r.hub[0].fail = func(_ context.Context, ask string) error {
						time.Sleep(50 * time.Millisecond)
						if strings.Contains(ask, "acme/private") {
							return r.hub[0].status(refusal)
						}
						return nil
					}
					private, public := origintest.Repo(t, "docker.io/acme/private"), origintest.Repo(t, "docker.io/acme/public")
					var all sync.WaitGroup
					for range waiters {
						all.Go(func() {
							if got := statusOf(do(t.Context(), r, private)); got != want {
								t.Errorf("refused: %d, want %d", got, want)
							}
						})
						all.Go(func() {
							if err := do(t.Context(), r, public); err != nil {
								t.Errorf("under the other name: %v", err)
							}
						})
					}
					all.Wait()
					asked := map[string]int{}
					for _, a := range r.hub[0].took() {
						asked[a]++
					}
					theirs, ours := fmt.Sprintf(ask, "acme/private"), fmt.Sprintf(ask, "acme/public")
					if asked[theirs] != 1 || asked[ours] != 1 || len(asked) != 2 {
						t.Errorf("the upstream was asked %v", asked)
					}

					// It changes its mind.
					r.hub[0].failing(nil)
					time.Sleep(time.Second)
					soon := statusOf(do(t.Context(), r, private))
					switch asked := r.hub[0].took(); {
					case want == 404 && soon == 404 && len(asked) == 0:
					case refusal == 429 && soon == 503 && len(asked) == 0: // it is left alone for as long
					case want != 404 && refusal != 429 && soon == 200:
					default:
						t.Errorf("a second later: %d, after %v", soon, asked)
					}
					time.Sleep(9 * time.Second)
					if later := statusOf(do(t.Context(), r, private)); later != 200 {
						t.Errorf("ten seconds later: %d", later)
					}
					r.stop()
				})
			})
		}
	}
}

// A tag that is pulled all the time is checked once per TTL, by HEAD, whoever asks and
// however; by the herd that comes as its time is over too.
func TestOneCheckPerTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		r.hub[0].took()
		r.hub[0].fail = func(context.Context, string) error { time.Sleep(80 * time.Millisecond); return nil }
		repo, tag := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		const periods, each = 5, 1000
		begin := time.Now()
		var all sync.WaitGroup
		for i := range periods * each {
			all.Go(func() {
				time.Sleep(time.Duration(i) * periods * r.tags.TTL / (periods * each))
				for range 2 {
					d, err := r.Resolve(t.Context(), repo, tag)
					if err != nil || d.Digest != img.Manifest.Digest || d.Source.Cache == origin.Stale {
						t.Errorf("HEAD: %+v, %v", d, err)
					}
					m, err := r.Manifest(t.Context(), repo, tag)
					if err != nil || m.Digest != img.Manifest.Digest || m.Source.Cache == origin.Stale {
						t.Errorf("GET: %+v, %v", m.Descriptor, err)
					}
				}
			})
		}
		all.Wait()
		time.Sleep(time.Until(begin.Add(periods*r.tags.TTL + time.Second)))
		for range each {
			all.Go(func() {
				if _, err := r.Resolve(t.Context(), repo, tag); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		asked := r.hub[0].took()
		for _, a := range asked {
			if a != "HEAD "+name+" 1.27" {
				t.Errorf("asked %s", a)
			}
		}
		if len(asked) != periods {
			t.Errorf("checked %d times in %d TTLs", len(asked), periods)
		}
		r.stop()
	})
}
