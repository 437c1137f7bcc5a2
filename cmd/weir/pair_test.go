package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// pair are two replicas, each a process of its own, over one bucket and one Redis.
type pair struct {
	redis  *coordtest.Server
	server *s3test.Server
	bucket string
	spools []string // of each, on disk
	each   [2]*process
	ask    [2]*running // what clients ask of each
}

// newPair starts them; more is what the configuration of both has besides.
func newPair(t testing.TB, u *remotetest.Upstream, more string) *pair {
	t.Helper()
	server := s3test.Start(t)
	return newPairThrough(t, server, server.URL, "", u, more)
}

// newPairThrough has them ask for the bucket at that URL; keys are more of its configuration.
func newPairThrough(t testing.TB, server *s3test.Server, url, keys string, u *remotetest.Upstream, more string) *pair {
	t.Helper()
	p := &pair{redis: coordtest.Start(t), server: server, bucket: server.Bucket(t)}
	for i := range p.each {
		public := freeAddr(t)
		p.spools = append(p.spools, t.TempDir())
		store := fmt.Sprintf("{blobs: %s, redis: {url: '%s', advertise: 'http://%s'}}",
			bucket(&s3test.Server{URL: url}, p.bucket, ", spool: '"+p.spools[i]+"'"+keys), p.redis.URL(), public)
		p.each[i] = newProcessOn(t, public, store, hub(u, more))
		p.ask[i] = &running{t: t, url: "http://" + public}
		p.each[i].start()
	}
	return p
}

// Each replica shows that the other one is there.
func TestPairPresence(t *testing.T) {
	p := newPair(t, remotetest.New(t), "")
	for _, r := range p.ask {
		eventually(t, "the other one is shown", func() bool {
			return strings.Contains(string(r.get("/ui/activity").body), "Another one")
		})
	}
}

// TestPairAsks: what clients of two processes ask for again and again, the upstream is asked
// once: with each method for as long as it is believed that it is not there, and in each lifetime
// of what a tag stands for, by whichever of both is asked when it ends.
func TestPairAsks(t *testing.T) {
	// A replica waits longer than that for another one's question before it asks too: then
	// one more is due.
	const ttl = time.Second
	u := remotetest.New(t)
	img := u.AddImage("library/app", "1", []byte("layer"))
	const at = "/v2/docker.io/library/app/manifests/"
	for tries := 0; ; tries++ {
		u.Take()
		p := newPair(t, u, "      tags: {ttl: "+ttl.String()+", negative_ttl: 1h}\n")
		for _, r := range p.ask {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if a := r.do(method, at+"none", nil); a.status != http.StatusNotFound {
					t.Errorf("%s of what is not there: %d %s", method, a.status, a.body)
				}
			}
		}
		begun := time.Now()
		eventually(t, "it has been asked for three times more", func() bool {
			var both sync.WaitGroup
			for _, r := range p.ask {
				both.Go(func() {
					if a := r.get(at + "1"); a.status != http.StatusOK || !bytes.Equal(a.body, img.Bytes) {
						t.Errorf("%d %s, %v", a.status, a.body, a.err)
					}
				})
			}
			both.Wait()
			return t.Failed() || u.Count("HEAD /v2/library/app/manifests/1 ") >= 3
		})
		most := 1 + int(time.Since(begun)/ttl)
		get, head := u.Count("GET /v2/library/app/manifests/none "), u.Count("HEAD /v2/library/app/manifests/none ")
		one := u.Count("/v2/library/app/manifests/1 ")
		for _, process := range p.each {
			process.saidNothingBad()
		}
		if get == 1 && head == 1 && one <= most {
			return
		}
		// As in TestPairFills: what Redis does not say in time is not shared.
		if tries == 5 || !p.each[0].said("redis is away") && !p.each[1].said("redis is away") {
			t.Fatalf("what is not there was asked for %d times with GET and %d times with HEAD; and a tag %d times, where %d are due:\n%s",
				get, head, one, most, strings.Join(u.Requests(), "\n"))
		}
	}
}

