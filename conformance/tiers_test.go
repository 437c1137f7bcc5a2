//go:build clients

package conformance

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The ways in which clients ask a node for an image of docker.io.
var (
	byPath      = [2]string{"/v2/docker.io/", ""}
	byNamespace = [2]string{"/v2/", "?ns=docker.io"}
)

// small is what may come over a wire besides an image's blobs: manifests, and the
// headers of HTTP.
const small = 64 << 10

// TestTiers has five nodes pull the same images at once from a weir of their own, each
// of which asks a central one, which asks an upstream over a link that is slow. Every
// tier is on a host of its own, and what went over the wires is counted.
func TestTiers(t *testing.T) {
	s := newTiers(t)
	t.Run("at once", s.atOnce)
	t.Run("while the centre and a node die", s.whileDying)
}

func (s *tiers) atOnce(t *testing.T) {
	i := s.put(t, "library/big", 1, 100<<20, 50<<20, 30<<20, 15<<20, 5<<20)
	asked := len(s.upstream.requests(t, 0))
	before := s.count(t)

	// The last node's client is a real one.
	last := s.nodes[tierNodes-1]
	var engine *containerd
	last.must(t, func() { engine = startContainerd(t, filepath.Join(s.dir, "c"), nil) })
	clientConfig(t, last.weir, engine.certs, "containerd", "--version", "2.4.2")

	began := time.Now()
	pulls := make([]pulled, tierNodes-1)
	var all sync.WaitGroup
	for k, n := range s.nodes[:tierNodes-1] {
		all.Go(func() {
			var err error
			if pulls[k], err = n.pull(t.Context(), [][2]string{byPath, byNamespace}[k%2], i); err != nil {
				t.Errorf("%s: %v", n.name, err)
			}
		})
	}
	all.Go(func() {
		onErr := last.on(func() {
			if _, err := try(t, engine.env, engine.ctr, "content", "fetch", "--hosts-dir", engine.certs, "docker.io/"+i.repo+":1"); err != nil {
				t.Error(err)
			}
		})
		if onErr != nil {
			t.Error(onErr)
		}
	})
	// One more wants the end of the largest blob, whose beginning is coming.
	first := make(chan time.Time, 1)
	var asks time.Time
	all.Go(func() {
		until(t, "a blob is coming", func() bool { return s.nodes[0].weir.gauges(t)["weir_mirror_upstream_bytes_total"] > 20<<20 })
		asks = time.Now()
		size := i.blobs[i.largest]
		text, err := s.nodes[0].get(t.Context(), byPath, i.repo+"/blobs/"+i.largest, fmt.Sprintf("bytes=%d-%d", size-1<<20, size-1), first)
		if err != nil || !bytes.Equal(text, i.end) {
			t.Errorf("the end of a blob that is coming: %d bytes, %v", len(text), err)
		}
	})
	all.Wait()
	if t.Failed() {
		return
	}
	took := time.Since(began)
	alone := time.Duration(float64(i.size) / linkRate * float64(time.Second))
	t.Logf("%d nodes had %d MiB after %v; the link alone needs %v for it", len(s.nodes), i.size>>20, took.Round(time.Millisecond), alone.Round(time.Millisecond))
	for k, p := range pulls {
		t.Logf("%s: first byte of a layer after %v, all after %v", s.nodes[k].name, p.first.Sub(p.began).Round(time.Millisecond), p.end.Sub(p.began).Round(time.Millisecond))
	}
	// It waits for none of the ranges that share the link, 20 and more of 8 MiB each.
	waited := (<-first).Sub(asks)
	t.Logf("the end of the largest blob, while it was coming: first byte after %v", waited.Round(time.Millisecond))
	if waited > took/4 {
		t.Errorf("the end of a blob that is coming: first byte after %v", waited)
	}

	list := engine.do(t, "content", "ls", "--quiet")
	for d := range i.blobs {
		if !strings.Contains(list, d) {
			t.Errorf("containerd does not have %s", d)
		}
	}
	s.quiet(t)
	requests := s.upstream.requests(t, asked)
	sent := blobBytes(requests)
	for d, size := range i.blobs {
		if sent[d] != size {
			t.Errorf("%s has %d bytes, and the upstream sent %d", d, size, sent[d])
		}
	}
	now := s.count(t)
	t.Logf("%d requests to the upstream; %s", len(requests), now.less(before).over(i.size))
	d := now.less(before)
	within(t, "the centre received", d.centre, i.size, small)
	within(t, "the centre's wire", d.wire, i.size, i.size/20)
	for k := range s.nodes {
		within(t, s.nodes[k].name+" received", d.nodes[k], i.size, small)
		within(t, s.nodes[k].name+"'s wire", d.wires[k], i.size, i.size/20)
	}
}

