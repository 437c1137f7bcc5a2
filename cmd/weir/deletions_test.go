package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// TestDeletionsShow: what is deleted at one of two replicas over a bucket, by tag or by digest,
// is in no answer of the other one to a question that was asked over a second after the
// deletion was acknowledged (contract §8), whether Redis is there or hangs. That is exact,
// however slow the machine is: by then the other one was told, or does not believe its memory.
func TestDeletionsShow(t *testing.T) {
	const within = time.Second
	redis, server := coordtest.Start(t), s3test.Start(t)
	seen, name := s3test.NewFaults(t, server), server.Bucket(t) // what the other one asks the bucket
	start := func(server *s3test.Server) *running {
		return startOn(t, fmt.Sprintf("{blobs: %s, redis: {url: '%s'}}", bucket(server, name, ""), redis.URL()), "  upstreams: []\n")
	}
	one, other := start(server), start(&s3test.Server{URL: seen.URL})
	fromMemory := func(path string) bool {
		seen.Set(func(*http.Request) s3test.Fault { return s3test.None })
		return other.get(path).status == http.StatusOK && !slices.ContainsFunc(seen.Seen(), func(asked string) bool {
			return !strings.HasSuffix(asked, coord.UnannouncedRecord) // which it looks at all the time
		})
	}
	for i, c := range []struct {
		name     string
		do, undo func()
	}{
		{"with Redis", func() {}, func() {}},
		{"while Redis hangs", redis.Hold, redis.Resume},
		{"without Redis", redis.Stop, redis.Restart},
	} {
		t.Run(c.name, func(t *testing.T) {
			repo := fmt.Sprintf("team/app%d", i)
			tagged, named := origintest.Image([]byte(`{"n":1}`)), origintest.Image([]byte(`{"n":2}`))
			one.pushTree(repo, "tagged", tagged)
			one.pushTree(repo, "named", named)
			at := "/v2/" + repo + "/manifests/"
			kept := at + tagged.Digest().String()
			deletions := map[string][]string{
				at + "tagged":                {at + "tagged"},
				at + named.Digest().String(): {at + named.Digest().String(), at + "named"},
			}
			for _, shown := range deletions {
				for _, path := range shown {
					eventually(t, path, func() bool { return fromMemory(path) })
				}
			}
			c.do()
			defer c.undo()
			var all sync.WaitGroup
			for path, shown := range deletions {
				all.Go(func() {
					if a := one.do(http.MethodDelete, path, nil); a.status != http.StatusAccepted {
						t.Errorf("DELETE %s: %d %s", path, a.status, a.body)
						return
					}
					deleted := time.Now()
					for late := false; !late; {
						asked := time.Now()
						late = asked.Sub(deleted) > within
						for _, path := range shown {
							if a := other.get(path); late && a.status != http.StatusNotFound {
								t.Errorf("%s, asked for %v after it was deleted: %d", path, asked.Sub(deleted), a.status)
							}
						}
					}
				})
			}
			all.Wait()
			if a := other.get(kept); a.status != http.StatusOK {
				t.Errorf("what was not deleted: %d", a.status)
			}
		})
	}
}
