package mirror_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/mem"
)

// together is what mirrors in one process share.
type together struct {
	*coord.Process
	*coord.Member
	away atomic.Bool // nothing is shared, and nobody says what others record
}

func (s *together) Get(ctx context.Context, key string) ([]byte, bool) {
	if s.away.Load() {
		return nil, false
	}
	return s.Process.Get(ctx, key)
}

func (s *together) Take(ctx context.Context, name string, ttl time.Duration) (release func(), held bool) {
	if s.away.Load() {
		return nil, false
	}
	l, err := s.TryLock(ctx, name, "", ttl)
	if err != nil {
		return nil, true
	}
	return l.Unlock, false
}

func (s *together) Publish(ctx context.Context, keys ...string) {
	if !s.away.Load() {
		s.Member.Publish(ctx, keys...)
	}
}

func (s *together) Subscribe(changed func(keys []string), missed func()) func() bool {
	s.Member.Subscribe(changed, missed)
	return func() bool { return !s.away.Load() }
}

// mirrors makes two over one store and one upstream.
func mirrors(t testing.TB, change ...func(*rig)) (one, other *rig, shared []*together) {
	t.Helper()
	p := coord.NewProcess()
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	make1 := func(more ...func(*rig)) *rig {
		s := &together{Process: p, Member: p.Member()}
		shared = append(shared, s)
		return newRig(t, append([]func(*rig){func(r *rig) {
			r.blobs, r.records = blobs, coord.Announce(records, s, func(string) bool { return true })
			r.options.Shared, r.others = s, s
		}}, append(change, more...)...)...)
	}
	one = make1()
	other = make1(func(r *rig) { r.hub, r.ghcr = one.hub, one.ghcr })
	return one, other, shared
}

// heads counts what was asked about a tag.
func heads(asked []string) (n int) {
	for _, a := range asked {
		if strings.HasSuffix(a, " 1.27") {
			n++
		}
	}
	return n
}

// TestTagIsAskedOncePerCluster: whichever mirror is asked for a tag, and however many ask
// both at once, the upstream is asked once per TTL.
func TestTagIsAskedOncePerCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other, _ := mirrors(t)
		img := nginx()
		img.Push(t, one.hub[0].Registry, name, "1.27")
		one.hub[0].failing(func(ctx context.Context, _ string) error { // it takes its time
			time.Sleep(300 * time.Millisecond)
			return nil
		})
		repo, ref := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		ask := func(byHead bool) {
			var all sync.WaitGroup
			for _, r := range []*rig{one, other} {
				for range 20 {
					all.Go(func() {
						if byHead {
							d, err := r.Resolve(t.Context(), repo, ref)
							if err != nil || d.Digest != img.Digest() {
								t.Errorf("%s, %v", d.Digest, err)
							}
							return
						}
						m, err := r.Manifest(t.Context(), repo, ref)
						if err != nil || m.Digest != img.Digest() {
							t.Errorf("%s, %v", m.Digest, err)
						}
					})
				}
			}
			all.Wait()
			synctest.Wait()
		}
		ask(false) // cold: one GET
		one.requests(one.hub[0], "GET "+name+" 1.27")
		for range 3 {
			time.Sleep(5 * time.Minute)
			ask(true)
			one.requests(one.hub[0], "HEAD "+name+" 1.27")
			time.Sleep(4 * time.Minute)
			ask(false) // still fresh
			one.requests(one.hub[0])
			time.Sleep(2 * time.Minute)
			ask(false)
			one.requests(one.hub[0], "HEAD "+name+" 1.27")
		}
		one.stop()
		other.stop()
	})
}

// TestAskerIsPaused: a mirror that is stopped while it has the lock of a tag keeps the others
// from asking for 1.5 s, and from nothing else: then they ask, and it is told what they were.
func TestAskerIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other, shared := mirrors(t)
		img := nginx()
		img.Push(t, one.hub[0].Registry, name, "1.27")
		release, held := shared[0].Take(t.Context(), "tag/mirror/"+full+"/_t/1.27", time.Hour)
		if release == nil || held {
			t.Fatal("not taken")
		}
		begun := time.Now()
		other.pull(full, "1.27", img)
		if took := time.Since(begun); took < time.Second || took > 2*time.Second {
			t.Errorf("waited %v for a mirror that is stopped", took)
		}
		synctest.Wait()
		if n := heads(one.hub[0].took()); n != 1 {
			t.Errorf("%d questions", n)
		}
		release()
		one.pull(full, "1.27", img) // of what it was told
		if n := heads(one.hub[0].took()); n != 0 {
			t.Errorf("%d questions about what is known", n)
		}
		synctest.Wait()
		one.stop()
		other.stop()
	})
}