// within checks that so much came, and at most some more.
func within(t *testing.T, what string, got, want, more int64) {
	t.Helper()
	if got < want || got > want+more {
		t.Errorf("%s %d bytes, which is %.4f of the image", what, got, float64(got)/float64(want))
	}
}

// counts are bytes that came in: as weirs count them, and on wires.
type counts struct {
	centre, wire int64
	nodes, wires [tierNodes]int64
}

func (s *tiers) count(t *testing.T) (c counts) {
	t.Helper()
	c.centre = int64(s.centre.gauges(t)["weir_mirror_upstream_bytes_total"])
	c.wire, _ = s.middle.traffic(t, s.far)
	for k, n := range s.nodes {
		c.nodes[k] = int64(n.weir.gauges(t)["weir_mirror_upstream_bytes_total"])
		c.wires[k], _ = n.traffic(t, s.lan)
	}
	return c
}

func (c counts) less(b counts) counts {
	c.centre, c.wire = c.centre-b.centre, c.wire-b.wire
	for k := range c.nodes {
		c.nodes[k], c.wires[k] = c.nodes[k]-b.nodes[k], c.wires[k]-b.wires[k]
	}
	return c
}

// over gives the counts in terms of an image.
func (c counts) over(size int64) string {
	of := func(n int64) string { return fmt.Sprintf("%.4f", float64(n)/float64(size)) }
	each := []string{fmt.Sprintf("the centre %s (on its wire %s)", of(c.centre), of(c.wire))}
	for k := range c.nodes {
		each = append(each, fmt.Sprintf("node %d %s (%s)", k+1, of(c.nodes[k]), of(c.wires[k])))
	}
	return "received, of the image: " + strings.Join(each, ", ")
}

// quiet waits until nothing is fetched any more.
func (s *tiers) quiet(t *testing.T) {
	t.Helper()
	until(t, "fills end", func() bool {
		running := s.centre.gauges(t)["weir_fills_active"]
		for _, n := range s.nodes {
			running += n.weir.gauges(t)["weir_fills_active"]
		}
		return running == 0
	})
}

func (s *tiers) whileDying(t *testing.T) {
	i := s.put(t, "library/later", 2, 60<<20, 30<<20, 20<<20, 10<<20)
	before := s.count(t)
	last := s.nodes[tierNodes-1]

	began := time.Now()
	var all sync.WaitGroup
	var lost error // what the client of the node that dies is told
	for k, n := range s.nodes {
		all.Go(func() {
			_, err := n.pull(t.Context(), [][2]string{byPath, byNamespace}[k%2], i)
			if n == last {
				lost = err
			} else if err != nil {
				t.Errorf("%s: %v", n.name, err)
			}
		})
	}
	had := func(w *weir) int64 { return int64(w.gauges(t)["weir_mirror_upstream_bytes_total"]) }
	until(t, "a node has a quarter", func() bool { return had(last.weir)-before.nodes[tierNodes-1] > i.size/4 })
	last.weir.kill(t)
	until(t, "another has a half", func() bool { return had(s.nodes[0].weir)-before.nodes[0] > i.size/2 })
	s.centre.kill(t)
	wait(t.Context(), centreAway)
	s.startCentre(t)
	all.Wait()
	if lost == nil {
		t.Error("a client outlived its weir: it died too late for this to prove anything")
	}
	if t.Failed() {
		return
	}
	t.Logf("four nodes had %d MiB after %v, of which the centre was away for %v", i.size>>20, time.Since(began).Round(time.Millisecond), centreAway)

	// The node that died has the rest.
	s.startNode(t, last)
	if _, err := last.pull(t.Context(), byPath, i); err != nil {
		t.Errorf("%s, after it died: %v", last.name, err)
	}
	s.quiet(t)
	d := s.count(t).less(before) // what those who died had counted is not known: their wires are
	t.Logf("on its wire the centre received %.4f of the image, and %s %.4f", float64(d.wire)/float64(i.size), last.name, float64(d.wires[tierNodes-1])/float64(i.size))
	// Whoever dies loses what was on its way, and of each of 16 streams what was not noted
	// yet, a MiB at most. Nobody else loses anything.
	const lostByDying = 20 << 20
	within(t, "the centre's wire", d.wire, i.size, i.size/20+lostByDying)
	for k, n := range s.nodes {
		if n == last {
			within(t, n.name+"'s wire", d.wires[k], i.size, i.size/20+lostByDying)
		} else {
			within(t, n.name+" received", d.nodes[k], i.size, small)
		}
	}
}

// centreAway is for how long there is no centre.
const centreAway = 4 * time.Second
