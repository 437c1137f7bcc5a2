package local_test

import (
	"fmt"
	"maps"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/coord/coordtest"
)

// access is one request about the tag, from when it was made until it was answered.
type access struct {
	write      bool // else it was read
	digest     digest.Digest
	begun, end time.Duration
	replica    int
}

// history is what was asked of one tag.
type history struct {
	mu    sync.Mutex
	start time.Time
	acts  []access
}

// do records an access at a replica.
func (h *history) do(replica int, write bool, f func() (digest.Digest, error)) error {
	begun := time.Since(h.start)
	d, err := f()
	end := time.Since(h.start)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acts = append(h.acts, access{write, d, begun, end, replica})
	return nil
}

// check finds what no order of the acts explains. stale is how long a replica may give what
// has been overwritten at another.
func (h *history) check(stale time.Duration) []string {
	wrong := h.reads(stale)
	for replica := range 2 {
		if len(wrong) == 0 { // or it says the same again
			wrong = h.zones(replica, stale)
		}
	}
	return wrong
}

// reads finds those of what nobody had begun to write when the read ended, or of what had
// been overwritten before the read began, by a push that began after that one was
// acknowledged.
func (h *history) reads(stale time.Duration) (wrong []string) {
	writes := map[digest.Digest][]access{}
	for _, a := range h.acts {
		if a.write {
			writes[a.digest] = append(writes[a.digest], a)
		}
	}
	for _, read := range h.acts {
		if read.write {
			continue
		}
		// Of several who wrote the same it may be the last one that was read.
		written, until := false, time.Duration(0)
		for _, w := range writes[read.digest] {
			if w.begun <= read.end {
				written, until = true, max(until, w.end)
			}
		}
		if !written {
			wrong = append(wrong, fmt.Sprintf("read of %s at %v, which nobody had written", read.digest, read.begun))
			continue
		}
		for _, over := range h.acts {
			if over.write && over.digest != read.digest && over.begun > until && over.end < read.begun-stale {
				wrong = append(wrong, fmt.Sprintf("read at %v of what was written until %v and overwritten from %v to %v", read.begun, until, over.begun, over.end))
				break
			}
		}
	}
	return wrong
}

// zone is of a value that one push wrote. Some act with it had ended at first, and another
// began at last: if that is later, the tag named it all the time between.
type zone struct {
	digest      digest.Digest
	first, last time.Duration
	writes      int
}

// zones finds two values that the tag named at one time for those who asked a replica: that
// is all that can be wrong with a register whose reads give what was written (Gibbons and
// Korach). What another replica writes is seen here when that one says so, or as late as
// stale after that. A value that several wrote may have come back: it is left out, which the
// order of the others allows.
func (h *history) zones(replica int, stale time.Duration) (wrong []string) {
	of := map[digest.Digest]*zone{}
	for _, a := range h.acts {
		if a.replica != replica {
			if !a.write {
				continue
			}
			a.end += stale
		}
		z := of[a.digest]
		if z == nil {
			z = &zone{a.digest, a.end, a.begun, 0}
			of[a.digest] = z
		}
		z.first, z.last = min(z.first, a.end), max(z.last, a.begun)
		if a.write {
			z.writes++
		}
	}
	maps.DeleteFunc(of, func(_ digest.Digest, z *zone) bool { return z.writes != 1 })
	for _, z := range of {
		if z.first >= z.last {
			continue
		}
		for _, other := range of {
			// It has such a time too, or all of it lies within this one.
			if other != z && z.first < other.last && other.first < z.last {
				wrong = append(wrong, fmt.Sprintf("at replica %d the tag named %s from %v to %v, and %s between %v and %v",
					replica, z.digest, z.first, z.last, other.digest, other.first, other.last))
				break
			}
		}
	}
	return wrong
}

