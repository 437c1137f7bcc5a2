package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// unconditional is the configuration of a bucket that takes no notice of conditions.
func unconditional(t testing.TB) string {
	t.Helper()
	server := s3test.Start(t)
	faults := s3test.NewFaults(t, server)
	faults.Set(func(r *http.Request) s3test.Fault {
		if r.Method == http.MethodPut || r.Method == http.MethodDelete {
			return s3test.Unconditional
		}
		return s3test.None
	})
	return bucket(&s3test.Server{URL: faults.URL}, server.Bucket(t), "")
}

// A bucket that takes no notice of conditions is refused where there is no Redis, and what
// to do is said.
func TestBucketWithoutConditionsIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	text := "store: {blobs: " + unconditional(t) + "}\nmirror: {well_known: false}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = compose(c, newLogs(io.Discard, c.Log)); !errors.Is(err, s3.ErrConditions) || !strings.Contains(err.Error(), "store.redis.url") {
		t.Errorf("started: %v", err)
	}
}

// With Redis two replicas over such a bucket are one registry: of two who make one tag that
// may not move, one does, and both say so. Without it nothing is written, and all is read.
func TestBucketWithoutConditions(t *testing.T) {
	redis := coordtest.Start(t)
	store := fmt.Sprintf("{blobs: %s, redis: {url: '%s'}}", unconditional(t), redis.URL())
	var each [2]*running
	var starting sync.WaitGroup
	for i := range each { // at once: both make the key that they share
		starting.Go(func() { each[i] = startOn(t, store, "  upstreams: []\norigin: {immutable_tags: ['v[0-9]+']}\n") })
	}
	if starting.Wait(); t.Failed() {
		return
	}
	for _, r := range each {
		if !strings.Contains(r.log.String(), "a lock of all replicas stands in for them") {
			t.Errorf("the log says %s", r.log)
		}
	}
	one, other := origintest.Image([]byte(`{"n":1}`), []byte("layer")), origintest.Image([]byte(`{"n":2}`), []byte("layer"))
	images := [2]origintest.Tree{one, other}
	for i, r := range each {
		r.pushTree("team/app", "own"+fmt.Sprint(i), images[i])
	}
	for n := range 20 {
		tag := fmt.Sprintf("v%d", n)
		var got [2]answer
		var all sync.WaitGroup
		for i, r := range each {
			all.Go(func() { got[i] = put(r, "team/app", tag, images[i]) })
		}
		all.Wait()
		won := 0
		if got[1].status == http.StatusCreated {
			won = 1
		}
		if got[won].status != http.StatusCreated || got[1-won].status/100 != 4 {
			t.Errorf("%s: %d %s and %d %s", tag, got[0].status, got[0].body, got[1].status, got[1].body)
		}
		for i, r := range each {
			if a := r.get("/v2/team/app/manifests/" + tag); a.header.Get("Docker-Content-Digest") != images[won].Digest().String() {
				t.Errorf("%s at replica %d: %d, not what was taken", tag, i, a.status)
			}
		}
	}

	redis.Stop()
	for i, r := range each {
		if a := put(r, "team/app", "later", images[i]); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("a push without Redis: %d %s", a.status, a.body)
		}
		if a := r.get("/v2/team/app/manifests/v0"); a.status != http.StatusOK {
			t.Errorf("a pull without Redis: %d %s", a.status, a.body)
		}
		if a := r.get("/v2/team/app/manifests/later"); a.status != http.StatusNotFound {
			t.Errorf("what was refused: %d", a.status)
		}
	}
	redis.Restart()
	for i, r := range each {
		eventually(t, "pushes are taken again", func() bool {
			a := put(r, "team/app", "later", images[i])
			if a.status != http.StatusCreated && a.status != http.StatusServiceUnavailable {
				t.Fatalf("%d %s", a.status, a.body)
			}
			return a.status == http.StatusCreated
		})
	}
}
