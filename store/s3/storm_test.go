package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// A bucket in a bad hour, which yet answers each request that is repeated often enough: of
// what it acknowledged nothing is lost, and nothing fails (trust X-2).
func TestStorm(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server, smallParts)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const repeated = 4 // as often as the store repeats a request
	// A bucket may be silent for as long as that; the real limit is longer than a test.
	r.StallAfter(time.Second)
	const silences = 8
	small, silent := 0, 0
	row := map[string]int{}
	var rows sync.Mutex
	// Of a request no more than that fail in a row.
	bounded := func(storm func(req *http.Request, row int) s3test.Fault) func(*http.Request) s3test.Fault {
		return func(req *http.Request) s3test.Fault {
			rows.Lock()
			defer rows.Unlock()
			// What a write sends tells it from another's.
			is, fault := req.Method+" "+req.URL.String()+" "+req.Header.Get("X-Amz-Content-Sha256"), s3test.None
			if row[is] < repeated {
				fault = storm(req, row[is])
			}
			if row[is]++; fault == s3test.None {
				row[is] = 0
			}
			return fault
		}
	}
	r.faults.Set(bounded(func(req *http.Request, row int) s3test.Fault {
		complete := req.Method == http.MethodPost && req.URL.Query().Has("uploadId")
		conditional := req.Header.Get("If-Match") != "" || req.Header.Get("If-None-Match") != ""
		// What is large has longer.
		if !complete && req.ContentLength < 64<<10 {
			if small++; small%50 == 0 && silent < silences {
				silent++
				return s3test.Hang
			}
		}
		switch n := random.IntN(100); {
		case n < 4:
			return s3test.Answer(500, "InternalError")
		case n < 7:
			return s3test.Answer(503, "ServiceUnavailable")
		case n < 10:
			return s3test.Answer(503, "SlowDown")
		case n < 12:
			return s3test.Reset
		case n < 14:
			return s3test.Lost
		case n < 24 && conditional && row == 0:
			// And nothing is there, or what was. Had an answer been lost before, nobody could
			// tell what has come of that.
			return s3test.Answer(412, "PreconditionFailed")
		case n < 34 && conditional:
			return s3test.Answer(409, "ConditionalRequestConflict")
		case n < 34 && complete:
			return s3test.OKError("InternalError")
		case n < 20 && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/data/"):
			return s3test.Cut(1000)
		}
		return s3test.None
	}))
	const workers, rounds = 4, 10
	var mu sync.Mutex
	blobs, records := map[digest.Digest][]byte{}, map[string]string{}
	var failed, done int
	count := func(err error) bool {
		mu.Lock()
		defer mu.Unlock()
		if done++; err != nil {
			failed++
			t.Logf("failed: %v", err)
		}
		return err == nil
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			ctx := context.Background()
			for i := range rounds {
				data := fmt.Appendf(nil, "%d %d ", w, i)
				if i%10 == 0 {
					data = bytes.Repeat(data, (11<<20)/len(data))
				}
				// One that is its own, and one that everybody pushes.
				for _, data := range [][]byte{data, fmt.Appendf(nil, "all %d", i)} {
					d, err := push(t, r.Blobs(), data)
					if !count(err) {
						continue
					}
					mu.Lock()
					blobs[d] = data
					mu.Unlock()
					got, err := pull(t, r.Blobs(), d)
					if count(err) && !bytes.Equal(got, data) {
						t.Errorf("%s: read %d bytes of %d", d, len(got), len(data))
					}
				}
				key := fmt.Sprintf("records/of%d", w)
				_, err := r.Records().Put(ctx, key, data[:3], store.Always())
				if count(err) {
					mu.Lock()
					records[key] = string(data[:3])
					mu.Unlock()
				} else {
					mu.Lock()
					delete(records, key) // the old one, or the new one
					mu.Unlock()
				}
				// Everybody adds to one record.
				for {
					rec, err := r.Records().Get(ctx, "shared")
					if_ := store.Version(rec.Version)
					if errors.Is(err, store.ErrNotFound) {
						err, if_ = nil, store.Absent()
					}
					if err == nil {
						_, err = r.Records().Put(ctx, "shared", fmt.Appendf(rec.Data, "[%d.%d]", w, i), if_)
					}
					if errors.Is(err, store.ErrConflict) {
						continue
					}
					// What came of it is not always known, with so many who write.
					if err == nil {
						mu.Lock()
						records[fmt.Sprintf("shared [%d.%d]", w, i)] = ""
						mu.Unlock()
					}
					break
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d of %d failed, %d requests were not answered", failed, done, silent)
	if silent < silences {
		t.Errorf("%d requests were not answered, want %d", silent, silences)
	}
	if failed > 0 {
		t.Error("although each request went well in the end")
	}
	for d, data := range blobs {
		if got, err := pull(t, r.direct.Blobs(), d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("acknowledged, and lost: %s: %d bytes, %v", d, len(got), err)
		}
	}
	shared, err := r.direct.Records().Get(t.Context(), "shared")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range records {
		if _, addition, ok := strings.Cut(key, "shared "); ok {
			if n := strings.Count(string(shared.Data), addition); n != 1 {
				t.Errorf("%s is there %d times", addition, n)
			}
			continue
		}
		if got, err := r.direct.Records().Get(t.Context(), key); err != nil || string(got.Data) != value {
			t.Errorf("acknowledged, and lost: %s is %q, %v; want %q", key, got.Data, err, value)
		}
	}
}

// Memory does not grow with what is uploaded, nor by parts that wait.
func TestMemory(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, options(t, server))
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	t.Run("one of 200 MiB", func(t *testing.T) {
		before := heap()
		in, err := s.Blobs().Ingest(t.Context(), "", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Cancel()
		piece := bytes.Repeat([]byte("0123456789abcdef"), (1<<20)/16)
		hash := digest.SHA256.Digester()
		var most int64
		for i := range 200 {
			if _, err := in.Write(piece); err != nil {
				t.Fatal(err)
			}
			hash.Hash().Write(piece)
			if i%20 == 19 {
				most = max(most, heap()-before)
			}
		}
		if _, err := in.Commit(t.Context(), hash.Digest()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d KiB more heap", most>>10)
		if most > 8<<20 {
			t.Errorf("%d bytes more heap: parts are in memory", most)
		}
	})
	t.Run("300 at once", func(t *testing.T) {
		const uploads, size = 300, 512 << 10
		before := heap()
		data := bytes.Repeat([]byte{'x'}, size)
		open := make([]store.Ingest, uploads)
		for i := range open {
			var err error
			if open[i], err = s.Blobs().Ingest(t.Context(), "", digest.SHA256); err != nil {
				t.Fatal(err)
			}
			if _, err := open[i].Write(data); err != nil {
				t.Fatal(err)
			}
		}
		each := (heap() - before) / uploads
		t.Logf("%d bytes each", each)
		if each > 64<<10 {
			t.Errorf("%d bytes of heap for each upload", each)
		}
		for _, in := range open {
			if err := in.Cancel(); err != nil {
				t.Error(err)
			}
		}
	})
}
