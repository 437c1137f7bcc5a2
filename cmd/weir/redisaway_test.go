package main

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/coord/coordtest"
)

// sequence is what a tag was made to name, one after the other, by one writer.
type sequence struct {
	mu    sync.Mutex
	begun map[string]int // by digest: which one it was
	acked []time.Time    // when each was acknowledged
}

func (s *sequence) begin(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun[digest] = len(s.begun)
}

func (s *sequence) ack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = append(s.acked, time.Now())
}

// may reports whether a read that began then may give that digest: what had been
// overwritten for over a second, acknowledged, it may not.
func (s *sequence) may(digest string, began time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.begun[digest]
	if !ok {
		return fmt.Errorf("%q was never pushed", digest)
	}
	old, _ := slices.BinarySearchFunc(s.acked, began.Add(-time.Second), time.Time.Compare)
	if n < old-1 {
		return fmt.Errorf("push %d, over a second after push %d was acknowledged", n, old-1)
	}
	return nil
}

// load is what clients do at two replicas while something happens to their Redis.
type load struct {
	t       testing.TB
	tags    sequence
	pulls   atomic.Int64
	pushes  atomic.Int64
	end     chan struct{}
	running sync.WaitGroup
}

func (l *load) again(f func(i int)) {
	l.running.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-l.end:
				return
			default:
				f(i)
			}
		}
	})
}

// pull asks for something that is there.
func (l *load) pull(r *running, path string, want []byte) {
	a := r.get(path)
	if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, want) {
		l.t.Errorf("%s: %d, %d bytes of %d, %v", path, a.status, len(a.body), len(want), a.err)
	}
	l.pulls.Add(1)
}

// TestRedisAway: what people pull and push at two replicas while their Redis is stopped,
// hangs for seconds, has lists in the place of its values, forgets everything or is started
// again. No pull fails, none gives a tag that was moved over a second ago, nobody sees what
// he may not, every push is taken; and afterwards all is as before (trust
//
func TestRedisAway(t *testing.T) {
	u := remotetest.New(t)
	layer := origintest.Bytes(1, 100<<10)
	mirrored := u.AddImage("library/app", "1", layer)
	w := newTwins(t, u, 0, fmt.Sprintf("authz: {basic: {users: [{name: ann, hash: %q}]}}\nrepositories: [{match: 'secret/**', policy: {default: deny, allow: ['identity.authenticated']}}]\n", basic.NewHash("secret").Text()))
	one, other := w.each[0], w.each[1]
	img := origintest.Image([]byte("{}"), []byte("layer"))
	for _, repo := range []string{"team/app", "secret/app"} {
		origintest.PushBlob(t, w.apps[0].registry, repo, img.Blobs[0].Bytes)
		origintest.PushBlob(t, w.apps[0].registry, repo, img.Blobs[1].Bytes)
		origintest.PushManifest(t, w.apps[0].registry, repo, img.Manifest, "1")
	}
	const cold = "/v2/docker.io/library/app/"
	l := &load{t: t, end: make(chan struct{}), tags: sequence{begun: map[string]int{}}}
	move := func(i int) {
		next := origintest.Image([]byte("{}"), fmt.Append(nil, "layer ", i))
		origintest.PushBlob(t, w.apps[0].registry, "team/app", next.Blobs[1].Bytes)
		l.tags.begin(next.Digest().String())
		_, err := w.apps[0].registry.Push(t.Context(), origintest.Repo(t, "team/app"), next.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "moving")}})
		if err != nil {
			t.Errorf("push: %v", err)
		}
		l.tags.ack()
		l.pushes.Add(1)
	}
	move(-1)
	l.again(move)
	for _, r := range []*running{one, other} {
		l.again(func(int) {
			l.pull(r, "/v2/team/app/manifests/1", img.Manifest.Bytes)
			l.pull(r, "/v2/team/app/blobs/"+img.Blobs[1].Digest.String(), img.Blobs[1].Bytes)
			l.pull(r, cold+"blobs/"+digests(mirrored)[0], layer)
			if a := r.get(cold + "manifests/1"); a.status != http.StatusOK {
				t.Errorf("a mirrored tag: %d %s", a.status, a.body)
			}
		})
		l.again(func(int) {
			began := time.Now()
			a := r.do(http.MethodHead, "/v2/team/app/manifests/moving", nil)
			if err := l.tags.may(a.header.Get("Docker-Content-Digest"), began); err != nil || a.status != http.StatusOK {
				t.Errorf("a tag that moves: %d, %v", a.status, err)
			}
			if a := r.get("/v2/secret/app/manifests/1"); a.status != http.StatusUnauthorized {
				t.Errorf("what is secret: %d", a.status)
			}
		})
	}
	faults := []struct {
		name string
		do   func()
		undo func()
	}{
		{"hangs", w.redis.Hold, w.redis.Resume},
		{"is stopped", w.redis.Stop, w.redis.Restart},
		{"has lists for values", func() {
			for _, key := range w.redis.Keys() {
				w.redis.Do("DEL", key)
				w.redis.Do("LPUSH", key, "1")
			}
		}, func() {}},
		{"forgets", func() { w.redis.Do("FLUSHALL") }, func() {}},
	}
	for _, f := range faults {
		pulls := l.pulls.Load()
		f.do()
		held := time.After(2 * time.Second)
		eventually(t, "there are pulls while Redis "+f.name, func() bool { return l.pulls.Load() > pulls+20 })
		<-held
		back := time.Now()
		f.undo()
		for i, a := range w.apps {
			coordtest.Eventually(t, fmt.Sprintf("replica %d is told of changes again after Redis %s", i, f.name), a.replicas.current)
		}
		if took := time.Since(back); took > recovery {
			t.Errorf("recovered %v after Redis %s", took, f.name)
		}
	}
	close(l.end)
	l.running.Wait()
	t.Logf("%d pulls, %d pushes", l.pulls.Load(), l.pushes.Load())
}