// TestHistoryCheck: the check finds what it is for.
func TestHistoryCheck(t *testing.T) {
	for _, c := range []struct {
		name  string
		acts  []access
		stale time.Duration
		wrong int
	}{
		{"new", []access{{true, "a", 0, 1, 0}, {false, "a", 2, 3, 0}}, 0, 0},
		{"old", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 3, 0}, {false, "a", 4, 5, 0}}, 0, 1},
		{"old, for a moment", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 3, 1}, {false, "a", 4, 5, 0}}, 2, 0},
		{"old, for a moment, after its own", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 3, 0}, {false, "a", 4, 5, 0}}, 2, 1},
		{"at the same time", []access{{true, "a", 0, 3, 0}, {true, "b", 2, 3, 0}, {false, "a", 4, 5, 0}}, 0, 0},
		{"never written", []access{{true, "a", 0, 1, 0}, {false, "b", 2, 3, 0}}, 0, 1},
		{"written later", []access{{true, "a", 4, 5, 0}, {false, "a", 2, 3, 0}}, 0, 1},
		{"written again", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 3, 0}, {true, "a", 4, 5, 0}, {false, "a", 6, 7, 0}}, 0, 0},
		{"written again, later", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 3, 0}, {false, "a", 4, 5, 0}, {true, "a", 6, 7, 0}}, 0, 1},
		{"new, then old", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 9, 0}, {false, "b", 3, 4, 0}, {false, "a", 5, 6, 0}}, 0, 1},
		{"new, then old, and both at once", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 9, 0}, {false, "b", 3, 5, 0}, {false, "a", 4, 6, 0}}, 0, 0},
		{"new here, then old there", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 9, 0}, {false, "b", 3, 4, 0}, {false, "a", 5, 6, 1}}, 0, 0},
		{"new of another, then old", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 3, 1}, {false, "b", 4, 5, 0}, {false, "a", 6, 7, 0}}, 9, 1},
		{"one, then the other", []access{{true, "a", 0, 9, 0}, {true, "b", 0, 9, 0}, {false, "a", 1, 2, 0}, {false, "a", 3, 4, 0}, {false, "b", 5, 6, 0}}, 0, 0},
		{"to and fro", []access{{true, "a", 0, 9, 0}, {true, "b", 0, 9, 0}, {false, "a", 1, 2, 0}, {false, "b", 3, 4, 0}, {false, "a", 5, 6, 0}}, 0, 1},
		{"to and fro twice", []access{{true, "a", 0, 9, 0}, {true, "b", 0, 9, 0}, {false, "a", 1, 2, 0}, {false, "b", 3, 4, 0}, {false, "a", 5, 6, 0}, {false, "b", 7, 8, 0}}, 0, 2},
		{"to and fro, written twice", []access{{true, "a", 0, 9, 0}, {true, "a", 0, 9, 0}, {true, "b", 0, 9, 0}, {false, "a", 1, 2, 0}, {false, "b", 3, 4, 0}, {false, "a", 5, 6, 0}}, 0, 0},
		{"both at once, while one is written", []access{{true, "a", 0, 1, 0}, {true, "b", 2, 3, 0}, {true, "c", 2, 6, 0}, {false, "c", 4, 5, 0}, {false, "b", 4, 5, 0}}, 0, 0},
	} {
		if got := (&history{acts: c.acts}).check(c.stale); len(got) != c.wrong {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestOneTagManyWriters: 50 writers at each of two replicas push to one tag, and everybody
// pushes one manifest to it now and then; each replica's clients see a history of one
// register (trust G-4).
func TestOneTagManyWriters(t *testing.T) {
	t.Run("in process", func(t *testing.T) {
		one, other := inProcess(t, local.Options{Delete: true})
		oneTag(t, one, other, 0) // who is told is told before the writer
	})
	t.Run("redis", func(t *testing.T) {
		one, other := overRedis(t, coordtest.Start(t), local.Options{Delete: true})
		oneTag(t, one, other, time.Second)
	})
}

const (
	writers = 50 // of each replica
	pushes  = 25 // of each writer
)

func oneTag(t *testing.T, one, other *local.Registry, stale time.Duration) {
	ctx, repo, x := t.Context(), origintest.Repo(t, "a"), origintest.Ref(t, "x")
	same := origintest.Image([]byte("{}"))
	same.Push(t, one, "a") // what all of them need
	h := &history{start: time.Now()}
	var all sync.WaitGroup
	for w := range 2 * writers {
		replica := w % 2
		reg := []*local.Registry{one, other}[replica]
		all.Go(func() {
			for i := range pushes {
				img := origintest.Image(fmt.Appendf(nil, `{"writer":%d,"push":%d}`, w, i))
				if i%5 == 4 {
					img = same
				}
				for _, b := range img.Blobs {
					origintest.PushBlob(t, reg, "a", b.Bytes)
				}
				err := h.do(replica, true, func() (digest.Digest, error) {
					d, err := reg.Push(ctx, repo, img.Manifest, origin.PushOptions{Tags: []origin.Ref{x}})
					return d.Digest, err
				})
				if err != nil {
					t.Errorf("push: %v", err)
				}
				for range 3 {
					err := h.do(replica, false, func() (digest.Digest, error) {
						m, err := reg.Manifest(ctx, repo, x)
						return m.Digest, err
					})
					if err != nil { // it has just been pushed here
						t.Errorf("read: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
	for _, w := range h.check(stale) {
		t.Error(w)
	}
	// What was published last may be on its way.
	coordtest.Eventually(t, "both follow, and name one in the end", func() bool {
		if !one.Settled() || !other.Settled() {
			return false
		}
		want, err := one.Resolve(ctx, repo, x)
		got, err2 := other.Resolve(ctx, repo, x)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		return got.Digest == want.Digest
	})
	if len(h.acts) < 10_000 {
		t.Errorf("%d acts: this looks at little", len(h.acts))
	}
}

// TestImmutableTagHasOneWinner: whoever pushes an immutable tag, and wherever, one of them
// is first, and everybody sees that one (trust G-4).
func TestImmutableTagHasOneWinner(t *testing.T) {
	options := local.Options{Delete: true, ImmutableTags: []*regexp.Regexp{regexp.MustCompile("v.*")}}
	s := coordtest.Start(t)
	for name, two := range map[string]func(t *testing.T) (one, other *local.Registry){
		"in process": func(t *testing.T) (one, other *local.Registry) { return inProcess(t, options) },
		"redis":      func(t *testing.T) (one, other *local.Registry) { return overRedis(t, s, options) },
	} {
		t.Run(name, func(t *testing.T) {
			one, other := two(t)
			repo := origintest.Repo(t, "a")
			for round := range 20 {
				tag := origintest.Ref(t, fmt.Sprintf("v%d", round))
				var mu sync.Mutex
				won := map[digest.Digest]bool{}
				var all sync.WaitGroup
				for w := range 10 {
					reg := []*local.Registry{one, other}[w%2]
					img := origintest.Image(fmt.Appendf(nil, `{"round":%d,"writer":%d}`, round, w))
					img.Push(t, reg, "a")
					all.Go(func() {
						_, err := reg.Push(t.Context(), repo, img.Manifest, origin.PushOptions{Tags: []origin.Ref{tag}})
						if err == nil {
							mu.Lock()
							defer mu.Unlock()
							won[img.Digest()] = true
						}
					})
				}
				all.Wait()
				coordtest.Eventually(t, "both follow", func() bool { return one.Settled() && other.Settled() })
				for _, reg := range []*local.Registry{one, other} {
					d, err := reg.Resolve(t.Context(), repo, tag)
					if err != nil || len(won) != 1 || !won[d.Digest] {
						t.Errorf("%s names %s, %v; %d were told that they won", tag, d.Digest, err, len(won))
					}
				}
			}
		})
	}
}