// TestPairFills: clients of two processes ask for a blob that neither has. Each of its bytes
// comes from the upstream once. Then the same of another one, and the process that fetches
// it is killed in the middle: the clients of the one that is left notice nothing, and the
// blob is stored once (trust R-9). Then it is stopped instead, which no connection tells:
// the other one asks the upstream for what is missing, once; and what the clients of the
// one that wakes again are given is right.
func TestPairFills(t *testing.T) {
	const size, some = 4 << 20, 256 << 10
	u := remotetest.New(t)
	names, tries := []string{"library/once", "library/killed", "library/stopped"}, 0
	for i := 0; i < len(names); i++ {
		name := names[i]
		t.Run(name, func(t *testing.T) {
			layer := origintest.Bytes(uint64(10*tries+i), size)
			d := digests(u.AddImage(name, "1", layer))[0]
			undo := u.Fault("/v2/"+name+"/blobs/", remotetest.Rate(1<<20)) // it never pauses for as long as makes followers leave
			defer undo()
			p := newPair(t, u, "  fills: {streams: 1}\n")
			path, buf := "/v2/docker.io/"+name+"/blobs/"+d, make([]byte, 64<<10)
			open := func(r *running) *reader {
				c, err := r.open(t.Context(), path)
				if err == nil {
					err = c.read(layer, some, buf)
				}
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			leader := open(p.ask[0])
			readers := []*reader{open(p.ask[1]), open(p.ask[1])}
			if n := u.Count("GET /v2/" + name + "/blobs/" + d); n != 1 {
				// Whoever has no answer of Redis within coord.Patience, which is short where
				// many processes share a machine, asks the upstream: another blob then.
				if tries++; tries < 5 && (p.each[0].said("redis is away") || p.each[1].said("redis is away")) {
					i--
					return
				}
				t.Errorf("%d requests to the upstream: nobody follows", n)
			}
			requests := 2 // the first MiB, and then the rest
			switch name {
			case "library/killed":
				p.each[0].kill()
				requests = 3
			case "library/stopped":
				p.each[0].signal(syscall.SIGSTOP)
				undo()       // what is asked for from here on comes at once
				requests = 5 // one of them only if it sleeps for longer than an upstream may
			default:
				readers = append(readers, leader)
			}
			var all sync.WaitGroup
			for _, c := range readers {
				all.Go(func() {
					if err := c.read(layer, size-some, make([]byte, 64<<10)); err != nil {
						t.Errorf("in the middle of it: %v", err)
					}
				})
			}
			all.Go(func() {
				if a := p.ask[1].get(path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
					t.Errorf("one who came later: %d, %d bytes, %v", a.status, len(a.body), a.err)
				}
			})
			all.Wait()
			if name == "library/stopped" {
				p.each[0].signal(syscall.SIGCONT)
				err := leader.read(layer, size-some, buf)
				if errors.Is(err, errWrongBytes) {
					t.Error(err)
				}
				t.Logf("a client of the one that was stopped: %v", err)
			}
			once, sent := name == "library/once", u.Sent(name+"/blobs/"+d)
			if once && sent != size || sent > 2*size {
				t.Errorf("the upstream sent %d bytes of %d", sent, size)
			}
			begun, asked := u.Count(d+" bytes=0-"), u.Count(d)
			if begun != 1 || once && asked != requests || asked > requests {
				t.Errorf("the upstream was asked %d times for the first byte, and %d times in all: %q", begun, asked, u.Requests())
			}
			eventually(t, "it is stored", func() bool { return p.ask[1].get(path).header.Get("Weir-Cache") == "hit" })
			whole := 0
			for _, n := range p.server.Objects(t, p.bucket, "weir/data/") {
				if n == size {
					whole++
				}
			}
			if a := p.ask[1].get(path); whole != 1 || !bytes.Equal(a.body, layer) {
				t.Errorf("%d objects have it; it is read with %d, %d bytes", whole, a.status, len(a.body))
			}
			for _, process := range p.each {
				process.saidNothingBad()
			}
		})
	}
}

// pushed pushes as clients do, and reports whether it was taken; it may be refused with 503
// and with nothing else.
func (l *load) pushed(r *running, repo, tag string, img origintest.Tree) bool {
	taken := func(a answer, status int) bool {
		if a.status != status && a.status != http.StatusServiceUnavailable {
			l.t.Errorf("push of %s:%s: %d %s, %v", repo, tag, a.status, a.body, a.err)
		}
		return a.status == status
	}
	for _, b := range img.Blobs {
		a := r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest.FromBytes(b.Bytes).String(), bytes.NewReader(b.Bytes))
		if !taken(a, http.StatusCreated) {
			return false
		}
	}
	return taken(put(r, repo, tag, img), http.StatusCreated)
}

// recovery is how long it may take after Redis is back until all is as before, on a machine
// that others use, too; where it is the test's own trust X-1 has 5 s.
const recovery = 30 * time.Second

// TestPairWithoutRedis: what people pull and push at two processes over one bucket while
// their Redis hangs, is away, has lists in the place of its values, or was started again.
// No pull fails, also of what neither has yet; none gives a tag that was moved over a second
// ago, nobody sees what he may not, a push is taken or answered with 503, and what was taken
// is there when both have been killed; and they recover (trust X-1).
func TestPairWithoutRedis(t *testing.T) {
	long := func(fault string) time.Duration {
		if fault == "hangs" {
			return 5 * time.Second
		}
		return 2 * time.Second
	}
	l, slowest := pairWithoutRedis(t, long, func(round int) bool { return round < 1 })
	t.Logf("%d pulls, %d pushes, recovered within %v", l.pulls.Load(), l.pushes.Load(), slowest)
	if slowest > recovery {
		t.Errorf("recovered after %v", slowest)
	}
}

