//go:build nightly

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// revisited is an upload whose client comes back again and again.
type revisited struct {
	id      string
	content []byte // of the blob, when it is whole
	first   int    // bytes that are sent at first
	acked   int64
	last    time.Time // when bytes were acknowledged last
}

// abandoning is the story of a weir over a bucket with uploads that nobody comes back to.
type abandoning struct {
	*process
	expiry time.Duration
	reg    *oracletest.HTTP
	repo   origin.Repo
	server *s3test.Server
	bucket string
	kept   []*revisited
	late   atomic.Int64 // uploads that the machine was too slow to keep
	lost   atomic.Int64
}

// newAbandoning has a weir whose uploads expire after so long.
func newAbandoning(t *testing.T, expiry time.Duration) *abandoning {
	server := s3test.Start(t)
	name := server.Bucket(t)
	store := "{blobs: " + bucket(server, name, ", part_size: 5MiB, spool: '"+t.TempDir()+"'") + "}"
	p := newProcessOn(t, freeAddr(t), store, fmt.Sprintf("origin: {upload_expiry: %v, gc: {interval: 500ms, grace: 8s}}\n", expiry))
	return &abandoning{process: p, expiry: expiry, reg: p.registry(), repo: origintest.Repo(t, "team/app"), server: server, bucket: name}
}

// touch sends more bytes of a kept upload, if there is somebody who takes them.
func (a *abandoning) touch(ctx context.Context, k *revisited) error {
	in, err := a.reg.Upload(ctx, a.repo, k.id, "")
	switch {
	case errors.Is(err, origin.ErrUploadUnknown) && time.Since(k.last) > a.expiry/2:
		a.late.Add(1)
		return a.begin(ctx, k)
	case errors.Is(err, origin.ErrUploadUnknown):
		a.lost.Add(1)
		return fmt.Errorf("upload %s is gone, %v after bytes of it were acknowledged", k.id, time.Since(k.last))
	case err != nil:
		return nil // it was killed just now
	case in.Size() < k.acked || in.Size() > int64(len(k.content)):
		a.lost.Add(1)
		return fmt.Errorf("upload %s has %d bytes, and %d were acknowledged", k.id, in.Size(), k.acked)
	}
	const few = 10
	rest := k.content[in.Size():]
	_, err = in.Write(rest[:min(few, len(rest)-few)])
	size := in.Size()
	if err = errors.Join(err, in.Close()); err == nil {
		k.acked, k.last = size, time.Now()
	}
	return nil
}

