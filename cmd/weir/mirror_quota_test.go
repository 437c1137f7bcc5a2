package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// quotaed is a weir that mirrors images of 1.5 MiB, two repositories of which have a quota
// of 4 MiB.
type quotaed struct {
	*running
	images map[string]remotetest.Image // by repository and tag
}

func (q *quotaed) layer(repo, tag string) (path string) {
	return "/v2/docker.io/" + repo + "/blobs/" + q.images[repo+":"+tag].Layers[0].Digest.String()
}

// pull pulls an image, and gives how its layer came.
func (q *quotaed) pull(repo, tag string) (cache string) {
	q.t.Helper()
	q.get("/v2/docker.io/" + repo + "/manifests/" + tag)
	a := q.get(q.layer(repo, tag))
	if a.status != http.StatusOK || a.err != nil || digest.FromBytes(a.body) != q.images[repo+":"+tag].Layers[0].Digest {
		q.t.Errorf("%s:%s: %d, %d bytes, %v", repo, tag, a.status, len(a.body), a.err)
	}
	q.settled()
	return a.header.Get("Weir-Cache")
}

// Each mirrored repository that matches stays within its own quota, without any other
// limit; one that does not match is untouched, also where it shares a layer; one that is
// pushed to is refused what exceeds its quota; and a reload changes it.
func TestMirroredQuota(t *testing.T) {
	up := remotetest.New(t)
	const text = "server: {listen: '127.0.0.1:0'}\nmirror:\n  well_known: false\n  cache: {min_free: 0}\n"
	quota := func(size string) string {
		return "repositories: [{match: 'docker.io/small/**', quota: " + size + "}, {match: 'team/**', quota: 4MiB}]\n"
	}
	r := startReloading(t, text+hub(up, "")+quota("4MiB"))
	q := &quotaed{running: r.running, images: map[string]remotetest.Image{}}
	n := uint64(0)
	for _, repo := range []string{"small/a", "small/b", "free/c"} {
		for tag := range 4 {
			n++
			q.images[fmt.Sprint(repo, ":", tag)] = up.AddImage(repo, fmt.Sprint(tag), origintest.Bytes(n, 3*mebibyte/2))
		}
	}
	// Another repository has the layer of free/c:0, too.
	shared := origintest.Bytes(n-3, 3*mebibyte/2)
	q.images["small/b:shared"] = up.AddImage("small/b", "shared", shared)
	eventually(t, "the cache is listed", func() bool { return strings.Contains(q.log.String(), "cache listed") })

	for tag := range 4 {
		if got := q.pull("free/c", fmt.Sprint(tag)); got != "fill" {
			t.Errorf("free/c:%d: %s", tag, got)
		}
	}
	if q.pull("small/a", "0") != "fill" || q.pull("small/a", "1") != "fill" || q.pull("small/a", "0") != "hit" {
		t.Error("small/a does not keep what it has room for")
	}
	if q.pull("small/b", "shared") != "revalidated" || q.pull("small/b", "0") != "fill" {
		t.Error("small/b does not keep what it has room for")
	}
	if q.pull("small/a", "2") != "fill" || q.pull("small/b", "1") != "fill" {
		t.Error("no room in what has a quota")
	}
	gone := func(repo, tag string) {
		t.Helper()
		eventually(t, repo+":"+tag+" leaves", func() bool {
			return q.do(http.MethodHead, q.layer(repo, tag), nil).header.Get("Weir-Cache") == "miss"
		})
	}
	gone("small/a", "1")
	gone("small/b", "shared")
	kept := func(images ...string) {
		t.Helper()
		before := len(up.Requests())
		for _, image := range images {
			repo, tag, _ := strings.Cut(image, ":")
			if got := q.pull(repo, tag); got != "hit" {
				t.Errorf("%s: %s", image, got)
			}
		}
		for _, line := range up.Requests()[before:] {
			if strings.Contains(line, "/blobs/") {
				t.Errorf("asked for what is kept: %s", line)
			}
		}
	}
	kept("small/a:0", "small/a:2", "small/b:0", "small/b:1", "free/c:0", "free/c:1", "free/c:2", "free/c:3")

	// What it has no room for is passed through, whoever else has it, and displaces nothing.
	large := origintest.Bytes(99, 5*mebibyte)
	for _, repo := range []string{"small/a", "free/c"} {
		q.images[repo+":large"] = up.AddImage(repo, "large", large)
	}
	for _, repo := range []string{"small/a", "free/c", "small/a"} {
		want := map[string]string{"small/a": "miss", "free/c": "fill"}[repo]
		if got := q.pull(repo, "large"); got != want {
			t.Errorf("%s:large: %s, want %s", repo, got, want)
		}
	}
	kept("small/a:0", "small/a:2", "free/c:large")
	// And nothing is wrong.
	if counted := r.metrics(); !strings.Contains(counted, `weir_fills_total{result="passed"} 2`) || !strings.Contains(counted, `weir_fills_total{result="unstored"} 0`) {
		t.Errorf("it is counted as\n%s", counted)
	}

	// A push is refused as ever.
	if a := q.do(http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+digest.FromBytes(large).String(), bytes.NewReader(large)); a.status != http.StatusForbidden {
		t.Errorf("a push over the quota: %d, %s", a.status, a.body)
	}
	if a := q.do(http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+digest.FromBytes(shared).String(), bytes.NewReader(shared)); a.status != http.StatusCreated {
		t.Errorf("a push within the quota: %d, %s", a.status, a.body)
	}

	r.write(text+hub(up, "")+quota("2MiB"), "applied")
	gone("small/a", "0")
	gone("small/b", "0")
	kept("small/a:2", "small/b:1", "free/c:0", "free/c:3")
}