// TestRefusalIsShared: what is not there is asked for once by all, for as long as that is
// believed; and once it is there, nobody is told of the refusal any more.
func TestRefusalIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other, _ := mirrors(t)
		img := nginx()
		for what, ask := range asks(img) {
			for _, r := range []*rig{one, other} {
				if err := ask(t.Context(), r, origintest.Repo(t, full)); !origin.Unknown(err) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if got := one.hub[0].took(); len(got) > 1 { // a blob that is not there has no HEAD either
				t.Errorf("%s: the upstream was asked %q", what, got)
			}
		}
		img.Push(t, one.hub[0].Registry, name, "1.27")
		time.Sleep(10 * time.Second)
		one.pull(full, "1.27", img)
		other.pull(full, "1.27", img)
		synctest.Wait()
		one.stop()
		other.stop()
	})
}

// TestDeletedElsewhere: what one mirror drops, another one does not have in memory.
func TestDeletedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other, _ := mirrors(t)
		img := nginx()
		img.Push(t, one.hub[0].Registry, name, "1.27")
		one.pull(full, "1.27", img)
		synctest.Wait()
		other.pull(full, "1.27", img)
		one.hub[0].took()
		other.pull(full, "1.27", img)
		other.requests(one.hub[0]) // all of it is in memory, or kept

		one.hub[0].failing(one.hub[0].down)
		repo := origintest.Repo(t, full)
		for _, ref := range []origin.Ref{origintest.Ref(t, "1.27"), origin.ByDigest(img.Digest())} {
			if err := one.DeleteManifest(t.Context(), repo, ref); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for _, ref := range []origin.Ref{origintest.Ref(t, "1.27"), origin.ByDigest(img.Digest())} {
			if m, err := other.Manifest(t.Context(), repo, ref); err == nil {
				t.Errorf("%s is %s still", ref, m.Digest)
			}
		}
		one.stop()
		other.stop()
	})
}

// TestNothingIsShared: while nothing is, each mirror asks for itself, and reads what is
// recorded, and not what it remembers.
func TestNothingIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other, shared := mirrors(t)
		img, next := nginx(), origintest.Image([]byte(`{}`), []byte("next"))
		img.Push(t, one.hub[0].Registry, name, "1.27")
		one.pull(full, "1.27", img)
		synctest.Wait()
		other.pull(full, "1.27", img)
		for _, s := range shared {
			s.away.Store(true)
		}
		next.Push(t, one.hub[0].Registry, name, "1.27")
		time.Sleep(5 * time.Minute)
		one.hub[0].took()
		one.pull(full, "1.27", next)
		synctest.Wait() // it is recorded
		if n := heads(one.hub[0].took()); n != 1 {
			t.Errorf("%d questions", n)
		}
		other.pull(full, "1.27", next)
		if n := heads(one.hub[0].took()); n != 0 {
			t.Errorf("%d questions about what is recorded", n)
		}
		one.stop()
		other.stop()
	})
}

// TestPoisonedValues: what is shared and makes no sense is as if it were not there.
func TestPoisonedValues(t *testing.T) {
	for _, bad := range []string{"", "{", "null", `{"digest":"sha256:x"}`, `{"digest":"sha256:` + strings.Repeat("0", 64) + `","checked":"1999-01-01T00:00:00Z"}`, `{"status":200}`, `{"status":500,"until":"2900-01-01T00:00:00Z"}`} {
		synctest.Test(t, func(t *testing.T) {
			one, other, shared := mirrors(t)
			img := nginx()
			img.Push(t, one.hub[0].Registry, name, "1.27")
			for _, key := range []string{"tag/mirror/" + full + "/_t/1.27", "no/HEAD tag/" + full + "/1.27", "no/GET tag/" + full + "/1.27", fmt.Sprintf("no/GET manifest/%s/%s", full, img.Digest())} {
				shared[0].Set(t.Context(), key, []byte(bad), time.Hour)
			}
			one.pull(full, "1.27", img)
			if asked := one.hub[0].took(); !slices.Contains(asked, "HEAD "+name+" 1.27") {
				t.Errorf("with %q: asked %q", bad, asked)
			}
			synctest.Wait()
			one.stop()
			other.stop()
		})
	}
}

var _ mirror.Shared = (*together)(nil)