// pairWithoutRedis has all of that happen, each for as long as is said, while another round
// is to be. It gives the longest time from when Redis is back until both say so, and pushes are taken.
func pairWithoutRedis(t *testing.T, long func(fault string) time.Duration, another func(round int) bool) (l *load, slowest time.Duration) {
	t.Helper()
	u := remotetest.New(t)
	layer := origintest.Bytes(1, 100<<10)
	mirrored := u.AddImage("library/app", "1", layer)
	p := newPair(t, u, fmt.Sprintf("authz: {basic: {users: [{name: ann, hash: %q}]}, policy: {default: allow}}\n"+
		"repositories: [{match: 'secret/**', policy: {default: deny, allow: [\"identity.authenticated || request.action == 'push'\"]}}]\n", basic.NewHash("secret").Text()))
	j := newJudged(t, p, false)
	l = &load{t: t, end: make(chan struct{}), tags: sequence{begun: map[string]int{}}}
	img := origintest.Image([]byte("{}"), []byte("layer"))
	for _, repo := range []string{"team/app", "secret/app"} {
		if !l.pushed(p.ask[0], repo, "1", img) {
			t.Fatal("not taken")
		}
	}
	move := func(i int) {
		next := origintest.Image([]byte("{}"), fmt.Append(nil, "layer ", i))
		l.tags.begin(next.Digest().String())
		if l.pushed(p.ask[0], "team/app", "moving", next) {
			l.tags.ack()
			l.pushes.Add(1)
		}
	}
	move(-1)
	l.again(move)
	const cold = "/v2/docker.io/library/"
	for i, r := range p.ask {
		broken := false
		l.again(func(int) {
			if broken = broken || !j.step(i); broken {
				<-l.end
			}
		})
		l.again(func(int) {
			l.pull(r, "/v2/team/app/manifests/1", img.Manifest.Bytes)
			l.pull(r, "/v2/team/app/blobs/"+img.Blobs[1].Digest.String(), img.Blobs[1].Bytes)
			l.pull(r, cold+"app/blobs/"+digests(mirrored)[0], layer)
			l.pull(r, cold+"app/manifests/1", mirrored.Bytes)
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
		name     string
		do, undo func()
	}{
		{"hangs", p.redis.Hold, p.redis.Resume},
		{"is stopped", p.redis.Stop, p.redis.Restart},
		{"has lists for values", func() {
			for _, key := range p.redis.Keys() {
				p.redis.Do("DEL", key)
				p.redis.Do("LPUSH", key, "1")
			}
		}, func() { p.redis.Do("FLUSHALL") }},
	}
	for i := 0; i%len(faults) > 0 || another(i/len(faults)); i++ {
		if i > 0 && i%len(faults) == 0 {
			j.rest()
		}
		f := faults[i%len(faults)]
		name := fmt.Sprintf("cold%d", i)
		fresh := origintest.Bytes(uint64(50+i), 200<<10)
		at := cold + name + "/blobs/" + digests(u.AddImage("library/"+name, "1", fresh))[0]
		pulls := l.pulls.Load()
		f.do()
		held, cancel := context.WithTimeout(t.Context(), long(f.name))
		var all sync.WaitGroup
		for _, r := range p.ask {
			all.Go(func() { l.pull(r, at, fresh) })
		}
		all.Wait()
		eventually(t, "there are pulls while Redis "+f.name, func() bool { return l.pulls.Load() > pulls+20 })
		<-held.Done()
		cancel()
		back, pushes := time.Now(), l.pushes.Load()
		f.undo()
		eventually(t, "there are pushes after Redis "+f.name, func() bool { return l.pushes.Load() > pushes+2 })
		for _, process := range p.each {
			eventually(t, "Redis is back after it "+f.name, func() bool { return process.times("redis is back") == process.times("redis is away") })
		}
		slowest = max(slowest, time.Since(back))
	}
	close(l.end)
	l.running.Wait()
	for _, process := range p.each {
		process.kill()
	}
	j.end(p.each[:]...)
	for _, r := range p.ask {
		a := r.do(http.MethodHead, "/v2/team/app/manifests/moving", nil)
		if err := l.tags.may(a.header.Get("Docker-Content-Digest"), time.Now().Add(time.Second)); err != nil {
			t.Errorf("the tag that has moved: %d, %v", a.status, err)
		}
	}
	for _, process := range p.each {
		process.saidNothingBad()
	}
	return l, slowest
}