// begin begins a kept upload (anew); later, where nobody takes it now.
func (a *abandoning) begin(ctx context.Context, k *revisited) error {
	for {
		in, err := a.reg.Upload(ctx, a.repo, "", digest.SHA256)
		if err == nil {
			_, err = in.Write(k.content[:k.first])
			k.id = in.ID()
			if err = errors.Join(err, in.Close()); err == nil {
				k.acked, k.last = int64(k.first), time.Now()
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// keep keeps every n-th upload from the i-th on alive, until ctx ends.
func (a *abandoning) keep(ctx context.Context, i, n int) error {
	for {
		for j := i; j < len(a.kept); j += n {
			if err := a.touch(context.WithoutCancel(ctx), a.kept[j]); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(a.expiry / 4 * time.Duration(n) / time.Duration(len(a.kept)+n)):
			}
		}
	}
}

// abandon begins an upload, if it can, sends up to three pieces, and at times leaves in the
// middle of one.
func (a *abandoning) abandon(ctx context.Context, rnd *rand.Rand, content []byte) (begun bool) {
	in, err := a.reg.Upload(ctx, a.repo, "", digest.SHA256)
	begun = err == nil
	for n := []int{0, 0, 0, 0, 1, 1, 1, 2, 2, 3}[rnd.IntN(10)]; err == nil && n > 0; n-- {
		if _, err = in.Write(content[:1+rnd.IntN(len(content)-1)]); err != nil {
			break
		}
		if rnd.IntN(4) == 0 {
			// As it is sent its client leaves: the upload is that of a context.
			left, leave := context.WithCancel(ctx)
			gone, resumed := a.reg.Upload(left, a.repo, in.ID(), "")
			if resumed == nil {
				_, _ = gone.Write(content)
				time.AfterFunc(time.Duration(rnd.IntN(20))*time.Millisecond, leave)
				_ = gone.Close() // broken off, or not
			}
			leave()
			break
		}
		if err = in.Close(); err == nil {
			in, err = a.reg.Upload(ctx, a.repo, in.ID(), "")
		}
	}
	return begun
}

// states gives how many uploads the bucket has a state of, and how many in parts.
func (a *abandoning) states() (states, inParts int) {
	a.t.Helper()
	dir := filepath.Join(a.server.Dir, a.bucket)
	open, err := filepath.Glob(filepath.Join(dir, ".sgwtmp", "multipart", "*", "*"))
	if err != nil {
		a.t.Fatal(err)
	}
	return len(a.server.Objects(a.t, a.bucket, "weir/ingest/")), len(open)
}

// comesTo waits until there are no more than most, or the time for that is over.
func (a *abandoning) comesTo(what string, most int, count func() int) {
	a.t.Helper()
	end := time.Now().Add(a.expiry + 5*time.Minute)
	eventually(a.t, what, func() bool {
		n := count()
		if n > most && time.Now().After(end) {
			a.t.Errorf("%s: %d, and not %d", what, n, most)
		}
		return n <= most || a.t.Failed()
	})
}

// 5,000 uploads are left at random parts, some in the middle of one, and weir is killed ten
// times; 200 others are kept alive all the time. Once they are old nothing is left of the
// former, in the bucket nor in parts; the latter are all taken (trust X-3).
func TestNightlyAbandoned(t *testing.T) {
	const rounds, workers = 10, 8
	seed := oracletest.Seed(t)
	rep := oracletest.NewReport(t, "bucket", seed)
	defer rep.Keep(t)
	a := newAbandoning(t, 15*time.Second+time.Duration(45*oracletest.Part(t)*float64(time.Second)))
	defer func() {
		rep.Lost = a.lost.Load()
		rep.More["kept"], rep.More["too_slow_to_keep"] = float64(len(a.kept)), float64(a.late.Load())
	}()
	requests := &deadline{next: a.client.Transport}
	a.client.Transport = requests
	a.start()
	for i := range oracletest.PartOf(t, 200) {
		k := &revisited{content: origintest.Bytes(seed+uint64(i), 6<<20), first: 100}
		if i%4 == 0 {
			k.first = 5<<20 + 100
		}
		a.kept = append(a.kept, k)
		if err := a.begin(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var keeping sync.WaitGroup
	keepers := min(4, len(a.kept))
	broken := make(chan struct{}, keepers)
	for i := range keepers {
		keeping.Go(func() {
			if err := a.keep(ctx, i, keepers); err != nil {
				t.Error(err)
				broken <- struct{}{}
			}
		})
	}
	content := origintest.Bytes(seed, 8<<20)
	rnd := rand.New(rand.NewPCG(seed, 1))
	each := max(1, oracletest.PartOf(t, 5000)/rounds)
	for round := range uint64(rounds) {
		killed, process := make(chan struct{}), a.cmd.Process
		requests.set(each+rnd.IntN(each), func() {
			_ = process.Kill()
			close(killed)
		})
		var left atomic.Int64
		var all sync.WaitGroup
		for w := range uint64(workers) {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, 100*round+10+w))
				for left.Load() < int64(each) && !t.Failed() {
					if a.abandon(t.Context(), rnd, content) {
						left.Add(1)
						continue
					}
					<-time.After(50 * time.Millisecond) // it was killed just now
				}
			})
		}
		select {
		case <-killed:
		case <-broken:
			all.Wait()
			t.FailNow()
		}
		a.kill()
		// What is in parts, and what no state speaks of, is old for who comes next.
		debris{roots: []string{filepath.Join(a.server.Dir, a.bucket, ".sgwtmp")}}.ages(t)
		a.start()
		all.Wait()
		rep.Operations += left.Load()
		rep.Cycles++
	}
	states, inParts := a.states()
	rep.More["states_left"], rep.More["left_in_parts"] = float64(states), float64(inParts)
	var partly int
	for _, k := range a.kept {
		if k.first >= 5<<20 {
			partly++
		}
	}
	a.comesTo("what was abandoned expires", len(a.kept), func() int { states, _ := a.states(); return states })
	a.stop()
	debris{roots: []string{filepath.Join(a.server.Dir, a.bucket, ".sgwtmp")}}.ages(t)
	a.start()
	a.comesTo("parts that nobody speaks of are swept", partly, func() int { _, inParts := a.states(); return inParts })
	cancel()
	keeping.Wait()
	for _, k := range a.kept {
		in, err := a.reg.Upload(t.Context(), a.repo, k.id, "")
		if err == nil {
			_, err = in.Write(k.content[in.Size():])
		}
		if err == nil {
			_, err = in.Commit(t.Context(), digest.FromBytes(k.content))
		}
		if err != nil {
			a.lost.Add(1)
			t.Errorf("upload %s, which was kept: %v", k.id, err)
		}
	}
	if states, inParts := a.states(); states+inParts > 0 {
		t.Errorf("%d states are left, %d uploads in parts", states, inParts)
	}
	a.stop()
	a.saidNothingBad()
}
