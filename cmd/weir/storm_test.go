package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// A listing in a storm may be that old; whoever collects garbage counts with a tenth of his
// grace, by a clock that tells whole seconds.
const (
	stormLag        = 2 * time.Second
	collectingStorm = "origin: {gc: {interval: 1s, grace: 1m}}\n"
)

// storm is what happens to the requests of a bucket, each time anew: of none it is said that
// it goes well in the end.
type storm struct {
	random *rand.Rand
	hangs  int // that are left: requests which nobody answers
	small  int
	doubt  map[string]bool // requests that were not answered, or by an error
}

// fault has something happen to a request. It is not refused for no reason when an answer to
// it was lost before: nobody could tell then what has come of that.
func (s *storm) fault(r *http.Request) s3test.Fault {
	// What a write sends tells it from another's.
	is := r.Method + " " + r.URL.String() + " " + r.Header.Get("X-Amz-Content-Sha256")
	fault := s.draw(r)
	if fault == noReason && s.doubt[is] {
		fault = s3test.None
	}
	s.doubt[is] = fault != s3test.None && fault != noReason
	return fault
}

// noReason refuses a condition that holds.
var noReason = s3test.Answer(http.StatusPreconditionFailed, "PreconditionFailed")

func (s *storm) draw(r *http.Request) s3test.Fault {
	query := r.URL.Query()
	complete := r.Method == http.MethodPost && query.Has("uploadId")
	conditional := r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != ""
	if s.hangs > 0 && !complete && r.ContentLength < 64<<10 {
		if s.small++; s.small%200 == 0 {
			s.hangs--
			return s3test.Hang
		}
	}
	switch n := s.random.IntN(100); {
	case n < 4:
		return s3test.Answer(http.StatusInternalServerError, "InternalError")
	case n < 7:
		return s3test.Answer(http.StatusServiceUnavailable, "ServiceUnavailable")
	case n < 10:
		return s3test.Answer(http.StatusServiceUnavailable, "SlowDown")
	case n < 12:
		return s3test.Reset
	case n < 13:
		return s3test.Lost
	case n < 16 && conditional:
		return noReason
	case n < 19 && conditional:
		return s3test.Answer(http.StatusConflict, "ConditionalRequestConflict")
	case n < 19 && complete:
		return s3test.OKError("InternalError")
	case n < 50 && query.Has("list-type"):
		return s3test.Lag(stormLag)
	}
	return s3test.None
}

// stormy are two replicas over a bucket in a storm.
type stormy struct {
	*judged
	pushes, failed atomic.Int64
	collected      int // times
}

// push pushes an image as clients do, who send what is not there, and all of it once more if
// that fails.
func (s *stormy) push(at int, tag string, tree origintest.Tree) {
	reg, repo, ledger := s.at(s.p.each[at], at), s.worlds[at].Repos[0], s.ledgers[at]
	once := func() error {
		ctx := s.t.Context()
		for _, b := range tree.Blobs {
			if _, err := reg.Stat(ctx, repo, b.Digest); err == nil {
				continue
			}
			end := ledger.Begin(oracletest.Op{Kind: oracletest.PushBlob, Repo: repo.String(), Digest: b.Digest})
			err := uploaded(ctx, reg, repo, b)
			if end(err); err != nil {
				return fmt.Errorf("blob: %w", err)
			}
		}
		end := ledger.Begin(oracletest.PushOf(repo, tree, tag))
		_, err := reg.Push(ctx, repo, tree.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(s.t, tag)}})
		end(err)
		return err
	}
	s.pushes.Add(1)
	var errs [2]error
	for i := range errs {
		if errs[i] = once(); errs[i] == nil {
			return
		}
		if oracletest.OutcomeOf(errs[i]) == oracletest.Refused {
			s.t.Errorf("%s: refused, and nothing is wrong with it: %v", tag, errs[i])
		}
	}
	s.failed.Add(1)
	s.t.Logf("%s: %v", tag, errors.Join(errs[:]...))
}

// uploaded uploads a blob in one piece.
func uploaded(ctx context.Context, w origin.Writer, repo origin.Repo, b origintest.Blob) error {
	in, err := w.Upload(ctx, repo, "", b.Digest.Algorithm())
	if err != nil {
		return err
	}
	if _, err := in.Write(b.Bytes); err != nil {
		return err
	}
	_, err = in.Commit(ctx, b.Digest)
	return err
}

// TestStorm: 40 images are pushed at two processes over one bucket that is in a storm, where
// workers push, mount, tag, delete and pull, too, and garbage is collected. No push fails that
// is tried once more; and what was acknowledged is there when the storm is over (trust X-2).
func TestStorm(t *testing.T) {
	t.Parallel()
	if s := inStorm(t, 10, 0); s.failed.Load() > 0 {
		t.Error("a push failed twice")
	}
}

// inStorm has four clients push so many images each. So many requests to the bucket hang.
func inStorm(t *testing.T, each, hangs int) *stormy {
	upstream, server := remotetest.New(t), s3test.Start(t)
	faults := s3test.NewFaults(t, server)
	p := newPairThrough(t, server, faults.URL, ", part_size: 5MiB", upstream, collectingStorm)
	s := &stormy{judged: newJudged(t, p, true)}
	random := rand.New(rand.NewPCG(s.seed, 77))
	faults.Set((&storm{random: random, hangs: hangs, doubt: map[string]bool{}}).fault)
	var pushing, working sync.WaitGroup
	over := make(chan struct{})
	for i := range p.each {
		working.Go(func() {
			for s.step(i) {
				select {
				case <-over:
					return
				default:
				}
			}
		})
		for client := range 2 {
			pushing.Go(func() {
				for n := range each {
					own := fmt.Sprintf("%d.%d.%d ", i, client, n)
					layer := []byte(own)
					if n == client {
						layer = bytes.Repeat(layer, (11<<20)/len(layer)) // more than one part
					}
					s.push(i, strings.TrimSpace("image"+own), origintest.Image([]byte("{\"n\":\""+own+"\"}"), layer, []byte("of all")))
				}
			})
		}
	}
	pushing.Wait()
	close(over)
	working.Wait()
	for _, each := range p.each {
		each.stop()
		each.saidNothingBad()
	}
	direct := newProcessOn(t, freeAddr(t), "{blobs: "+bucket(server, p.bucket, ", spool: '"+t.TempDir()+"'")+"}", hub(upstream, ""))
	s.end(direct)
	direct.stop()
	direct.saidNothingBad()
	s.collected = p.each[0].collections() + p.each[1].collections()
	t.Logf("%d of %d pushes failed; garbage was collected %d times", s.failed.Load(), s.pushes.Load(), s.collected)
	if s.failed.Load() > 0 {
		for _, each := range p.each {
			t.Logf("%s", each.lines(`"level":"ERROR"`))
		}
	}
	return s
}
