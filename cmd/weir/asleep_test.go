package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// TestGCSleeps: a process that collects garbage in a bucket is stopped 50 times, each at one of
// the requests by which it takes a blob away, for twice as long as a lock of 200 ms would last;
// Redis forgets everything meanwhile, and a client pushes that blob, and an image with it, to a
// server beside it. What the client was told to be there is; else he was told to come again, and
// it is there then (trust G-5).
func TestGCSleeps(t *testing.T) {
	t.Parallel()
	const rounds, ttl = 50, 200 * time.Millisecond
	redis, server := coordtest.Start(t), s3test.Start(t)
	name, repo := server.Bucket(t), origintest.Repo(t, "a")
	dir := filepath.Join(server.Dir, name)
	faults := s3test.NewFaults(t, server)
	weir := func(at *s3test.Server) *process {
		store := fmt.Sprintf("{blobs: %s, redis: {url: '%s'}}", bucket(at, name, ", spool: '"+t.TempDir()+"'"), redis.URL())
		return newProcessOn(t, freeAddr(t), store, "  upstreams: []\n")
	}
	serving, collecting := weir(server), weir(&s3test.Server{URL: faults.URL})
	gc := func(meanwhile func(*exec.Cmd)) (r lifetime.Report) {
		t.Helper()
		var out, said bytes.Buffer
		cmd := exec.Command("weir", "gc", "--json", "--config", collecting.file)
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		meanwhile(cmd)
		if err := cmd.Wait(); err != nil {
			t.Errorf("weir gc: %v: %s", err, &said)
		}
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Errorf("weir gc: %v: %s", err, &out)
		}
		return r
	}
	images := make([]origintest.Tree, rounds)
	serving.start()
	for i := range images {
		images[i] = origintest.Image([]byte("{}"), fmt.Append(nil, "layer ", i))
		serving.pushBlob(images[i].Blobs[1].Bytes)
	}
	serving.stop()
	older(t, dir, 48*time.Hour)
	gc(func(*exec.Cmd) {}) // condemns them
	older(t, dir, time.Hour)
	serving.start()

	push := func(i int) error {
		for _, b := range images[i].Blobs {
			if err := serving.tryBlob(b.Bytes); err != nil {
				return err
			}
		}
		_, err := serving.registry().Push(t.Context(), repo, images[i].Manifest, origin.PushOptions{})
		return err
	}
	var mu sync.Mutex
	asked, acked, slept := map[int]int{}, map[int]bool{}, 0
	freed := gc(func(cmd *exec.Cmd) {
		faults.Set(func(r *http.Request) s3test.Fault {
			mu.Lock()
			defer mu.Unlock()
			for i, img := range images {
				if !strings.Contains(r.URL.Path, img.Blobs[1].Digest.Encoded()) {
					continue
				}
				if asked[i]++; asked[i] != 1+i%6 {
					break
				}
				for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
					if sig == syscall.SIGCONT {
						over := time.After(2 * ttl)
						redis.Do("FLUSHALL")
						err := push(i)
						if acked[i] = err == nil; err != nil && !errors.Is(err, origin.ErrUnavailable) {
							t.Errorf("push of image %d: %v", i, err)
						}
						<-over
					}
					if err := cmd.Process.Signal(sig); err != nil {
						t.Error(err)
					}
				}
				slept++
			}
			return s3test.None
		})
	}).Freed
	told := 0
	for i := range images {
		if acked[i] {
			told++
		} else if err := push(i); err != nil {
			t.Errorf("push of image %d, again: %v", i, err)
		}
	}
	t.Logf("stopped %d times, %d blobs freed, %d images pushed meanwhile", slept, freed, told)
	if slept < rounds*4/5 || freed == 0 || told == 0 {
		t.Error("this looks at little")
	}
	serving.stop()
	serving.start()
	for i, img := range images {
		_, err := serving.registry().Manifest(t.Context(), repo, origin.ByDigest(img.Digest()))
		if err = errors.Join(err, oracletest.ReadBlob(t.Context(), serving.registry(), repo, img.Blobs[1].Digest)); err != nil {
			t.Errorf("image %d (%t): %v", i, acked[i], err)
		}
	}
	serving.stop()
	serving.saidNothingBad()
}
